"""Sessions that are easily missed: damaged, oddly named or without times. Each is captured and counted."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from support.harness import CLAUDE, NOW_MS, SESSION, DaemonHarness, claude, daemon_harness, encode
from support.opencode import PAGE, write_database


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def timeless(number: int) -> dict:
    """Return a prompt without a time."""
    return {key: value for key, value in claude(SESSION, number).items() if key != "timestamp"}


def record(harness: DaemonHarness, session: str = SESSION) -> dict:
    found: dict = harness.held_sessions()[session]["record"]
    return found


def milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def test_records_on_one_line_count_and_travel_as_they_are(harness: DaemonHarness) -> None:
    glued = encode(claude(SESSION, 1))[:-1] + encode(claude(SESSION, 2, role="assistant"))
    spliced = encode(claude(SESSION, 3))[:90] + encode(claude(SESSION, 4))
    harness.write(CLAUDE, glued, spliced)
    harness.settle()
    assert record(harness)["message_count"] == 3
    assert harness.held(SESSION) == glued + spliced
    (damaged,) = harness.spool.connection.execute("SELECT sum(damaged) FROM stream").fetchone() or (0,)
    assert damaged == 1  # the record that lost its end


def test_a_session_whose_id_is_in_upper_case_is_the_same_session(harness: DaemonHarness) -> None:
    harness.write(CLAUDE.replace(SESSION, SESSION.upper()), claude(SESSION.upper(), 1))
    harness.settle()
    assert record(harness)["message_count"] == 1


@pytest.mark.parametrize("kind", ["none", "future", "damaged"])
def test_a_session_without_a_plausible_time_has_those_of_its_file(kind: str, harness: DaemonHarness) -> None:
    lines: list[dict | bytes] = {
        "none": [timeless(1), timeless(2)],
        "future": [claude(SESSION, 1, timestamp="2199-01-01T00:00:00.000Z")],
        "damaged": [b'{"type":"user","mess\n'],
    }[kind]
    path = harness.write(CLAUDE, *lines)
    os.utime(path, (NOW_MS / 1000 - 60, NOW_MS / 1000 - 60))
    harness.settle()
    assert milliseconds(record(harness)["started_at"]) <= NOW_MS - 60_000
    assert record(harness)["message_count"] == {"none": 2, "future": 1, "damaged": 0}[kind]
    harness.write(CLAUDE, timeless(9))
    os.utime(path, (NOW_MS / 1000, NOW_MS / 1000))
    harness.now_ms += 3_600_000
    harness.settle()
    assert milliseconds(record(harness)["ended_at"]) == NOW_MS


def test_a_file_of_settings_alone_is_no_session(harness: DaemonHarness) -> None:
    harness.write(CLAUDE, {"type": "mode", "sessionId": SESSION, "mode": "plan"})
    harness.settle()
    assert harness.held_sessions() == {}
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    assert record(harness)["started_at"] == "2026-09-01T10:00:01Z"


def test_an_unknown_record_that_holds_no_message_raises_no_alarm(harness: DaemonHarness) -> None:
    harness.write(CLAUDE, claude(SESSION, 1), {"type": "made-up", "snapshot": {"a": 1}})
    harness.settle()
    assert unknown(harness) == set()
    harness.write(CLAUDE, {"type": "made-up", "message": {"role": "user"}})
    harness.settle()
    assert unknown(harness) == {"made-up"}


def unknown(harness: DaemonHarness) -> set[str]:
    return {name for stream in harness.spool.catalog.streams(1) for name in stream.fold.unknown}


def test_a_chat_with_a_byte_order_mark_is_captured(harness: DaemonHarness) -> None:
    request = {"requestId": "r1", "timestamp": NOW_MS - 5000, "response": [{"value": "W"}]}
    chat = {"version": 3, "sessionId": SESSION, "creationDate": NOW_MS - 9000, "requests": [request]}
    log = b"\xef\xbb\xbf" + encode({"kind": 0, "v": chat})
    harness.write(f".config/Code/User/workspaceStorage/aaaa/chatSessions/{SESSION}.jsonl", log)
    harness.settle()
    assert record(harness)["message_count"] == 2


def test_an_empty_folder_is_no_trouble(harness: DaemonHarness) -> None:
    path = harness.write(".vibe/logs/session/session_20260101_100000_00000001/messages.jsonl", b"")
    os.utime(path, (NOW_MS / 1000 - 3600, NOW_MS / 1000 - 3600))
    assert [outcome.trouble for outcome in harness.ingest(path)] == [None]
    harness.settle()
    assert harness.held_sessions() == {}


SESSIONS = 60


def readable_sessions(path: Path) -> int:
    """Count the sessions of which SQLite can read every row."""
    database, found = sqlite3.connect(f"file:{path}?mode=ro", uri=True), 0
    database.text_factory = bytes
    for (name,) in database.execute("SELECT id FROM session ORDER BY id").fetchall():
        with suppress(sqlite3.DatabaseError):
            for table, key in ("session", "id"), ("message", "session_id"), ("part", "session_id"):
                database.execute(f"SELECT * FROM {table} WHERE {key} = ?", (name.decode(),)).fetchall()
            found += 1
    database.close()
    return found


def test_a_bad_page_hides_no_session_but_its_own(harness: DaemonHarness) -> None:
    path = Path(harness.home, ".local/share/opencode/opencode.db")
    write_database(path, SESSIONS)
    bad = 0
    with path.open("r+b") as file:
        for page in range(0, path.stat().st_size // PAGE, 11):
            file.seek(page * PAGE + 100)
            if file.read(4) == b"xxxx":  # overflow pages
                file.seek(page * PAGE)
                file.write(b"\xa5" * PAGE)
                bad += 1
    expected = readable_sessions(path)
    assert bad > 1
    assert SESSIONS // 2 < expected < SESSIONS
    (outcome,) = harness.ingest(str(path))
    assert outcome.trouble is not None
    assert outcome.trouble.count("session ses_") == SESSIONS - expected  # each is named
    harness.settle()
    assert len(harness.held_sessions()) == expected


def test_text_that_is_no_utf_8_costs_no_session(harness: DaemonHarness) -> None:
    path = Path(harness.home, ".local/share/opencode/opencode.db")
    write_database(path, SESSIONS)
    database = sqlite3.connect(path)
    database.execute("UPDATE session SET title = CAST(X'6166FF66' AS TEXT)")
    database.execute("UPDATE part SET data = CAST(X'7B2261223A22FF227D' AS TEXT) WHERE id = 'prt_5'")
    database.commit()
    database.close()
    (outcome,) = harness.ingest(str(path))
    assert outcome.trouble is None
    harness.settle()
    assert len(harness.held_sessions()) == SESSIONS
