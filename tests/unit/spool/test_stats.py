"""The spool in numbers: the queries of `status` cost the same with ten sessions and with ten thousand."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.spool import Spool
from sessiond.spool.schema import MIGRATIONS
from sessiond.spool.stats import Stats

TOOLS = ("claude-code", "codex")
RECORD = b'{"working_directory":"/home/ada"}'


def filled(directory: Path, sessions: int) -> Spool:
    """Make a spool with this many sessions of a stream and a file each, all acknowledged, two ongoing."""
    directory.mkdir()
    spool = Spool(str(directory))
    numbers = range(1, sessions + 1)
    with spool.transaction():
        spool.connection.executemany(
            "INSERT INTO session (id, uuid, tool, native_id, record, active_ms, ongoing, revision, pushed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 7, 7)",
            [(n, f"{n:036}", TOOLS[n % 2], str(n), RECORD, n, n <= 2) for n in numbers],
        )
        spool.connection.executemany(
            "INSERT INTO stream (id, session, name, thread, folded, queued, acked, fold)"
            " VALUES (?, ?, '', 1, 9, 9, 9, x'80')",
            [(n, n) for n in numbers],
        )
        spool.connection.executemany(
            "INSERT INTO file (path, tool, stream) VALUES (?, ?, ?)", [(b"/%d" % n, TOOLS[n % 2], n) for n in numbers]
        )
    return spool


def opcodes(spool: Spool) -> int:
    """Count SQLite's virtual machine steps for a status."""
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    spool.connection.set_progress_handler(tick, 1)
    tools = spool.stats.tools()
    spool.stats.totals(tools=tools)
    for read in (Stats.waiting, Stats.redactions):
        read(spool.stats)
    spool.connection.set_progress_handler(None, 0)
    return count


def test_working_directories_are_listed_without_reading_records(tmp_path: Path) -> None:
    """Each start and each new session lists all of them."""
    spool = filled(tmp_path / "spool", 10)
    assert spool.catalog.working_directories() == ["/home/ada"]
    asked: list[str] = []
    spool.connection.set_trace_callback(asked.append)
    spool.catalog.working_directories()
    spool.connection.set_trace_callback(None)
    plan = spool.connection.execute(f"EXPLAIN QUERY PLAN {asked[-1]}").fetchall()
    assert [row[3] for row in plan] == ["SCAN session USING INDEX session_directory"]
    spool.close()


ODD = {
    "settled": (),
    "ongoing": ("UPDATE session SET ongoing = 1",),
    "one record waits": ("UPDATE session SET revision = 8 WHERE id = 3",),
    "one is parked": ("UPDATE session SET parked = 'too large' WHERE id = 3",),
    "one is behind": ("UPDATE stream SET queued = 0 WHERE id = 3",),
    "one is odd": ("UPDATE stream SET damaged = 1, unknown = '[\"x\"]' WHERE id = 3",),
    "one can't be read": ("UPDATE file SET trouble = 'no permission' WHERE stream = 3",),
    "one has no record": ("UPDATE session SET record = NULL WHERE id = 3",),
}


@pytest.mark.parametrize("how", ODD)
def test_the_cost_does_not_grow_with_the_number_of_sessions(how: str, tmp_path: Path) -> None:
    costs = []
    for sessions in (10, 1_000):
        spool = filled(tmp_path / str(sessions), sessions)
        for statement in ODD[how]:
            spool.connection.execute(statement)
        costs.append(opcodes(spool))
        spool.close()
    assert costs[1] <= costs[0] + 10


def test_waiting_items_are_counted_without_reading_records(tmp_path: Path) -> None:
    """All sessions wait in a long outage. Each may cost a few steps in an index, but no record is read."""
    spool = filled(tmp_path / "spool", 1_000)
    spool.connection.execute("UPDATE session SET pushed = 0")
    spool.connection.execute("UPDATE stream SET waiting = 1, acked = 0")
    spool.connection.execute(
        "INSERT INTO segment (stream, generation, offset, length, data, size, queued_ms)"
        " SELECT id, 0, 0, 9, x'00', 1, 5 FROM stream"
    )
    totals, waiting = spool.stats.totals(), spool.stats.waiting()
    assert (totals.captured, totals.acknowledged, totals.unsent_bytes, totals.oldest_ms) == (1_000, 0, 9_000, 5)
    assert (waiting.sessions, waiting.segments, waiting.bytes, waiting.oldest_ms) == (1_000, 1_000, 1_000, 5)
    assert opcodes(spool) < 150 * 1_000
    spool.close()


CHANGES = st.lists(
    st.tuples(st.sampled_from(["add", "bare", "remove", "record", "unrecord", "ongoing", "ended"]), st.integers(1, 5)),
    max_size=20,
)


@settings(max_examples=40, deadline=None)
@given(changes=CHANGES)
def test_the_tally_equals_a_full_count(changes: list[tuple[str, int]]) -> None:
    """Sessions get their record later or never, end and continue, and some are removed."""
    statements = {
        "add": "INSERT OR IGNORE INTO session (id, uuid, tool, native_id, record, ongoing)"
        " VALUES (:n, :n, 'tool' || (:n % 2), '', '{}', :n % 2)",
        "bare": "INSERT OR IGNORE INTO session (id, uuid, tool, native_id) VALUES (:n, :n, 'tool' || (:n % 2), '')",
        "remove": "DELETE FROM session WHERE id = :n",
        "record": "UPDATE session SET record = '[]', active_ms = :n WHERE id = :n",
        "unrecord": "UPDATE session SET record = NULL WHERE id = :n",
        "ongoing": "UPDATE session SET ongoing = 1 WHERE id = :n",
        "ended": "UPDATE session SET ongoing = 0 WHERE id = :n",
    }
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for migration in MIGRATIONS:
        connection.executescript(migration)
    for change, number in changes:
        connection.execute(statements[change], {"n": number})
    counted = connection.execute(
        "SELECT tool, count(*), sum(ongoing) FROM session WHERE record IS NOT NULL GROUP BY tool ORDER BY tool"
    ).fetchall()
    kept = connection.execute("SELECT tool, sessions, ongoing FROM tally WHERE sessions > 0 ORDER BY tool").fetchall()
    connection.close()
    assert kept == counted
