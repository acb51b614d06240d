"""Databases of tools: what is read of them, how they are listed, and what a change costs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from household import Household, household
from sample_tree import build, open_store
from sessiond import zstd
from sessiond.reader import open_database
from sessiond.sources.base import Places
from sessiond.sources.crush import Crush
from sessiond.sources.opencode import MARK, OpenCode

STORES = {
    "opencode/1.18-database": ".local/share/opencode/opencode.db",
    "opencode/1.2-database": ".local/share/opencode/opencode-dev.db",
    "kilo-code/7.7-database": ".local/share/kilo/kilo.db",
    "goose/schema-15": ".local/share/goose/sessions/sessions.db",
    "goose/1.10-imported": ".local/share/goose/sessions/sessions.db",
}
TOKEN = b"planted-token-that-is-nobodys"


def held(house: Household) -> Iterator[bytes]:
    """Yield all that the spool's files hold, its segments unpacked as well."""
    for path in Path(house.state).rglob("*"):
        if path.is_file():
            yield path.read_bytes()
    for (data,) in open_store(next(Path(house.state).rglob("*.db"))).execute(
        "SELECT data FROM segment WHERE data IS NOT NULL"
    ):
        yield b"".join(zstd.decompress_stream([data], 1 << 30))


@pytest.mark.parametrize("name", ["opencode/1.18-database", "kilo-code/7.7-database"])
def test_a_token_beside_the_sessions_never_reaches_the_spool(name: str, tmp_path: Path) -> None:
    """account, credential and session_share are never looked at (formats.md 1.8)."""
    with household(tmp_path) as house:
        build(name, house.home)
        assert TOKEN in Path(house.home, STORES[name]).read_bytes()
        house.scan()
        found = list(held(house))
        assert any(b"Woven" in data for data in found)
        assert not any(TOKEN in data for data in found)


@pytest.mark.parametrize("name", STORES)
def test_a_deletion_and_an_edit_in_place_are_seen(name: str, tmp_path: Path) -> None:
    """Neither moves the count of sessions; each is one new generation of one session."""
    goose = name.startswith("goose")
    with household(tmp_path) as house:
        path = os.path.join(build(name, house.home), STORES[name])
        house.scan()
        counts = {state.id: state.record.message_count for state in house.spool.catalog.sessions() if state.record}
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
        house.scan()
        after = {state.id: state.record.message_count for state in house.spool.catalog.sessions() if state.record}
        assert sum(counts.values()) - sum(after.values()) == 1 or name == "goose/1.10-imported"
        seen = [data for data in held(house) if b"Let me see" in data]
        assert seen or goose


def test_opencode_is_listed_by_indexes_alone(tmp_path: Path) -> None:
    """No row of a message or a part is looked at to find out which session changed: there are half a million."""
    path = os.path.join(build("opencode/1.18-database", tmp_path), STORES["opencode/1.18-database"])
    database = open_database(path, {})
    asked: list[str] = []

    class Asking:
        marks = database.marks
        has = database.has

        def rows(self, sql: str, *parameters: object) -> Iterator[tuple[object, ...]]:
            asked.append(sql)
            return database.rows(sql, *parameters)

    assert len(list(OpenCode().sessions(Asking()))) == 4
    (sql,) = asked
    assert "event_sequence" in sql and sql.startswith(MARK[:20])
    plan = [row[3] for row in database.rows(f"EXPLAIN QUERY PLAN {sql}")]
    database.close()
    for table in ("message", "part"):
        assert any(step.startswith(f"SEARCH {table} USING COVERING INDEX") for step in plan), plan
    assert any(step.startswith("SEARCH event_sequence USING INDEX") for step in plan), plan
    assert [step for step in plan if step.startswith("SCAN")] == ["SCAN session"]


CRUSH = """
CREATE TABLE sessions (id TEXT PRIMARY KEY, parent_session_id TEXT, title TEXT NOT NULL, message_count INTEGER NOT NULL
    DEFAULT 0, cost REAL NOT NULL DEFAULT 0.0, updated_at INTEGER NOT NULL, created_at INTEGER NOT NULL, todos TEXT);
CREATE TABLE messages (id TEXT PRIMARY KEY, session_id TEXT NOT NULL, role TEXT NOT NULL, parts TEXT NOT NULL
    DEFAULT '[]', model TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, finished_at INTEGER,
    provider TEXT, is_summary_message INTEGER NOT NULL DEFAULT 0);
CREATE INDEX idx_messages_session_id ON messages (session_id);
"""
MAIN, CHILD = "c0ffee00-0000-4000-8000-000000000001", "c0ffee00-0000-4000-8000-000000000002$$call_1"


def text(words: str) -> dict[str, object]:
    """Make a text part as Crush writes it."""
    return {"type": "text", "data": {"text": words}}


CALL = {"type": "tool_call", "data": {"id": "call_1", "name": "bash", "input": "{}", "type": "", "finished": True}}
TALK = [
    ("m1", MAIN, "user", [text("Add a test")], None, 0, None, 0),
    ("m2", MAIN, "assistant", [text("Calling."), CALL], "model-1", 0, 5, 0),
    ("m3", MAIN, "tool", [{"type": "tool_result", "data": {"tool_call_id": "call_1"}}], None, 6, None, 0),
    ("m4", MAIN, "assistant", [text("Done.")], "model-1", 7, 8, 0),
    ("m5", MAIN, "assistant", [text("All of it in short.")], "model-2", 9, 9, 1),
    ("m6", MAIN, "user", [text("killed before the answer")], None, 60, None, 0),
    ("k1", CHILD, "user", [text("Subtask")], None, 10, None, 0),
    ("k2", CHILD, "assistant", [text("Sub done")], "model-2", 12, 13, 0),
]


def make_crush(project: Path) -> str:
    """Make the store of a project, in the manner of Crush's migrations (field-notes B.2)."""
    (project / ".crush").mkdir(parents=True)
    path = str(project / ".crush" / "crush.db")
    database, start = open_store(path), 1_775_037_600
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(CRUSH)
    for identity, parent, title in ((MAIN, None, "Add a test"), (CHILD, MAIN, "Agent"), (f"title-{MAIN}", MAIN, "")):
        row = (identity, parent, title, start + 60, start)
        database.execute(
            "INSERT INTO sessions (id, parent_session_id, title, updated_at, created_at) VALUES (?, ?, ?, ?, ?)", row
        )
    for identity, session, role, parts, model, at, finished, summary in TALK:
        done = None if finished is None else start + finished
        row = (identity, session, role, json.dumps(parts), model, start + at, start + at, done, "stub", summary)
        database.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    database.close()
    return path


def test_crush_is_found_through_its_list_of_projects(tmp_path: Path) -> None:
    """The list leads to each project's store, and says the working directory that the store does not."""
    project = tmp_path / "home" / "loom with a space"
    path = make_crush(project)
    listed = tmp_path / "home" / ".local" / "share" / "crush" / "projects.json"
    listed.parent.mkdir(parents=True)
    listed.write_text(json.dumps({"projects": [{"path": str(project), "data_dir": ".crush"}]}))
    with household(tmp_path) as house:
        house.scan()
        main, child = sorted(house.spool.catalog.sessions(), key=lambda state: state.native_id)
        assert main.record is not None and child.record is not None
        assert (str(main.record.id), main.record.message_count, main.record.model) == (MAIN, 4, "model-1")
        assert main.record.working_directory == str(project)
        assert main.record.started_at.isoformat() == "2026-04-01T10:00:00+00:00"
        assert main.title == "Add a test"
        assert (child.parent, child.record.message_count) == (main.uuid, 2)
        tool = open_store(path)
        tool.execute("UPDATE messages SET parts = replace(parts, 'Done.', 'Done!!') WHERE id = 'm4'")
        tool.close()
        house.scan()
        assert any(b"Done!!" in data for data in held(house))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"projects":[{"path":"x"}]}', b'{"projects":[]}'])
def test_a_damaged_list_of_projects_names_none(content: bytes, tmp_path: Path) -> None:
    """Crush rewrites it; what is met in between says nothing."""
    listed = tmp_path / ".local" / "share" / "crush" / "projects.json"
    listed.parent.mkdir(parents=True)
    listed.write_bytes(content)
    assert len(list(Crush().roots(Places(home=str(tmp_path), environ={}, platform="linux")))) == 1
