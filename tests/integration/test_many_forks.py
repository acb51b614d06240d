"""A session that is forked again and again, as scripts do: each fork has its history."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessiond.ingest.record import RecordBuilder
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness

FORKS = 12


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def fork(number: int, *own: int) -> list[dict[str, Any]]:
    """Return the records of a fork: the history of the first session, and messages of its own."""
    session = f"{number:08x}{SESSION[8:]}"
    history = []
    for at in range(4):
        record = claude(session, at, role="assistant" if at % 2 else "user")
        record["uuid"] = f"{at:08x}-0000-4000-8000-000000000000"
        if at % 2:
            record["message"]["id"] = f"m{at}"
        history.append(record)
    return [*history, *(claude(session, 100 + each) for each in own)]


def write(harness: DaemonHarness, number: int, *own: int) -> None:
    harness.write(CLAUDE.replace(SESSION, f"{number:08x}{SESSION[8:]}"), *fork(number, *own))


def test_a_line_of_a_fork_reads_each_other_fork_once(harness: DaemonHarness) -> None:
    """Each is compared with all others, which are read once for all of them; their messages count once."""
    for number in range(FORKS):
        write(harness, number, number)
    harness.scan()
    statements: list[str] = []
    harness.spool.connection.set_trace_callback(statements.append)
    write(harness, 3, 3, 50)
    harness.scan()
    harness.spool.connection.set_trace_callback(None)
    read = [each for each in statements if "FROM stream WHERE session =" in each and "media_type IS NULL" in each]
    assert FORKS - 1 <= len(read) <= 2 * FORKS
    counts = harness.spool.connection.execute(
        "SELECT json_extract(CAST(record AS TEXT), '$.message_count') FROM session ORDER BY uuid"
    ).fetchall()
    assert [count for (count,) in counts] == [5, 1, 1, 2, *[1] * (FORKS - 4)]


def stored(harness: DaemonHarness) -> list[tuple[object, ...]]:
    return harness.spool.connection.execute(
        "SELECT uuid, record, parent, revision FROM session ORDER BY uuid"
    ).fetchall()


def test_a_line_rebuilds_no_record_that_does_not_depend_on_it(harness: DaemonHarness) -> None:
    """A fork that is captured last changes no other session, and a new message only those that have it."""
    for number in range(FORKS):
        write(harness, number, number)
    harness.scan()
    for own in ([FORKS], [3, 3, 50], [0, 60]):
        before = {row[0]: row for row in stored(harness)}
        write(harness, own[0], *own[1:] or own)
        harness.scan()
        changed = [row[0] for row in stored(harness) if before.get(row[0]) != row]
        assert [each[:8] for each in changed] == [f"{own[0]:08x}"]


def test_a_fork_that_is_captured_late_rebuilds_no_fork_that_has_an_older_one(harness: DaemonHarness) -> None:
    """The backlog has forks in any order. Those captured before keep their parent, and what counts in them."""
    path = CLAUDE.replace(SESSION, "{}")
    harness.ingest(harness.write(path.format(f"{0:08x}{SESSION[8:]}"), *fork(0, 0)))
    statements: list[str] = []
    harness.spool.connection.set_trace_callback(statements.append)
    for number in range(FORKS - 1, 0, -1):  # the forks begin at the same time, so the older one is that of the lower id
        harness.ingest(harness.write(path.format(f"{number:08x}{SESSION[8:]}"), *fork(number, number)))
    harness.spool.connection.set_trace_callback(None)
    built = [each for each in statements if "FROM session WHERE parent =" in each]
    assert len(built) == FORKS - 1
    found = harness.spool.connection.execute(
        "SELECT parent, json_extract(CAST(record AS TEXT), '$.message_count') FROM session ORDER BY uuid"
    ).fetchall()
    assert found == [(None, 5), *[(f"{0:08x}{SESSION[8:]}", 1)] * (FORKS - 1)]


def test_a_fork_that_is_captured_late_and_has_more_of_the_history_rebuilds_the_others(harness: DaemonHarness) -> None:
    """The oldest one was cut: what only the late one shares with a copy does not count in the copy any more."""
    path = CLAUDE.replace(SESSION, "{}")
    oldest, late, copy = (f"{number:08x}{SESSION[8:]}" for number in (0, 1, 2))
    harness.ingest(harness.write(path.format(oldest), *fork(0)[:2]))
    harness.ingest(harness.write(path.format(copy), *fork(2, 2)))
    harness.ingest(harness.write(path.format(late), *fork(1, 1)))
    found = harness.spool.connection.execute(
        "SELECT parent, json_extract(CAST(record AS TEXT), '$.message_count') FROM session ORDER BY uuid"
    ).fetchall()
    assert found == [(None, 2), (oldest, 3), (oldest, 1)]


@pytest.mark.parametrize("seed", range(6))
def test_in_any_order_each_record_is_that_of_a_complete_rebuild(harness: DaemonHarness, seed: int) -> None:
    """Forks of forks, captured in any order and piece by piece: to rebuild all of them changes nothing."""
    order = random.Random(seed)
    lines: dict[str, list[dict[str, Any]]] = {}
    for number in range(7):
        session = f"{order.randrange(1 << 31):08x}{SESSION[8:]}"
        parent = order.choice(list(lines.values())) if lines else []
        history = [dict(each, sessionId=session) for each in parent[: order.randrange(len(parent) + 1)]]
        for at in range(order.randrange(1, 5)):
            role = "assistant" if at % 2 else "user"
            history.append(claude(session, order.randrange(1000), role=role, text=f"{number} {at}"))
        lines[session] = history
    left = {session: list(history) for session, history in lines.items()}
    while left:
        session = order.choice(list(left))
        path = CLAUDE.replace(SESSION, session)
        harness.ingest(
            harness.write(path, *(left[session].pop(0) for _ in range(order.randrange(1, 4)) if left[session]))
        )
        if not left[session]:
            del left[session]
    harness.now_ms += 1000
    source = next(source for source, _ in harness.ingesting.roots if source.tool == "claude-code")
    before = stored(harness)
    with harness.spool.transaction():
        for (number,) in harness.spool.connection.execute("SELECT id FROM session").fetchall():
            RecordBuilder(harness.ingesting, source, set()).refresh(number, touched=False)
    assert stored(harness) == before


def test_a_message_of_the_original_that_a_copy_has_already_counts_once(harness: DaemonHarness) -> None:
    """The copy is captured before the original has grown that far."""
    original = CLAUDE.replace(SESSION, f"{0:08x}{SESSION[8:]}")
    history = fork(0)
    harness.ingest(harness.write(original, *history[:2]))
    write(harness, 1, 1)
    harness.scan()
    harness.ingest(harness.write(original, *history[2:]))
    counts = harness.spool.connection.execute(
        "SELECT json_extract(CAST(record AS TEXT), '$.message_count') FROM session ORDER BY uuid"
    ).fetchall()
    assert [count for (count,) in counts] == [4, 1]
