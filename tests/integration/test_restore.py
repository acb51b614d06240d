"""Restoring: a session of one machine comes back on another one, is continued there, and returns."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from sessiond.cli import main
from sessiond.cli.status_screen import screen
from sessiond.clock import now_ms
from sessiond.endpoint.server import running
from sessiond.frozen_record import parse_object, to_json
from sessiond.restore import Restorer
from sessiond.sources.plan import Command, Plan, PlannedFile, Unrestorable, below
from sessiond.spool import Spool
from sessiond.spool.health import note_divergence
from sessiond.status import read_status
from sessiond.upload import unbind_changed_endpoint
from support.harness import CLAUDE, NOW_MS, SESSION, TOKEN, DaemonHarness, claude, daemon_harness
from support.two_machines import begin, counts, environment, restore, restored_path, second_machine

SECRET = "ghp_" + "1A2b3C4d5E6f7G8h9I0jKlMnOpQrStUvWxYz"
SUBAGENT = CLAUDE.replace(".jsonl", "/subagents/agent-a1.jsonl")
OUTPUT = CLAUDE.replace(".jsonl", "/tool-results/toolu_01.txt")


@pytest.fixture
def first(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path / "first") as harness:
        yield harness


@pytest.fixture
def second(tmp_path: Path, first: DaemonHarness) -> Iterator[DaemonHarness]:
    with second_machine(str(tmp_path / "second"), first) as harness:
        yield harness


def test_a_session_is_restored_with_its_subagents_and_side_files(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files have the archived bytes, are private, and have the times of the session."""
    lines = claude(SESSION, 1), claude(SESSION, 2, role="assistant")
    first.write(CLAUDE, *lines)
    first.write(SUBAGENT, claude(SESSION, 7, isSidechain=True))
    first.write(OUTPUT, b"all of the output\n")
    first.settle()
    second.write(".claude/settings.json", {"cleanupPeriodDays": 36_500})
    assert restore(second) == 0
    path = restored_path(second)
    assert read(path) == read(f"{first.home}/{CLAUDE}")
    assert read(path.replace(".jsonl", "/tool-results/toolu_01.txt")) == b"all of the output\n"
    assert read(path.replace(".jsonl", "/subagents/agent-a1.jsonl")) == read(f"{first.home}/{SUBAGENT}")
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(path).st_mtime < first.now_ms / 1000
    shown = capsys.readouterr().out
    assert f"resume    cd {second.home}/src/engine && claude --resume {SESSION}" in shown
    assert "/home/dev/project -> " in " ".join(shown.split())
    assert not [name for name in os.listdir(os.path.dirname(path)) if name.endswith(".tmp")]


def status(harness: DaemonHarness) -> dict[str, Any]:
    """Return the status as `sessiond status --json` prints it."""
    return parse_object(to_json(read_status(None, environment(harness))))


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def test_a_dry_run_writes_nothing(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(first)
    assert restore(second, "--dry-run") == 0
    assert "would be created" in capsys.readouterr().out
    assert not os.path.exists(f"{second.home}/.claude")
    assert not os.path.exists(f"{second.state}/restored")


def test_the_command_finds_a_session_that_is_restored_into_another_home(
    first: DaemonHarness, second: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(first)
    other = tmp_path / "other home"
    other.mkdir()
    assert restore(second, "--home", str(other)) == 0
    assert f"resume    cd {second.home}/src/engine && HOME='{other}' claude --resume" in capsys.readouterr().out
    assert len(list(other.rglob(f"{SESSION}.jsonl"))) == 1


def test_a_link_to_the_project_leads_to_where_the_tool_looks(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process sees the directory behind the link as its own, and tools name their folders after that."""
    begin(first)
    os.symlink(f"{second.home}/src/engine", f"{second.home}/link")
    assert restore(second, "--directory", f"{second.home}/link") == 0
    assert os.path.exists(restored_path(second))
    assert f"resume    cd {second.home}/src/engine && claude" in capsys.readouterr().out


def test_a_restored_session_is_no_copy_until_it_is_continued(first: DaemonHarness, second: DaemonHarness) -> None:
    """The second machine lists it once it has a message of its own, and counts only that one."""
    begin(first)
    restore(second)
    second.settle()
    assert counts(first) == {"testbox": (2, "/home/dev/project")}
    second.write(os.path.relpath(restored_path(second), second.home), claude(SESSION, 3, cwd="/elsewhere"))
    second.settle()
    assert counts(first) == {
        "testbox": (2, "/home/dev/project"),
        "second": (1, f"{second.home}/src/engine"),
    }
    listed = first.get("/v1/sessions", limit=500).json()["sessions"]
    assert {each["record"]["machine_id"]: each["continues"] for each in listed} == {
        "testbox": None,
        "second": {"machine_id": "testbox", "id": SESSION},
    }


def test_another_endpoint_gets_a_restored_session_at_once(
    first: DaemonHarness, second: DaemonHarness, tmp_path: Path
) -> None:
    """It lacks what the first machine pushed to the earlier endpoint. No message counts: none was written here."""
    begin(first)
    restore(second)
    second.settle()
    second.close()
    with running(str(tmp_path / "other"), token=TOKEN) as other:
        second.endpoint = other
        with closing(Spool(second.state)) as spool:
            unbind_changed_endpoint(spool, other.url)
        second.open()
        second.scan()
        assert second.spool.stats.waiting().sessions == 1  # before the first answer: `sync` may end after it
        second.settle()
        assert counts(second) == {"second": (0, f"{second.home}/src/engine")}
        assert second.held(SESSION) == read(restored_path(second))
        second.client.close()


def test_a_new_endpoint_at_the_same_address_gets_a_restored_session(
    first: DaemonHarness, second: DaemonHarness, tmp_path: Path
) -> None:
    """Its id alone shows that it lacks what the first machine pushed."""
    begin(first)
    restore(second)
    second.settle()
    second.close()
    with running(str(tmp_path / "other"), token=TOKEN) as other:
        second.endpoint = other
        second.open()
        second.settle()
        second.settle()  # the endpoint has answered since the last scan
        assert second.held(SESSION) == read(restored_path(second))
        second.client.close()


def test_an_endpoint_that_was_set_back_gets_a_restored_session(first: DaemonHarness, second: DaemonHarness) -> None:
    """It may lack what the first machine pushed before."""
    begin(first)
    restore(second)
    second.settle()
    with second.spool.transaction():
        note_divergence(second.spool, now_ms() + 1)
        second.spool.catalog.reread_files_without_session()
    second.settle()
    assert counts(first)["second"] == (0, f"{second.home}/src/engine")


def test_status_counts_restored_sessions_and_names_an_interrupted_restore(
    first: DaemonHarness, second: DaemonHarness
) -> None:
    begin(first)
    restore(second)
    second.settle()
    found = status(second)
    assert found["restored"] == 1
    assert not found["restore_interrupted"]
    Path(second.state, "restoring", "journal.json").write_text("{}")
    with open(f"{second.state}/restoring/lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not status(second)["restore_interrupted"]
    assert status(second)["restore_interrupted"]
    assert any("a restore was interrupted" in each["what"] for each in status(second)["advice"])
    restore(second)
    second.write(os.path.relpath(restored_path(second), second.home), claude(SESSION, 3))
    second.settle()
    found = status(second)
    assert (found["restored"], found["continued"], found["restore_interrupted"]) == (0, 1, False)
    line = "restored      1 session of other machines: 1 continued here"
    assert line in screen(read_status(None, environment(second))).splitlines()


def test_a_session_that_goes_back_and_forth_counts_each_message_once(
    first: DaemonHarness, second: DaemonHarness
) -> None:
    """What the other machine added is appended to the file here, and each machine counts its own messages."""
    os.makedirs(f"{first.home}/src/engine")
    here, there = restored_path(first), restored_path(second)
    first.write(os.path.relpath(here, first.home), claude(SESSION, 1, text=SECRET), claude(SESSION, 2))
    first.settle()
    restore(second)
    second.write(os.path.relpath(there, second.home), claude(SESSION, 3), claude(SESSION, 4, role="assistant"))
    second.settle()
    assert restore(first, machine="testbox") == 0
    assert read(here).endswith(read(there).split(b"\n", 2)[2])
    first.settle()
    assert {machine: number for machine, (number, _) in counts(first).items()} == {"testbox": 2, "second": 2}
    first.write(os.path.relpath(here, first.home), claude(SESSION, 5))
    first.now_ms += 10_000_000
    first.settle()
    restore(second)
    second.settle()
    assert {machine: number for machine, (number, _) in counts(first).items()} == {"testbox": 3, "second": 2}


def test_what_is_masked_in_a_restored_session_is_counted(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """In what is written now: a session without secrets has no such line, nor has a second restore."""

    def masked(machine: DaemonHarness, *arguments: str, name: str = "second") -> list[str]:
        capsys.readouterr()
        assert restore(machine, *arguments, machine=name) == 0
        shown = capsys.readouterr().out.splitlines()
        return [line.partition(",")[0] for line in shown if line.startswith("masked")]

    for machine in (first, second):
        machine.close()
        machine.settings["redact"] = "mask"
        machine.open()
    os.makedirs(f"{first.home}/src/engine")
    here, there = restored_path(first), restored_path(second)
    first.write(os.path.relpath(here, first.home), claude(SESSION, 1, text="a **bold** word"))
    first.settle()
    assert masked(second, "--dry-run") == []
    first.write(os.path.relpath(here, first.home), claude(SESSION, 2, text=f"{SECRET} and again {SECRET}"))
    first.write(os.path.relpath(here, first.home).replace(".jsonl", "/tool-results/a.txt"), f"key {SECRET}\n".encode())
    first.settle()
    for words in (["--dry-run"], []):
        assert masked(second, *words) == ["masked    asterisks in 3 places"]
    assert masked(second) == []
    second.write(os.path.relpath(there, second.home), claude(SESSION, 3, text=f"one more: {SECRET}"))
    second.settle()
    assert masked(first, name="testbox") == ["masked    asterisks in 1 place"], "the rest of the file that is here"


def test_a_session_that_another_machine_continued_goes_back_to_its_own_directory(
    first: DaemonHarness, second: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest copy names a directory of the other machine. Wherever the command runs, it makes no second file."""
    for machine in (first, second):
        os.makedirs(f"{machine.home}/src/engine", exist_ok=True)
    here, there = restored_path(first), restored_path(second)
    own = {"cwd": f"{first.home}/src/engine"}
    first.write(os.path.relpath(here, first.home), claude(SESSION, 1, **own), claude(SESSION, 2, **own))
    first.settle()
    restore(second)
    other = {"cwd": f"{second.home}/src/engine"}
    second.write(os.path.relpath(there, second.home), claude(SESSION, 3, **other))
    second.now_ms += 10_000_000
    second.settle()
    monkeypatch.chdir(first.home)
    assert main(["restore", SESSION], environment(first, "testbox")) == 0
    assert read(here).count(b"\n") == 3
    assert [str(path) for path in Path(first.home, ".claude/projects").rglob(f"{SESSION}.jsonl")] == [here]


def test_an_erased_session_is_not_restored(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be erased on this machine alone, or at the endpoint."""
    begin(first)
    second.forget(SESSION, everywhere=False)
    assert restore(second) == 1
    assert "was erased on this machine" in capsys.readouterr().err
    second.forget(SESSION)
    second.address = second.endpoint.url
    second.close()
    second.open()
    second.settle()
    assert restore(first) != 0
    assert not os.path.exists(restored_path(second))


def test_a_continued_session_that_is_erased_leaves_no_mark(first: DaemonHarness, second: DaemonHarness) -> None:
    """What the other machine's messages were is not known here any more, and nothing is captured again."""
    begin(first)
    restore(second)
    second.write(os.path.relpath(restored_path(second), second.home), claude(SESSION, 3))
    second.settle()
    assert os.listdir(f"{second.state}/restored")
    second.forget(SESSION, everywhere=False)
    assert not os.listdir(f"{second.state}/restored")
    second.write(os.path.relpath(restored_path(second), second.home), claude(SESSION, 4))
    second.settle()
    assert not list(second.spool.catalog.sessions())


def test_a_file_with_other_content_is_never_overwritten(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(first)
    path = restored_path(second)
    second.write(os.path.relpath(path, second.home), claude(SESSION, 1, text="something else"))
    before = read(path)
    assert restore(second) == 1
    assert "exists with other content" in capsys.readouterr().err
    assert read(path) == before


def test_a_link_in_place_of_the_file_is_not_followed(first: DaemonHarness, second: DaemonHarness) -> None:
    begin(first)
    path = restored_path(second)
    os.makedirs(os.path.dirname(path))
    os.symlink(f"{second.home}/precious", path)
    assert restore(second) == 1
    assert not os.path.exists(f"{second.home}/precious")


def test_a_restored_session_of_an_excluded_project_is_not_captured(first: DaemonHarness, second: DaemonHarness) -> None:
    """The project's directory here decides, not the one that the transcript names."""
    begin(first)
    restore(second)
    second.close()
    second.settings["exclude"] = [f"{second.home}/src"]
    second.open()
    second.write(os.path.relpath(restored_path(second), second.home), claude(SESSION, 3))
    second.settle()
    assert list(counts(first)) == ["testbox"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a//b", "a\0b", "."])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(Unrestorable):
        below("/base", name)


def test_a_restore_that_is_killed_leaves_nothing_or_can_be_completed(tmp_path: Path) -> None:
    """It is killed at each line of the engine and the journal. The next one completes it, or removes all of it."""
    outcomes = set()
    for number in range(1, 400):
        base = tmp_path / str(number)
        (base / "state").mkdir(parents=True)
        (base / "tool").mkdir()
        (base / "tool" / "old.jsonl").write_bytes(b"one\n")
        plan = Plan(
            base=f"{base}/tool",
            files=tuple(
                PlannedFile(path=f"{base}/tool/{name}", content=lambda: iter([b"one\n", b"two\n"]), mtime_ms=NOW_MS)
                for name in ("p/side", "p/main.jsonl", "old.jsonl")
            ),
            resume=Command(argv=("tool",), directory="/"),
        )
        killed = _run_and_kill(Restorer(f"{base}/state", {}), plan, number)
        Restorer(f"{base}/state", {}).recover()
        names = sorted(path.name for path in (base / "tool").rglob("*"))
        old = (base / "tool" / "old.jsonl").read_bytes()
        if names == ["old.jsonl"]:
            assert old == b"one\n"
        else:
            assert names == ["main.jsonl", "old.jsonl", "p", "side"]
            assert old == (base / "tool/p/main.jsonl").read_bytes() == b"one\ntwo\n"
        outcomes.add(len(names))
        assert not os.path.exists(f"{base}/state/restoring/journal.json")
        if not killed:
            break
    assert not killed
    assert outcomes == {1, 4}


def _run_and_kill(restorer: Restorer, plan: Plan, number: int) -> bool:
    """Carry out a plan in a child process that ends at the given line of the engine or the journal."""
    child = os.fork()
    if child == 0:
        left = [number]

        def trace(frame: FrameType, event: str, _: object) -> object:
            if "/sessiond/restore/" not in frame.f_code.co_filename:
                return None
            if event == "line":
                left[0] -= 1
                if not left[0]:
                    os._exit(9)
            return trace

        checked = restorer.check(plan)
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            restorer.carry_out(checked)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9
