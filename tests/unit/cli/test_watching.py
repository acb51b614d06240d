"""`sessiond status --watch`: the same screen, redrawn in place when it changes, at low cost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond import pause, state
from sessiond.spool import health
from sessiond.spool.health import CaptureHealth, EndpointHealth
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness
from support.program import Program
from support.rules_cache import put_rules
from support.terminal import Terminal

SECOND_SCREEN, FIRST_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        put_rules(made.state)
        health.write(made.spool, CaptureHealth(pid=os.getpid(), machine_id="testbox", discovered={}))
        yield made


@pytest.fixture
def daemon(harness: DaemonHarness) -> Iterator[state.Lock]:
    lock = state.Lock(harness.state, "systemd")
    yield lock
    lock.release()


def environ(harness: DaemonHarness, **more: str) -> dict[str, str]:
    return {"HOME": harness.home, "SESSIOND_STATE_DIR": harness.state, **more}


def test_it_draws_in_place_what_changes_until_ctrl_c(harness: DaemonHarness, daemon: state.Lock) -> None:
    """The exit code is 0, the cursor and the first screen are restored, and the last status stays visible."""
    with Terminal(["status", "--watch"], environ(harness)) as terminal:
        terminal.until(lambda: "captured      0 sessions" in terminal.text)
        harness.write(CLAUDE, claude(SESSION, 1))
        harness.scan()
        terminal.until(lambda: "captured      1 session, 0 ongoing" in terminal.text)
        assert terminal.text.count("captured") == 1
        pause.write(harness.state, pause.Paused(pushing=pause.INDEFINITELY))
        terminal.until(lambda: "pushing is paused" in terminal.text)
        terminal.interrupt()
        assert terminal.end() == 0
        assert terminal.written.startswith(SECOND_SCREEN)
        assert terminal.written.partition(FIRST_SCREEN)[2].startswith(b"\x1b[1msessiond")
        assert "Traceback" not in terminal.text


def test_a_daemon_that_is_killed_is_seen(harness: DaemonHarness) -> None:
    """A killed daemon writes nothing, but its lock is free."""
    lock = state.Lock(harness.state)
    with Terminal(["status", "--watch"], environ(harness)) as terminal:
        terminal.until(lambda: "sessiond      running" in terminal.text)
        lock.release()
        terminal.until(lambda: "sessiond      not running: it died" in terminal.text)


def test_a_window_that_is_too_small_shows_the_head(harness: DaemonHarness) -> None:
    with Terminal(["status", "--watch"], environ(harness), rows=6) as terminal:
        terminal.until(lambda: "more lines; enlarge the window" in terminal.text)
        assert terminal.text.startswith("sessiond      not running: it died")
        terminal.resize(60, 30)
        terminal.until(lambda: "start it again" in terminal.text)
        assert max(map(len, terminal.text.splitlines())) <= 60


def test_sigterm_gives_the_terminal_back(harness: DaemonHarness) -> None:
    with Terminal(["status", "--watch"], environ(harness)) as terminal:
        terminal.until(lambda: "sessiond      not running" in terminal.text)
        terminal.process.terminate()
        assert terminal.end() == 128 + signal.SIGTERM
        assert FIRST_SCREEN in terminal.written


def test_off_a_terminal_it_prints_once_for_each_change(harness: DaemonHarness, daemon: state.Lock) -> None:
    """With --json each change is one line, for programs. A growing age is no change."""
    env = environ(harness, PATH=os.defpath)
    plain = Program(["status", "--watch"], env, stdout=subprocess.PIPE)
    lines = Program(["status", "--watch", "--json"], env, stdout=subprocess.PIPE)
    assert plain.stdout and lines.stdout
    assert json.loads(lines.stdout.readline())["totals"]["captured"] == 0
    first = b"".join(iter(plain.stdout.readline, b"\n")).decode()
    assert first.startswith("sessiond      running")
    assert "\x1b" not in first
    health.write(harness.spool, EndpointHealth(url="x", archive=True, last_ack_ms=time.time_ns() // 1_000_000))
    assert json.loads(lines.stdout.readline())["endpoint"]["last_ack_ms"]
    assert "endpoint      archive on this machine: last ack" in b"".join(iter(plain.stdout.readline, b"\n")).decode()
    for process in (plain, lines):
        process.send_signal(signal.SIGINT)
        assert process.stdout
        assert (process.stdout.read(), process.wait(20)) == (b"", 0)
        process.stdout.close()
