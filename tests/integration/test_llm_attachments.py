"""Attachments of llm: their content is in its database, and a session is in memory as a whole."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.sources import llm
from support.harness import DaemonHarness, daemon_harness

TABLES = """
    CREATE TABLE conversations (id TEXT, name TEXT, model TEXT);
    CREATE TABLE responses (id TEXT, conversation_id TEXT, model TEXT, prompt TEXT, response TEXT, datetime_utc TEXT);
    CREATE TABLE attachments (id TEXT, type TEXT, path TEXT, url TEXT, content BLOB);
    CREATE TABLE prompt_attachments (response_id TEXT, attachment_id TEXT, "order" INTEGER);
    CREATE TABLE tool_results (id INTEGER, response_id TEXT, name TEXT, output TEXT, tool_call_id TEXT);
    CREATE TABLE tool_results_attachments (tool_result_id INTEGER, attachment_id TEXT, "order" INTEGER);
    INSERT INTO conversations VALUES ('c1', 'Loom', 'm');
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as harness:
        yield harness


def change(harness: DaemonHarness, *statements: tuple[str, tuple]) -> None:
    """Change the database, and capture and push the change."""
    path = os.path.join(harness.home, ".config/io.datasette.llm/logs.db")
    new = not os.path.exists(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with sqlite3.connect(path) as database:
        if new:
            database.executescript(TABLES)
        for sql, values in statements:
            database.execute(sql, values)
    database.close()
    harness.settle()


def ask(number: int) -> tuple[str, tuple]:
    """Return the statement that adds a prompt with its answer."""
    time = f"2026-09-01T10:00:{number:02}"
    return "INSERT INTO responses VALUES (?, 'c1', 'm', 'what is it?', 'a loom', ?)", (f"r{number}", time)


def attach(number: int, response: str, content: bytes) -> list[tuple[str, tuple]]:
    """Return the statements that add an attachment to a prompt."""
    return [
        ("INSERT INTO attachments VALUES (?, 'image/png', NULL, NULL, ?)", (f"a{number}", content)),
        ("INSERT INTO prompt_attachments VALUES (?, ?, ?)", (response, f"a{number}", number)),
    ]


def records(harness: DaemonHarness) -> list[dict]:
    """Return what the endpoint has of the conversation."""
    (session,) = harness.held_sessions()
    return [json.loads(line) for line in harness.held(session).splitlines()]


def kept(attachments: list[dict]) -> list[bytes | None]:
    return [base64.b64decode(each["data"]) if "data" in each else None for each in attachments]


def test_many_attachments_do_not_fill_the_memory(home: DaemonHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a record and of a conversation have a limit. What is added later takes nothing from what is there."""
    monkeypatch.setattr(llm, "ATTACHMENT_LIMIT", 16)
    monkeypatch.setattr(llm, "RECORD_LIMIT", 32)
    monkeypatch.setattr(llm, "CONVERSATION_LIMIT", 40)
    sizes = (17, 16, 10, 10, 4)
    first = [each for number, size in enumerate(sizes) for each in attach(number, "r1", bytes([number]) * size)]
    change(home, ask(1), *first)
    expected = [None, b"\1" * 16, b"\2" * 10, None, b"\4" * 4]
    assert kept(records(home)[0]["attachments"]) == expected

    change(home, ask(2), *attach(5, "r2", b"\5" * 11), *attach(6, "r2", b"\6" * 10))
    one, two = records(home)
    assert (kept(one["attachments"]), kept(two["attachments"])) == (expected, [None, b"\6" * 10])


def test_an_attachment_of_a_result_that_is_written_last_is_captured(home: DaemonHarness) -> None:
    """Its rows are committed one by one, so the response and its result may be captured before them."""
    change(home, ask(1), ("INSERT INTO tool_results VALUES (1, 'r1', 'draw', 'done', 't1')", ()))
    change(
        home,
        ("INSERT INTO attachments VALUES ('a1', 'image/png', NULL, NULL, ?)", (b"\x89PNG",)),
        ("INSERT INTO tool_results_attachments VALUES (1, 'a1', 0)", ()),
    )
    (record,) = records(home)
    assert kept(record["tool_results"][0]["attachments"]) == [b"\x89PNG"]
