"""A session that is forked again and again, as scripts do: each fork has its history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
