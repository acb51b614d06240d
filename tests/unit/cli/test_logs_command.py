"""`sessiond logs` over the rotated file: past lines, new lines, and filters. (The journal: tests/process/service.)"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sessiond.logs.sinks import Failures, FileSink
from support.harness import CLAUDE, SESSION, claude, encode
from support.program import SOURCE, Program, run
from support.rules_cache import put_rules
from support.terminal import Terminal


def event(number: int, level: str = "info", **keys: object) -> dict[str, object]:
    at = datetime(2026, 9, 1, 10, 0, number, tzinfo=UTC).isoformat().replace("+00:00", "Z")
    return {"timestamp": at, "level": level, "event": "upload.acked", "sessions": number, **keys}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "home").mkdir()
    return {
        "HOME": str(tmp_path / "home"),
        "PATH": os.defpath,
        "PYTHONPATH": SOURCE,
        "SESSIOND_STATE_DIR": str(tmp_path / "state"),
        "TZ": "UTC",
    }


class LogFile:
    """The daemon's log file."""

    def __init__(self, path: Path, **options: int) -> None:
        self._sink = FileSink(str(path), Failures(), **options)
        self.close = self._sink.close

    def write(self, event: dict[str, object]) -> None:
        """Append an event."""
        self._sink.handle(logging.makeLogRecord({"msg": event, "_logger": None, "_name": "info"}))


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., LogFile]:
    return lambda **options: LogFile(tmp_path / "state" / "log" / "sessiond.log", **options)


class Follower:
    """`sessiond logs -f --json` as a process, read line by line."""

    def __init__(self, environ: dict[str, str], *words: str) -> None:
        self.process = Program(["logs", "-f", "--json", *words], environ, stdout=subprocess.PIPE)

    def next(self) -> dict[str, object]:
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], 60)[0], "nothing came"
        return json.loads(self.process.stdout.readline())

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(20)
        assert self.process.stdout
        self.process.stdout.close()
        return code


def test_following_goes_on_through_a_rotation(environ: dict[str, str], log: Callable[..., LogFile]) -> None:
    """A line that is written between two reads, or whose file was renamed meanwhile, is not missed."""
    file = log(size=300, count=9)
    file.write(event(0))
    follower = Follower(environ)
    assert follower.next()["sessions"] == 0
    for number in range(1, 12):  # two or three lines to a file
        file.write(event(number))
        assert follower.next()["sessions"] == number
    assert follower.end() == 130
    file.close()


def test_a_level_and_a_tool_leave_the_rest_out(environ: dict[str, str], log: Callable[..., LogFile]) -> None:
    file = log()
    follower = None
    for number, (level, tool) in enumerate(
        [("info", "codex"), ("warning", "codex"), ("error", "amp"), ("debug", "codex")]
    ):
        file.write(event(number, level, tool=tool))
        follower = follower or Follower(environ, "--level", "warning", "--tool", "codex")
    assert follower is not None
    assert follower.next()["sessions"] == 1
    file.write(event(9, "error", tool="codex"))
    assert follower.next()["sessions"] == 9
    follower.end()
    file.close()


def test_a_time_in_words_or_as_it_stands(environ: dict[str, str], log: Callable[..., LogFile]) -> None:
    file = log()
    for number in range(4):
        file.write(event(number))

    def shown(since: str) -> list[int]:
        done = run(["logs", "--json", "--since", since], environ)
        assert done.returncode == 0
        return [json.loads(line)["sessions"] for line in done.stdout.splitlines()]

    assert shown("2026-09-01T10:00:02Z") == [2, 3]
    assert shown("2026-09-01T12:00:02+02:00") == [2, 3]
    assert shown("5000d") == [0, 1, 2, 3]
    assert shown("1m") == []
    done = run(["logs", "--since", "1m"], environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no matching events\n")
    file.close()


def test_a_terminal_gets_local_times_and_colour(environ: dict[str, str], log: Callable[..., LogFile]) -> None:
    file = log()
    file.write(event(1, "warning", reason="a b"))
    file.close()
    shown = {key: value for key, value in environ.items() if key.startswith(("HOME", "SESSIOND"))}
    with Terminal(["logs"], {**shown, "TZ": "Asia/Tokyo"}) as terminal:
        assert terminal.end() == 0
        assert terminal.text == '2026-09-01 19:00:01 [warning] upload.acked sessions=1 reason="a b"'
        assert b"[\x1b[33mwarning" in terminal.written


@pytest.fixture
def daemon(environ: dict[str, str]) -> Iterator[Program]:
    put_rules(environ["SESSIOND_STATE_DIR"])
    process = Program(["run"], environ)
    yield process
    process.terminate()
    process.wait(30)


def test_the_level_changes_while_it_runs(environ: dict[str, str], daemon: Program, tmp_path: Path) -> None:
    """Events of the new level are followed from then on; the daemon is the same."""
    log = tmp_path / "state" / "log" / "sessiond.log"
    session = tmp_path / "home" / CLAUDE
    while not (log.exists() and b"daemon.started" in log.read_bytes()):
        assert daemon.poll() is None
        select.select([], [], [], 0.05)
    follower = Follower(environ)
    assert run(["config", "set", "log.level", "debug"], environ).returncode == 0
    names: list[object] = []
    while "config.reloaded" not in names:
        names.append(follower.next()["event"])
    session.parent.mkdir(parents=True)
    session.write_bytes(encode(claude(SESSION, 1)))
    found: dict[str, object] = {}
    while found.get("event") != "ingest.captured":
        found = follower.next()
    assert (found["level"], found["tool"]) == ("debug", "claude-code")
    assert names.count("daemon.started") == 1
    follower.end()
