"""Unreadable files, and unreadable sessions of a database, are each named until they can be read."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from support.harness import DaemonHarness, daemon_harness
from support.sample_tree import build, open_store


def troubles(harness: DaemonHarness) -> list[tuple[str, str]]:
    return [(trouble.path, trouble.reason) for trouble in harness.spool.stats.troubles(10)]


def test_a_database_that_cannot_be_read_now_is_named_until_it_can(tmp_path: Path) -> None:
    """Its tool may have locked it."""
    with daemon_harness(tmp_path) as harness:
        path = os.path.join(build("warp/2026", harness.home), ".local/state/warp-terminal/warp.sqlite")
        with closing(sqlite3.connect(path, isolation_level=None)) as tool:
            tool.execute("BEGIN EXCLUSIVE")
            (outcome,) = harness.ingest(path)
        assert outcome.retry
        assert troubles(harness) == [(path, "the database can't be read now: database is locked")]
        harness.scan()
        assert troubles(harness) == []
        assert len(list(harness.spool.catalog.sessions())) == 2


def test_a_damaged_database_has_one_reason(tmp_path: Path) -> None:
    """The reason is not wrapped in further ones, and `status` says once that the file can't be read."""
    with daemon_harness(tmp_path) as harness:
        path = harness.write(".local/share/goose/sessions/sessions.db", b"SQLite format 3\0" + b"x" * 4096)
        harness.ingest(path)
        assert troubles(harness) == [(path, "the database is damaged: file is not a database")]


def test_each_unreadable_session_of_a_database_is_named(tmp_path: Path) -> None:
    with daemon_harness(tmp_path) as harness:
        path = os.path.join(build("zed/0.3", harness.home), ".local/share/zed/threads/threads.db")
        names = [f"thread-{number}" for number in range(6)]
        tool = open_store(path)
        for name in names:
            values = (name, "Damaged", "2026-05-28T10:00:00+00:00", "json", b"{")
            tool.execute(
                "INSERT INTO threads (id, summary, updated_at, data_type, data) VALUES (?, ?, ?, ?, ?)", values
            )
        tool.close()
        harness.scan()
        ((_, reason),) = troubles(harness)
        assert [name for name in names if f"session {name}: " in reason] == names
