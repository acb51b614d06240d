"""Databases of tools: what is read from them, how they are listed, and the cost of a change."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from sessiond import zstd
from sessiond.database import open_database
from sessiond.sources.base import UserDirs
from sessiond.sources.crush import Crush
from sessiond.sources.opencode import OpenCode
from support.capture import lab
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness
from support.sample_tree import NAMES, SAMPLES, build, open_store

STORES = {
    "opencode/1.18-database": ".local/share/opencode/opencode.db",
    "opencode/1.2-database": ".local/share/opencode/opencode-dev.db",
    "kilo-code/7.7-database": ".local/share/kilo/kilo.db",
    "goose/schema-15": ".local/share/goose/sessions/sessions.db",
    "goose/1.10-imported": ".local/share/goose/sessions/sessions.db",
    "crush/0.90": "work/loom/.crush/crush.db",
}
TOKEN = b"planted-token-that-is-nobodys"


def held(harness: DaemonHarness) -> Iterator[bytes]:
    """Yield the content of the spool's files, with segments unpacked."""
    for path in Path(harness.state).rglob("*"):
        if path.is_file():
            yield path.read_bytes()
    with closing(open_store(next(Path(harness.state).rglob("*.db")))) as spool:
        for (data,) in spool.execute("SELECT data FROM segment WHERE data IS NOT NULL"):
            yield b"".join(zstd.decompress_stream([data], 1 << 30))


@pytest.mark.parametrize("name", ["opencode/1.18-database", "kilo-code/7.7-database"])
def test_a_token_beside_the_sessions_never_reaches_the_spool(name: str, tmp_path: Path) -> None:
    """The tables account, credential and session_share are never read."""
    with daemon_harness(tmp_path) as harness:
        build(name, harness.home)
        assert TOKEN in Path(harness.home, STORES[name]).read_bytes()
        harness.scan()
        found = list(held(harness))
        assert any(b"Woven" in data for data in found)
        assert not any(TOKEN in data for data in found)


@pytest.mark.parametrize("name", [name for name in STORES if not name.startswith("crush")])
def test_a_deletion_and_an_edit_in_place_are_seen(name: str, tmp_path: Path) -> None:
    """The number of sessions stays, and each change is one new generation of one session."""
    goose = name.startswith("goose")
    with daemon_harness(tmp_path) as harness:
        path = os.path.join(build(name, harness.home), STORES[name])
        harness.scan()
        counts = {state.id: state.record.message_count for state in harness.spool.catalog.sessions() if state.record}
        tool = open_store(path)
        tool.execute("PRAGMA foreign_keys = ON")
        if goose:
            tool.execute(
                "DELETE FROM messages WHERE id = (SELECT max(id) FROM messages WHERE content_json LIKE '%Fast%')"
            )
        else:
            tool.execute(
                "DELETE FROM message WHERE id = (SELECT max(message_id) FROM part WHERE data LIKE '%Faster.%')"
            )
            events = tool.execute("SELECT 1 FROM sqlite_master WHERE name = 'event_sequence'").fetchone()
            tool.execute("UPDATE part SET data = replace(data, 'look', 'see'), time_updated = time_updated + 1")
            if events:
                tool.execute("UPDATE event_sequence SET seq = seq + 1")
        tool.close()
        harness.scan()
        after = {state.id: state.record.message_count for state in harness.spool.catalog.sessions() if state.record}
        assert sum(counts.values()) - sum(after.values()) == 1 or name == "goose/1.10-imported"
        seen = [data for data in held(harness) if b"Let me see" in data]
        assert seen or goose


class Asking:
    """A database that records its queries."""

    def __init__(self, path: str, marks: dict[str, str], *, thorough: bool = False) -> None:
        self.database = open_database(path, marks, thorough=thorough)
        self.marks, self.thorough, self.has = marks, thorough, self.database.has
        self.asked: list[str] = []

    def rows(self, sql: str, *parameters: object) -> Iterator[tuple[object, ...]]:
        self.asked.append(sql)
        return self.database.rows(sql, *parameters)

    def plan(self, sql: str, *parameters: object) -> list[str]:
        return [row[3] for row in self.database.rows(f"EXPLAIN QUERY PLAN {sql}", *parameters)]


def test_opencode_is_listed_without_a_look_at_its_rows(tmp_path: Path) -> None:
    """Events show which session changed: no row or index of messages and parts is read.

    Of the one that changed rows are counted by an index. There are half a million of them.
    """
    path = os.path.join(build("opencode/1.18-database", tmp_path), STORES["opencode/1.18-database"])
    first = Asking(path, {}, thorough=True)
    marks = dict(OpenCode().sessions(first))
    assert len(marks) == 4
    tool = open_store(path)
    tool.execute("UPDATE event_sequence SET seq = seq + 1 WHERE aggregate_id = ?", (min(marks),))
    tool.close()
    second = Asking(path, marks)
    found = dict(OpenCode().sessions(second))
    assert {name for name in marks if found[name] != marks[name]} == {min(marks)}
    heads, rest = second.asked
    plan = second.plan(heads)
    assert [step for step in plan if step.startswith("SCAN")] == ["SCAN session"], plan
    assert any(step.startswith("SEARCH event_sequence USING INDEX") for step in plan), plan
    assert {"message", "part"}.isdisjoint(word for step in plan for word in step.split())
    for table in ("message", "part"):
        steps = second.plan(rest, min(marks))
        assert any(step.startswith(f"SEARCH {table} USING COVERING INDEX") for step in steps), steps
    first.database.close()
    second.database.close()


OLD = {
    "opencode/1.2-database": (
        "session",
        "time_updated",
        "time_updated + 172800000",
        "UPDATE part SET data = replace(data, 'look', 'see'), time_updated = time_updated + 1",
    ),
    "goose/schema-15": (
        "sessions",
        "updated_at",
        "datetime(updated_at, '+2 days')",
        """UPDATE messages SET metadata_json = '{"userVisible":false,"agentVisible":true,"a":1}'""",
    ),
    "crush/0.90": (
        "sessions",
        "updated_at",
        "updated_at + 172800",
        "UPDATE messages SET parts = replace(parts, 'Done.', 'Done!!')",
    ),
}
"""Of each tool: its table and column of times, a time two days later, and an edit of rows that leaves it as it is."""


@pytest.mark.parametrize("name", OLD)
def test_an_edit_that_moves_no_watermark_is_found_within_a_day(name: str, tmp_path: Path) -> None:
    """Rows of old sessions are not read for each change, but all are read once a day."""
    path = os.path.join(build(name, tmp_path / "home"), STORES[name])
    table, column, later, edit = OLD[name]
    with daemon_harness(tmp_path) as harness:
        tool = open_store(path)
        tool.execute(f"CREATE TEMP TABLE newer AS SELECT * FROM {table} LIMIT 1")
        tool.execute(f"UPDATE newer SET id = 'zzz', {column} = {later}")
        tool.execute(f"INSERT INTO {table} SELECT * FROM newer")
        harness.scan()
        before = read_of(harness)
        tool.execute(edit)
        tool.close()
        harness.scan()
        assert read_of(harness) == before
        harness.now_ms += 86_400_000
        os.utime(path, ns=(1, 1))
        harness.scan()
        assert read_of(harness) != before


def test_a_look_at_every_row_under_a_clock_ahead_is_no_last_one(tmp_path: Path) -> None:
    """The clock was years ahead at the last full read: edits are still found within a day of the right time."""
    name = "crush/0.90"
    path = os.path.join(build(name, tmp_path / "home"), STORES[name])
    table, column, later, edit = OLD[name]
    with daemon_harness(tmp_path) as harness:
        tool = open_store(path)
        tool.execute(f"CREATE TEMP TABLE newer AS SELECT * FROM {table} LIMIT 1")
        tool.execute(f"UPDATE newer SET id = 'zzz', {column} = {later}")
        tool.execute(f"INSERT INTO {table} SELECT * FROM newer")
        now_ms = harness.now_ms
        harness.now_ms += 3650 * 86_400_000
        harness.scan()
        before = read_of(harness)
        harness.now_ms = now_ms
        tool.execute(edit)
        tool.close()
        harness.scan()
        assert read_of(harness) != before


def read_of(harness: DaemonHarness) -> list[tuple[int, int, int]]:
    """Return how far each stream was read, and how often it was rewritten."""
    states = harness.spool.catalog.sessions()
    return sorted((s.id, s.generation, s.folded) for state in states for s in harness.spool.catalog.streams(state.id))


ODD = (None, 5, 2**62, 1.5, "", "x", "[]", '{"id":5,"messages":[5,null]}', "null", b"\xff\xfe", b"", "9" * 400, "1e999")
"""Values that SQLite allows in any column, whatever its type."""


@pytest.mark.parametrize("name", [name for name in NAMES if any((SAMPLES / name).rglob("*.sql"))])
def test_odd_cells_harm_no_other_file(name: str, tmp_path: Path) -> None:
    """Rule 9: a session that can't be read is skipped, and other files are captured all the same."""
    chosen = Random(name)
    build(name, tmp_path / "home")
    stores = [path for path in (tmp_path / "home").rglob("*") if path.is_file() and path.read_bytes()[:6] == b"SQLite"]
    with daemon_harness(tmp_path) as harness:
        for turn in range(8):
            for store in stores:
                tool = open_store(str(store))
                for (table,) in tool.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                    for column in [row[1] for row in tool.execute(f'PRAGMA table_info("{table}")')]:
                        if chosen.random() < 0.25:
                            with suppress(sqlite3.Error):  # a constraint does not take it
                                tool.execute(
                                    f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = (SELECT max(rowid) - ?'
                                    f' FROM "{table}")',
                                    (chosen.choice(ODD), chosen.randrange(3)),
                                )
                tool.close()
            harness.write(CLAUDE, claude(SESSION, turn))
            harness.now_ms += 86_400_000
            harness.scan()
        found = harness.spool.catalog.session(UUID(SESSION))
        assert found and found.record and found.record.message_count == 8


def test_a_new_title_is_no_rewrite(tmp_path: Path) -> None:
    """A title is metadata of the session and stored beside the records, none of which is sent again."""
    with daemon_harness(tmp_path) as harness:
        path = os.path.join(build("opencode/1.18-database", harness.home), STORES["opencode/1.18-database"])
        harness.scan()
        before = read_of(harness)
        tool = open_store(path)
        tool.execute("UPDATE session SET title = 'Weave it anew', time_updated = time_updated + 1")
        tool.close()
        harness.scan()
        assert read_of(harness) == before
        assert {state.title for state in harness.spool.catalog.sessions()} == {"Weave it anew"}


def test_what_is_appended_is_all_that_is_read_anew(tmp_path: Path) -> None:
    """One more message is an append to its stream: there is no new generation, and no other record is folded again."""
    with daemon_harness(tmp_path) as harness:
        path = os.path.join(build("opencode/1.18-database", harness.home), STORES["opencode/1.18-database"])
        harness.scan()
        before = {row[0]: row[1:] for row in read_of(harness)}
        tool = open_store(path)
        (session,) = tool.execute("SELECT min(id) FROM session").fetchone()
        at = 1_775_099_999_000
        data = json.dumps({"role": "user", "time": {"created": at}})
        tool.execute("INSERT INTO message VALUES ('msg_zzz', ?, ?, ?, ?)", (session, at, at, data))
        tool.execute("UPDATE event_sequence SET seq = seq + 1 WHERE aggregate_id = ?", (session,))
        tool.close()
        harness.scan()
        after = {row[0]: row[1:] for row in read_of(harness)}
        ((generation, length), (then, more)) = next((before[n], after[n]) for n in before if before[n] != after[n])
        assert (then, more > length) == (generation, True)


def test_a_second_update_within_a_second_is_seen(tmp_path: Path) -> None:
    """Crush's times have seconds; the length of the text distinguishes two updates of one second."""
    path = os.path.join(build("crush/0.90", tmp_path / "home"), STORES["crush/0.90"])
    with daemon_harness(tmp_path) as harness:
        harness.scan()
        tool = open_store(path)
        tool.execute("UPDATE messages SET parts = replace(parts, 'Done.', 'Done!!') WHERE id = 'm4'")
        tool.close()
        harness.scan()
        assert any(b"Done!!" in data for data in held(harness))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"projects":[{"path":"x"}]}', b'{"projects":[]}'])
def test_a_damaged_list_of_projects_names_none(content: bytes, tmp_path: Path) -> None:
    """Crush rewrites the list, and a half-written one is ignored."""
    listed = tmp_path / ".local" / "share" / "crush" / "projects.json"
    listed.parent.mkdir(parents=True)
    listed.write_bytes(content)
    assert len(list(Crush().roots(UserDirs(home=str(tmp_path), environ={}, platform="linux")))) == 1


KILLED = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("CREATE TABLE IF NOT EXISTS more (x)")
database.execute("INSERT INTO more VALUES (1)")
os._exit(9)
"""
"""A tool that dies: its -wal stays, and no process has it open."""


@pytest.mark.parametrize("backfill", ["all", "none"])
@pytest.mark.parametrize("how", ["closed", "open", "killed", "killed without -shm"])
def test_a_look_at_a_database_is_no_change_of_it(how: str, backfill: str, tmp_path: Path) -> None:
    """SQLite makes files beside a store in WAL mode even to read it. If they woke the daemon, it would never rest."""
    home = str(tmp_path / "home")
    path = os.path.join(build("goose/schema-15", home), STORES["goose/schema-15"])
    tool = sqlite3.connect(path, isolation_level=None)
    tool.execute("PRAGMA journal_mode = WAL")
    tool.execute("CREATE TABLE more (x)")
    if how != "open":
        tool.close()
    if how.startswith("killed"):
        subprocess.run([sys.executable, "-c", KILLED, path], check=False)
        assert os.path.getsize(f"{path}-wal")
    if how.endswith("-shm"):
        os.unlink(f"{path}-shm")
    for name in (path, f"{path}-wal"):
        if os.path.exists(name):
            os.utime(name, (time.time() - 9 * 86_400,) * 2)
    with lab(tmp_path, {"backfill": backfill}) as made:
        made.capture_loop.add_batch(made.watcher.wait(5))
        while made.queue.backlog or made.queue.has_live:
            made.turn()
        assert len(made.captured()) == (0 if backfill == "none" else 2)
        woken = made.watcher.wait(1.0).paths
        assert [name for name in woken if made.capture_loop.scanner.locate(name)] == []
        made.look()  # SQLite sets the owner of a -wal again when root reads it: an event without a change
        made.scan()
        assert not made.queue.backlog
        assert not made.queue.has_live
    tool.close()
