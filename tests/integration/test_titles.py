"""Codex keeps the titles of its threads in a list beside the rollouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.harness import DaemonHarness, daemon_harness, encode

INDEX = ".codex/session_index.jsonl"
THREAD = "00000c01-0000-4000-8000-000000000c01"
OTHER = "00000c02-0000-4000-8000-000000000c02"
AT = "2026-05-28T10:00:00.000Z"


def name(thread: str, title: str) -> dict[str, str]:
    return {"id": thread, "thread_name": title, "updated_at": AT}


def rollout(harness: DaemonHarness, thread: str, cwd: str = "/home/ada/loom") -> str:
    meta = {"id": thread, "timestamp": AT, "cwd": cwd, "cli_version": "0.171.0"}
    event = {"type": "user_message", "message": "Weave a pattern."}
    return harness.write(
        f".codex/sessions/2026/05/28/rollout-2026-05-28T10-00-00-{thread}.jsonl",
        {"timestamp": AT, "type": "session_meta", "payload": meta},
        {"timestamp": AT, "type": "event_msg", "payload": event},
    )


def titles(harness: DaemonHarness) -> list[str | None]:
    return [item["title"] for item in harness.held_sessions().values()]


def test_a_title_that_is_added_later_names_the_session(tmp_path: Path) -> None:
    with daemon_harness(tmp_path) as harness:
        rollout(harness, THREAD)
        harness.settle()
        assert titles(harness) == ["Weave a pattern."], "its first prompt"
        harness.write(INDEX, name(THREAD, "Weaving"))
        harness.settle()
        assert titles(harness) == ["Weaving"]
        harness.write(INDEX, name(OTHER, "Spinning"), "{damaged", name(THREAD, "Weaving in blue"))
        harness.settle()
        assert titles(harness) == ["Weaving in blue"]


def test_a_title_that_is_there_before_the_session_names_it(tmp_path: Path) -> None:
    """The two files may be read in either order."""
    with daemon_harness(tmp_path) as harness:
        index = harness.write(INDEX, name(OTHER, "Spinning"), name(THREAD, "Weaving"), name(THREAD, "Weaving again"))
        harness.ingest(index)
        harness.ingest(rollout(harness, THREAD))
        harness.settle()
        assert titles(harness) == ["Weaving again"]


def test_a_rewrite_of_the_session_keeps_its_title(tmp_path: Path) -> None:
    with daemon_harness(tmp_path) as harness:
        path = Path(rollout(harness, THREAD))
        harness.settle()
        harness.write(INDEX, name(THREAD, "Weaving"))
        harness.settle()
        with path.open("ab") as file:
            file.write(encode({"timestamp": AT, "type": "event_msg", "payload": {"type": "turn_aborted"}}))
        harness.settle()
        path.write_bytes(path.read_bytes().replace(b"turn_aborted", b"task_started"))
        harness.settle()
        assert titles(harness) == ["Weaving"]
        assert b"task_started" in harness.held(THREAD, generation=1)


def test_nothing_is_kept_of_a_session_that_is_not_captured(tmp_path: Path) -> None:
    """The title of an excluded project may reveal much."""
    with daemon_harness(tmp_path) as harness:
        harness.settings["exclude"] = ["/home/ada/secret"]
        harness.close()
        harness.client.close()
        harness.open()
        rollout(harness, THREAD, "/home/ada/secret")
        harness.write(INDEX, name(THREAD, "A secret plan"))
        harness.settle()
        assert harness.held_sessions() == {}
        for path in Path(harness.state).rglob("*"):
            assert not path.is_file() or b"secret plan" not in path.read_bytes()


@pytest.mark.parametrize("lines", [1, 200])
def test_only_what_was_added_to_the_list_is_read(lines: int, tmp_path: Path) -> None:
    with daemon_harness(tmp_path) as harness:
        rollout(harness, THREAD)
        path = harness.write(INDEX, name(THREAD, "Loom"), *(name(OTHER, f"Title {number}") for number in range(lines)))
        harness.settle()
        harness.write(INDEX, name(THREAD, "Weaving"))
        (outcome,) = harness.ingest(path)
        assert outcome.read == len(encode(name(THREAD, "Weaving")))
        (outcome,) = harness.ingest(path)
        assert (outcome.read, outcome.changed) == (0, False)
