"""A fork of gptme copies a conversation's directory. Its name shows which of the two is the original."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from support.harness import DaemonHarness, daemon_harness

LOGS = ".local/share/gptme/logs"
ORIGINAL = "2026-08-22-red-scarf"
FORKS = ["retry", "fork-20260822-101500", "blue", "try-2", "chat-2026-08-22T10-15-00", "a", "b", "c"]
"""Names with any order of ids: without one that shows which is the copy, ids decide."""


def message(role: str, text: str, second: int) -> dict:
    return {"role": role, "content": text, "timestamp": f"2026-08-22T10:00:{second:02}.000000"}


COMMON = [message("user", "Weave", 5), message("assistant", "Woven.", 9)]


def write(harness: DaemonHarness, name: str, *own: dict, settings: bool) -> str:
    """Write a conversation with the common messages and its own; return the path."""
    if settings:
        harness.write(f"{LOGS}/{name}/config.toml", '[chat]\nname = "Weaving"', mode="wb")
    return harness.write(f"{LOGS}/{name}/conversation.jsonl", *COMMON, *own, mode="wb")


def records(harness: DaemonHarness) -> dict[str, tuple[int, str | None]]:
    """Return how many messages count in each conversation, and which one is its parent, by name."""
    states = list(harness.spool.catalog.sessions())
    names = {state.uuid: state.native_id for state in states}
    found = {}
    for state in states:
        assert state.record is not None
        found[state.native_id] = state.record.message_count, names.get(state.parent) if state.parent else None
    return found


@pytest.mark.parametrize("settings", [True, False])
@pytest.mark.parametrize("name", [*FORKS, f"{ORIGINAL}-fork-20260822-101500"])
@pytest.mark.parametrize("order", list(permutations((0, 1))))
def test_what_a_fork_copied_counts_in_the_original(
    name: str, order: tuple[int, int], tmp_path: Path, *, settings: bool
) -> None:
    """Whichever is captured first, and whatever the settings beside them are."""
    with daemon_harness(tmp_path) as harness:
        own = message("user", "Weave again", 40)
        written = [(ORIGINAL, ()), (name, (own,))]
        for number in order:
            conversation, more = written[number]
            harness.ingest(write(harness, conversation, *more, settings=settings))
        assert records(harness) == {ORIGINAL: (2, None), name: (1, ORIGINAL)}


@pytest.mark.parametrize("order", list(permutations((0, 1))))
def test_a_fork_is_recognised_by_the_name_that_it_gets_from_a_named_conversation(
    order: tuple[int, int], tmp_path: Path
) -> None:
    with daemon_harness(tmp_path) as harness:
        names = ["scarf", "scarf-fork-20260822-101500"]
        for number in order:
            harness.ingest(write(harness, names[number], settings=True))
        assert records(harness) == {"scarf": (2, None), "scarf-fork-20260822-101500": (0, "scarf")}
