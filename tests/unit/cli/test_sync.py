"""`sessiond sync`: everything is captured and pushed, or an exit code says why not."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from sessiond import pause, state
from sessiond.cli import main
from sessiond.daemon import once
from sessiond.daemon.engine import SLICE_OF_FILE, EngineOptions
from sessiond.daemon.resources import Opening
from sessiond.spool import Spool, health
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, daemon_harness, encode
from support.program import SOURCE, Program
from support.rules_cache import put_rules


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        put_rules(made.state)
        yield made


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def environ(harness: DaemonHarness, **more: str) -> dict[str, str]:
    return {
        "HOME": harness.home,
        "SESSIOND_STATE_DIR": harness.state,
        "SESSIOND_CONFIG": os.devnull,
        "SESSIOND_ENDPOINT__URL": harness.endpoint.url,
        "SESSIOND_MACHINE_ID": "testbox",
        "SESSIOND_TOKEN": TOKEN,
        **more,
    }


def test_it_captures_all_and_pushes_all(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    path = harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2, role="assistant"))
    assert main(["sync"], environ(harness)) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("1 session, all acknowledged\n", "")
    assert harness.held(SESSION) == Path(path).read_bytes()
    assert state.running(harness.state) is None


def test_a_long_file_is_captured_in_slices(harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sync` works in slices like the daemon: no transaction grows with the file, and each one updates `status`."""
    lines = [claude(SESSION, number, text="lorem ipsum " * 4000) for number in range(800)]
    path = harness.write(CLAUDE, *lines)
    positions = [0]

    class Watched(Spool):
        @contextmanager
        def transaction(self) -> Iterator[None]:
            with super().transaction():
                yield
            if not self.connection.in_transaction:
                (folded,) = self.connection.execute("SELECT coalesce(max(folded), 0) FROM stream").fetchone()
                positions.append(folded)

    options = partial(EngineOptions, opening=Opening(open_spool=Watched))
    monkeypatch.setattr(once, "EngineOptions", options)
    assert main(["sync"], environ(harness)) == 0
    assert positions[-1] == os.path.getsize(path) > 30 << 20
    assert max(after - before for before, after in pairwise(positions)) <= 2 * SLICE_OF_FILE
    assert harness.held(SESSION) == Path(path).read_bytes()


def test_what_backfill_leaves_out_is_said(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything captured is acknowledged, but `backfill` leaves out older sessions, from before the first start."""
    path = harness.write(CLAUDE, claude(SESSION, 1))
    os.utime(path, (1, 1))
    new = os.path.join(harness.home, "state")
    assert main(["sync"], environ(harness, SESSIOND_BACKFILL="90d", SESSIOND_STATE_DIR=new)) == 0
    assert capsys.readouterr().out == "0 sessions, all acknowledged; 1 file excluded by backfill\n"


def test_without_an_endpoint_it_pushes_to_the_archive(harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", SOURCE)  # for the archive's own process
    harness.write(CLAUDE, claude(SESSION, 1))
    assert main(["sync"], environ(harness, SESSIOND_ENDPOINT__URL="")) == 0
    assert os.path.exists(os.path.join(harness.state, "archive"))
    assert health.read_endpoint(harness.spool).archive


def test_an_endpoint_out_of_reach_is_69(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """Captured data stays in the outbox."""
    harness.write(CLAUDE, claude(SESSION, 1))
    assert main(["sync"], environ(harness, SESSIOND_ENDPOINT__URL="http://127.0.0.1:9")) == 69
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "http://127.0.0.1:9 can't be reached" in captured.err
    assert harness.spool.stats.waiting().segments == 1


def test_a_refused_token_is_77_even_with_nothing_to_push(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sync"], environ(harness, SESSIOND_TOKEN="another-token-than-that")) == 77
    assert "answered 401" in capsys.readouterr().err
    assert main(["sync"], environ(harness)) == 0
    assert health.read_endpoint(harness.spool).failing_since_ms is None


def test_an_invalid_config_is_78(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync"], environ(harness, SESSIOND_RESCAN="never")) == 78


def test_parked_items_are_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An item that the endpoint will never accept is reported, and does not stop the others."""
    with daemon_harness(tmp_path) as harness:
        harness.uploading.address = harness.endpoint.url
        harness.settle()
        harness.write(CLAUDE, claude(SESSION, 1))
        harness.scan()
        (session,) = harness.spool.outbox.sessions(9)
        with harness.spool.transaction():
            harness.spool.outbox.park_session(session.id, session.revision, "too large")
        assert main(["sync"], environ(harness)) == 4
        assert "1 item parked" in capsys.readouterr().err


def test_a_file_that_can_not_be_read_is_4_and_stops_no_other(harness: DaemonHarness) -> None:
    harness.write(CLAUDE, claude(SESSION, 1))
    store = harness.write(".local/share/opencode/opencode.db", b"no database" * 100)
    assert main(["sync"], environ(harness)) == 4
    assert harness.held(SESSION)
    assert [trouble.path for trouble in harness.spool.stats.troubles(9)] == [store]


def test_two_at_once_take_turns(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """The second one waits for the first, and SIGUSR1 does not end it."""
    harness.write(CLAUDE, claude(SESSION, 1))
    env = {**environ(harness), "PATH": os.defpath}
    both = [Program(["sync"], env, stdout=subprocess.PIPE) for _ in range(2)]
    for each in both:
        assert each.stdout is not None
        with each.stdout:
            assert (each.stdout.read(), each.wait(60)) == (b"1 session, all acknowledged\n", 0)


@pytest.fixture
def daemon(harness: DaemonHarness) -> Iterator[Program]:
    """Run a real daemon."""
    process = Program(["run"], {**environ(harness, SESSIOND_RESCAN="1h"), "PATH": os.defpath})
    until = time.monotonic() + 30
    while health.read_capture(harness.spool).discovered is None and time.monotonic() < until:
        time.sleep(0.05)
    yield process
    process.terminate()
    process.wait(20)


def test_a_running_daemon_does_it_and_is_waited_for(
    harness: DaemonHarness, daemon: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its lock is respected, and everything that existed when `sync` was called is at the endpoint when it ends."""
    path = harness.write(CLAUDE, encode(claude(SESSION, 1)))
    assert main(["sync", "--timeout", "60s"], environ(harness)) == 0
    assert capsys.readouterr().out == "1 session, all acknowledged\n"
    assert harness.held(SESSION) == Path(path).read_bytes()
    assert daemon.poll() is None


def test_beside_a_paused_daemon_it_says_so_and_ends(
    harness: DaemonHarness, daemon: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sync` captures everything. It does not wait for the pause to end, since nothing is pushed before."""
    assert main(["pause"], environ(harness)) == 0
    harness.write(CLAUDE, claude(SESSION, 1))
    capsys.readouterr()
    assert main(["sync"], environ(harness)) == 4
    assert capsys.readouterr().err == (
        "sessiond: pushing is paused until `sessiond unpause`: 0 files to read, 1 record and 1 segment to push\n"
        "  `sessiond unpause` ends the pause\n"
    )
    assert harness.held_sessions() == {}
    assert main(["unpause"], environ(harness)) == 0
    assert main(["sync"], environ(harness)) == 0


def test_a_pause_holds_without_a_daemon_too(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    harness.write(CLAUDE, claude(SESSION, 1))
    pause.write(harness.state, pause.Paused(pushing=pause.INDEFINITELY, sources={"codex": pause.INDEFINITELY}))
    assert main(["sync"], environ(harness)) == 4
    assert "pushing is paused until `sessiond unpause`" in capsys.readouterr().err
    assert harness.held_sessions() == {}
    pause.write(harness.state, pause.Paused())
    assert main(["sync"], environ(harness)) == 0
    pause.write(harness.state, pause.Paused(sources={"claude-code": pause.INDEFINITELY}))
    harness.write(CLAUDE, claude(SESSION, 2))
    assert main(["sync"], environ(harness)) == 0
    assert harness.held(SESSION).count(b"\n") == 1


def test_the_timeout_is_4(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """The holder of the lock does nothing."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    lock = state.Lock(harness.state)
    try:
        assert main(["sync", "--timeout", "200ms"], environ(harness)) == 4
        assert capsys.readouterr().err.startswith("sessiond: not everything is pushed yet\n")
    finally:
        lock.release()


def test_a_wrong_timeout_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", "--timeout", "soon"], {}) == 2
