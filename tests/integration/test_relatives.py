"""Sessions that begin with the history of another one: which is the copy, and which messages are its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.harness import DaemonHarness, claude, daemon_harness

ORIGINAL, COPY, SECOND = (f"5f1d7c1e-0000-4000-8000-00000000000{digit}" for digit in "123")


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    """Make a home with an endpoint."""
    with daemon_harness(tmp_path) as made:
        yield made


def file_of(session: str) -> str:
    """Return the path of a session's file."""
    return f".claude/projects/-home-dev-project/{session}.jsonl"


def history(session: str, count: int, first: int = 0) -> list[dict[str, Any]]:
    """Return `count` messages that a session has written itself: question, answer, question ..."""
    roles = ("user", "assistant")
    return [
        claude(session, number, role=roles[number % 2], text=f"message {number} of {session[-1]}")
        for number in range(first, first + count)
    ]


def copied(lines: list[dict[str, Any]], session: str) -> list[dict[str, Any]]:
    """Return messages as a resumed session repeats them: under its own id, and otherwise as they were."""
    return [{**line, "sessionId": session} for line in lines]


def record(harness: DaemonHarness, session: str) -> dict[str, Any]:
    """Return a session's record at the endpoint."""
    found: dict[str, Any] = harness.held_sessions()[session]["record"]
    return found


@pytest.mark.parametrize("copy_first", [False, True])
def test_only_its_own_messages_count_for_a_copy(harness: DaemonHarness, copy_first: bool) -> None:
    """Whichever file is found first, the original is the session that began with these messages."""
    start = history(ORIGINAL, 4)
    resumed = [*copied(start, COPY), *history(COPY, 3, first=4)]
    files = [(ORIGINAL, start), (COPY, resumed)]
    for session, lines in reversed(files) if copy_first else files:
        harness.write(file_of(session), *lines)
        harness.settle()
    assert record(harness, ORIGINAL)["message_count"] == 4
    assert record(harness, COPY)["message_count"] == 3
    assert [harness.held(session).count(b"\n") for session in (ORIGINAL, COPY)] == [4, 7], "the bytes are all kept"


def test_a_copy_of_a_copy_counts_what_neither_has(harness: DaemonHarness) -> None:
    """Each of them is compared with all sessions that are older, and the oldest is its parent."""
    start = history(ORIGINAL, 4)
    resumed = [*copied(start, COPY), *history(COPY, 4, first=4)]
    again = [*copied(resumed, SECOND), *history(SECOND, 1, first=8)]
    for session, lines in ((SECOND, again), (COPY, resumed), (ORIGINAL, start)):
        harness.write(file_of(session), *lines)
        harness.settle()
    counts = [record(harness, session)["message_count"] for session in (ORIGINAL, COPY, SECOND)]
    assert counts == [4, 4, 1]
    held = harness.held_sessions()
    assert [held[session].get("parent") for session in (ORIGINAL, COPY, SECOND)] == [None, ORIGINAL, ORIGINAL]


def test_an_original_is_not_sent_again_for_each_line_of_its_copy(harness: DaemonHarness) -> None:
    """Its record stays the same, so its revision does."""
    start = history(ORIGINAL, 4)
    harness.write(file_of(ORIGINAL), *start)
    harness.write(file_of(COPY), *copied(start, COPY))
    harness.settle()
    before = harness.held_sessions()
    for number in range(3):
        harness.write(file_of(COPY), claude(COPY, 10 + number))
        harness.settle()
    after = harness.held_sessions()
    assert after[ORIGINAL]["revision"] == before[ORIGINAL]["revision"]
    assert after[COPY]["revision"] > before[COPY]["revision"]
    assert after[COPY]["record"]["message_count"] == 3


def test_sessions_that_begin_at_the_same_time_are_no_relatives_by_that(harness: DaemonHarness) -> None:
    """They have different first answers."""
    other = ORIGINAL.replace("5f1d", "6f1d")
    for session in (ORIGINAL, other):
        harness.write(file_of(session), *history(session, 4))
    harness.settle()
    assert [record(harness, session)["message_count"] for session in (ORIGINAL, other)] == [4, 4]
