"""Restoring while the tool runs: new files are created, and nothing that the tool may hold is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sessiond.restore.processes import running_programs
from support.harness import SESSION, DaemonHarness, claude, daemon_harness
from support.two_machines import begin, restore, restored_path, second_machine

CONTINUE = f".continue/sessions/{SESSION}.json"


@pytest.fixture
def first(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path / "first") as harness:
        yield harness


@pytest.fixture
def second(tmp_path: Path, first: DaemonHarness) -> Iterator[DaemonHarness]:
    with second_machine(str(tmp_path / "second"), first) as harness:
        yield harness


@contextmanager
def running(name: str, home: str) -> Iterator[None]:
    """Run a program of this name, which works in a home directory."""
    program = f"{home}/bin/{name}"
    os.makedirs(os.path.dirname(program), exist_ok=True)
    os.symlink(sys.executable, program)
    code = "import sys; print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [program, "-c", code], env={"HOME": home}, cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
        os.unlink(program)


def test_a_transcript_is_not_continued_while_its_tool_runs(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new file does not disturb the tool. Once the tool has ended, the rest is appended."""
    begin(first)
    with running("claude", second.home):
        assert restore(second) == 0
        path = Path(restored_path(second))
        before = path.read_bytes()
        first.write(f".claude/projects/-home-dev-project/{SESSION}.jsonl", claude(SESSION, 3))
        first.settle()
        assert restore(second) == 1
        assert "claude is running and may write to" in capsys.readouterr().err
        assert path.read_bytes() == before
    assert restore(second) == 0
    assert path.read_bytes().startswith(before)
    assert len(path.read_bytes()) > len(before)


def test_a_document_and_an_index_are_not_changed_while_their_tool_runs(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """The index would be rewritten, and the tool would overwrite it with its own."""
    history = [{"message": {"role": "user", "content": "hi"}}, {"message": {"role": "assistant", "content": "yes"}}]
    document = {"sessionId": SESSION, "workspaceDirectory": "/home/dev/project", "history": history}
    first.write(CONTINUE, json.dumps(document).encode())
    first.settle()
    with running("cn", second.home):
        assert restore(second) == 1
        assert "cn is running" in capsys.readouterr().err
        assert not os.path.exists(f"{second.home}/.continue")
    assert restore(second) == 0
    assert os.path.exists(f"{second.home}/{CONTINUE}")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="without /proc, every process of that name counts")
def test_a_tool_of_another_home_does_not_count(tmp_path: Path) -> None:
    """It has a store of its own, unless a variable names the directory."""
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    with running("cn", str(home)):
        assert running_programs(["cn"], f"{home}/.continue") == ["cn"]
        assert running_programs(["cn"], f"{other}/.continue") == []
        assert running_programs(["claude"], f"{home}/.continue") == []
