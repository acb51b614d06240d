"""Facts about Cursor: secrets beside chats, and databases of gigabytes in which one chat changed."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.database import Database, open_database
from sessiond.sources.base import Kind, Unit
from sessiond.sources.cursor import Cursor
from support.harness import daemon_harness
from support.sample_tree import built

SOURCE = Cursor()
ID = "00000b01-0000-4000-8000-000000000b01"
TOKEN = b"FAKE-SECRET-must-never-leave"


@pytest.mark.parametrize("name", ["cursor/ide-3", "cursor/ide-4"])
def test_a_token_in_the_database_never_reaches_the_spool(name: str, tmp_path: Path) -> None:
    """The table with the chats also has the user's tokens; no file of sessiond may ever contain one."""
    stores = list(Path(built(name)).rglob("state.vscdb"))
    assert any(TOKEN in store.read_bytes() for store in stores)
    with daemon_harness(tmp_path) as harness:
        os.rmdir(harness.home)
        os.symlink(built(name), harness.home)
        harness.settle()
        assert harness.held_sessions()
        for session in harness.spool.catalog.sessions():
            for stream in harness.spool.catalog.streams(session.id):
                assert TOKEN not in harness.held(str(session.uuid), stream.name)
    for path in tmp_path.rglob("*"):
        if path.is_file() and "home" not in path.parts:
            assert TOKEN not in path.read_bytes()


def test_paths() -> None:
    """The paths of databases are recognised; other files of the same folders are not sessions."""
    assert SOURCE.unit("state.vscdb-wal") == SOURCE.unit("state.vscdb") == Unit(kind=Kind.DATABASE, path="state.vscdb")
    store = SOURCE.unit(f"ab12/{ID}/store.db-wal")
    assert store is not None
    assert (store.path, store.native_id) == (f"ab12/{ID}/store.db", ID)
    nested, flat = (SOURCE.unit(f"-home/agent-transcripts/{name}.jsonl") for name in (f"{ID}/{ID}", ID))
    assert nested == flat == Unit(native_id=ID, stream="transcript", timeless=True)
    subagent = SOURCE.unit(f"-home/agent-transcripts/{ID}/subagents/{ID}.jsonl")
    assert subagent == Unit(native_id=ID, stream=f"subagent-{ID}", thread=False, timeless=True)
    for other in (
        "state.vscdb-shm",
        "state.vscdb.backup",
        "storage.json",
        f"-home/agent-transcripts/subagents/{ID}.jsonl",
    ):
        assert SOURCE.unit(other) is None


# Cost


class Spy(Database):
    """A database that records the query plans of its queries."""

    def __init__(self, path: str, marks: dict[str, str]) -> None:
        super().__init__(path, marks, thorough=not marks)
        self.plans: list[str] = []
        self.steps = 0

    def rows(self, sql: str, *parameters: object) -> Iterator[tuple[object, ...]]:
        if sql.startswith("SELECT"):
            self.plans += [row[3] for row in super().rows(f"EXPLAIN QUERY PLAN {sql}", *parameters)]
        self._connection.set_progress_handler(self._count, 1)
        yield from super().rows(sql, *parameters)

    def _count(self) -> int:
        self.steps += 1
        return 0


def large(path: Path, composers: int, bubbles: int) -> sqlite3.Connection:
    """Make a database of many chats, and of other rows in the same table."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("CREATE TABLE cursorDiskKV (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB)")
    database.execute("CREATE TABLE ItemTable (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB)")
    database.execute("BEGIN")
    for number in range(composers):
        for bubble in range(bubbles):
            say(database, f"c{number}", f"b{bubble}", "x" * 200)
        put(database, f"composerData:c{number}", {"composerId": f"c{number}", "createdAt": 1_780_000_000_000})
        put(database, f"agentKv:blob:{number}", "y" * 1000)
    database.execute("COMMIT")
    return database


def put(database: sqlite3.Connection, key: str, value: object) -> None:
    database.execute("INSERT INTO cursorDiskKV VALUES (?, ?)", (key, json.dumps(value)))


def say(database: sqlite3.Connection, composer: str, bubble: str, text: str) -> None:
    put(database, f"bubbleId:{composer}:{bubble}", {"bubbleId": bubble, "type": 1, "text": text})


def test_one_changed_chat_costs_no_scan(tmp_path: Path) -> None:
    """Every query uses an index or the rowid, and the work does not grow with unchanged chats."""
    steps = {}
    for composers in (20, 100):
        path = tmp_path / f"{composers}.vscdb"
        tool = large(path, composers, 50)
        first = Spy(str(path), {})
        marks = dict(SOURCE.sessions(first))
        assert len(marks) == composers
        say(tool, "c3", "b7", "changed in the middle")
        again = Spy(str(path), marks)
        changed = {name for name, mark in SOURCE.sessions(again) if marks[name] != mark}
        assert changed == {"c3"}
        for plan in first.plans + again.plans:
            assert "SCAN" not in plan or plan.startswith("SCAN CONSTANT"), plan
        steps[composers] = again.steps
        first.close()
        again.close()
        tool.close()
    # 80 chats more: their keys are listed, their 4,000 bubbles are not looked at.
    assert steps[100] - steps[20] < 80 * 20


def test_every_kind_of_change_is_seen(tmp_path: Path) -> None:
    """A chat is added, rewritten, changed in place or deleted, and the database is vacuumed."""
    path = tmp_path / "state.vscdb"
    tool = large(path, 3, 4)
    marks: dict[str, str] = {}

    def look() -> set[str]:
        database = open_database(str(path), dict(marks), thorough=False)
        now = dict(SOURCE.sessions(database))
        database.close()
        changed = {name for name in now.keys() | marks.keys() if now.get(name) != marks.get(name)}
        marks.clear()
        marks.update(now)
        return changed

    assert look() == {"c0", "c1", "c2"}
    assert look() == set()
    say(tool, "c0", "b9", "added")
    assert look() == {"c0"}
    say(tool, "c1", "b0", "anew")
    assert look() == {"c1"}
    tool.execute("UPDATE cursorDiskKV SET value = ? WHERE key = 'bubbleId:c2:b2'", (json.dumps({"bubbleId": "b2"}),))
    assert look() == {"c2"}
    tool.execute("DELETE FROM cursorDiskKV WHERE key = 'bubbleId:c0:b0'")
    assert look() == {"c0"}
    tool.execute("UPDATE cursorDiskKV SET value = NULL WHERE key = 'composerData:c1'")
    assert look() == {"c1"}
    tool.execute("VACUUM")
    look()
    say(tool, "c2", "b0", "after")
    assert look() == {"c2"}
    tool.close()


def test_a_malformed_bubble_harms_no_other(tmp_path: Path) -> None:
    """Malformed values occur in practice. The value is kept as it is, and the chat around it is read."""
    path = tmp_path / "state.vscdb"
    tool = large(path, 1, 2)
    tool.execute("INSERT INTO cursorDiskKV VALUES ('bubbleId:c0:b9', ?)", ('{"type":2,"text":',))
    database = open_database(str(path))
    projection, *_ = SOURCE.projections(database, "c0")
    records = [bytes(record) for record in projection.records]
    assert len(records) == 4
    assert b'{"type":2,"text":' in records
    database.close()
    tool.close()
