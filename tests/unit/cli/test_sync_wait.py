"""`sync` beside a running daemon: what it does while the daemon works."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sessiond.cli import sync
from sessiond.cli.sync import Incomplete
from sessiond.daemon import once
from sessiond.state import Holder
from support.capture import lab


def test_the_result_is_not_counted_before_the_daemon_has_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a query over all sessions, and nothing of it is used before the daemon has scanned."""
    counted: list[str] = []
    monkeypatch.setattr(os, "kill", lambda *_: None)
    with lab(tmp_path) as harness:
        directory = harness.resources.directory
        monkeypatch.setattr("sessiond.state.running", lambda _: Holder(pid=os.getpid()))
        monkeypatch.setattr(once, "sync_result", lambda *_: counted.append("result"))
        with pytest.raises(Incomplete):
            sync._watch(harness.resources.spool, directory, os.getpid(), until=0.0)
        assert not counted


def test_checks_leave_the_daemon_most_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of 10,000 sessions that takes long is made less often."""
    pauses: list[float] = []
    clock = iter(range(100))
    monkeypatch.setattr(os, "kill", lambda *_: None)
    monkeypatch.setattr(time, "thread_time", lambda: float(next(clock)))
    monkeypatch.setattr(time, "sleep", pauses.append)
    with lab(tmp_path) as harness:
        holders = iter([Holder(pid=os.getpid()), None])
        monkeypatch.setattr("sessiond.state.running", lambda _: next(holders))
        assert sync._watch(harness.resources.spool, harness.resources.directory, os.getpid(), until=None) is None
    assert pauses == [sync.REST * 1.0]
