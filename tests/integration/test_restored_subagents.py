"""Restoring a session brings its subagents along, and no other session that was forked from it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.cli import main
from support.harness import DaemonHarness, daemon_harness, encode
from support.sample_tree import build
from support.two_machines import environment, second_machine

PARENTS = 80


@pytest.fixture
def first(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path / "first") as harness:
        yield harness


@pytest.fixture
def second(tmp_path: Path, first: DaemonHarness) -> Iterator[DaemonHarness]:
    with second_machine(str(tmp_path / "second"), first) as harness:
        yield harness


@pytest.mark.parametrize(
    ("sample", "session", "others"),
    [
        ("codex/0.100-subagent", "01a2037e-0451", {"01a2037e-0452"}),
        ("codex/0.169-paginated", "01a2037e-0461", {"01a2037e-0463"}),
        ("codex/0.169-paginated", "01a2037e-0462", {"01a2037e-0461"}),
        ("codex/0.100-fork-copy", "01a2037e-0441", set()),
        ("gemini-cli/0.61-subagent", "00000020-0000", {"00000021-0000"}),
        ("gemini-cli/0.61-subagent", "00000021-0000", {"00000020-0000"}),
        ("droid/flat-subagent", "5f000001-0000", {"5f000002-0000"}),
        ("droid/0.215-fork", "00000001-0000", set()),
        ("grok-build/1.0-fork", "01a0e003-0000-7000-8000-000000000001", {"01a0e003-0000-7000-8000-000000000003"}),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_subagents_come_along_and_forks_stay(
    first: DaemonHarness, second: DaemonHarness, sample: str, session: str, others: set[str]
) -> None:
    """A parent comes along if the tool needs it: for a fork of Codex, and for a subagent of Gemini."""
    build(sample, first.home)
    first.settle()
    ids = [each["record"]["id"] for each in first.get("/v1/sessions", limit=500).json()["sessions"]]
    before = set(Path(second.home).rglob("*"))
    directory = f"{second.home}/src/engine"
    assert main(["restore", session, "--directory", directory], environment(second)) == 0
    files = set(Path(second.home).rglob("*.jsonl")) - before
    assert {identity for identity in ids if any(_is_of(path, identity) for path in files)} == {
        identity for identity in ids if identity.startswith((session, *others))
    }


def test_a_fork_with_many_parents_is_restored(first: DaemonHarness, second: DaemonHarness) -> None:
    """A script may fork each session from the one before. A process may have no more than 256 open files on macOS."""
    for number in range(PARENTS + 1):
        first.write(f".codex/sessions/2026/04/01/rollout-2026-04-01T12-00-00-{_thread(number)}.jsonl", *_forked(number))
    first.settle()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + PARENTS // 2, hard))
    try:
        assert main(["restore", _thread(PARENTS), "--directory", f"{second.home}/src/engine"], environment(second)) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for number in range(PARENTS + 1):
        (restored,) = Path(second.home).rglob(f"rollout-*{_thread(number)}.jsonl")
        assert restored.read_bytes() == first.held(_thread(number))


def _thread(number: int) -> str:
    return f"01a2037e-{number:04x}-7000-8000-000000000000"


def _forked(number: int) -> Iterator[dict[str, object]]:
    """Iterate the records of a session of Codex that is a fork of the one before."""
    meta: dict[str, object] = {"id": _thread(number), "cwd": "/home/ada/loom", "cli_version": "0.169.0"}
    if number:
        base = {"thread_id": _thread(number - 1), "end_ordinal_exclusive": 2, "end_byte_offset": 100}
        meta |= {"forked_from_id": _thread(number - 1), "history_base": base}
    moment = f"2026-04-01T12:{number // 60:02d}:{number % 60:02d}.000Z"
    yield {"timestamp": moment, "type": "session_meta", "payload": meta}
    content = [{"type": "input_text", "text": f"weave {number}"}]
    message = {"type": "message", "role": "user", "content": content, "id": f"msg_{number}"}
    yield {"timestamp": moment, "type": "response_item", "payload": message}


def test_a_long_subagent_hides_no_message_of_its_session(first: DaemonHarness, second: DaemonHarness) -> None:
    """The messages of Kimi Code have no ids, only positions, which those of a subagent share."""
    build("kimi/code-1.5", first.home)
    session = "019d4870-7100-7000-8000-000000000021"
    (agent,) = Path(first.home).rglob(f"*{session}/agents/agent-0/wire.jsonl")
    with agent.open("ab") as file:
        file.writelines(_turn(number) for number in range(20))
    first.settle()
    assert main(["restore", session, "--directory", f"{second.home}/src/engine"], environment(second)) == 0
    (restored,) = Path(second.home).rglob(f"*{session}/agents/main/wire.jsonl")
    with restored.open("ab") as file:
        file.write(_turn(20))
    second.settle()
    stored = second.get("/v1/sessions", limit=500).json()["sessions"]
    (continued,) = [each for each in stored if each["record"]["machine_id"] == "second"]
    assert (continued["record"]["id"], continued["record"]["message_count"]) == (session, 1)


def _turn(number: int) -> bytes:
    """Make a prompt of Kimi Code."""
    message = {"role": "user", "content": [{"type": "text", "text": f"turn {number}"}], "toolCalls": []}
    return encode({"type": "context.append_message", "message": message, "time": 1775038000000 + number})


def _is_of(path: Path, identity: str) -> bool:
    """Return whether a transcript is that of a session: its name has the id, or Gemini's first part, or its folder."""
    name = path.parent.name if path.name == "updates.jsonl" else path.stem
    return identity in name or name.endswith(f"-{identity[:8]}")
