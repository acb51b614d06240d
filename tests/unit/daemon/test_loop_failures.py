"""What the daemon's parts do when what they stand on gives way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sessiond import state
from sessiond.config import Config
from sessiond.daemon import capture_loop as capture_loop_module
from sessiond.daemon.archive import Archive
from sessiond.daemon.capture_loop import CaptureLoop
from sessiond.daemon.config_watch import CONFIG
from sessiond.daemon.inventory import Inventory
from sessiond.daemon.resources import Resources, open_resources
from sessiond.errors import StateError
from sessiond.sources.base import Root, UserDirs, Watch
from sessiond.watch import Batch, WatchedRoot, Watcher
from support.capture import lab


@pytest.fixture
def resources(tmp_path: Path) -> Iterator[Resources]:
    (tmp_path / "state").mkdir(mode=0o700)
    endpoint = {"url": "http://127.0.0.1:9"}
    config = msgspec.convert({"state_dir": str(tmp_path / "state"), "endpoint": endpoint}, type=Config)
    made = open_resources(config, {"HOME": str(tmp_path)})
    yield made
    made.close()


def test_an_archive_that_dies_at_once_is_not_started_in_a_loop(tmp_path: Path) -> None:
    """Its store is damaged, say: between two starts there is time."""
    died: list[float] = []
    began = time.monotonic()
    archive = Archive(str(tmp_path), lambda: died.append(time.monotonic()), respawn=3.0)
    os.kill(archive.pid, signal.SIGKILL)
    while not died and time.monotonic() < began + 20:
        time.sleep(0.05)
    archive.stop()
    assert died[0] - began >= 3.0


@pytest.fixture
def capture_loop(resources: Resources) -> Iterator[CaptureLoop]:
    """A room that captures, without its thread."""
    watcher, lock = Watcher([]), state.Lock(resources.directory)
    user_dirs = UserDirs(home="/nowhere", environ={})
    yield CaptureLoop(
        resources, watcher, lock, on_captured=lambda: None, handle_other=lambda _: False, user_dirs=user_dirs
    )
    watcher.close()
    lock.release()


def test_a_look_that_is_asked_for_puts_no_other_off(tmp_path: Path) -> None:
    """What was due at the same time is the configuration's directory too, and a tool's list of further roots."""
    registry = tmp_path / "home/.local/share/crush/projects.json"
    registry.parent.mkdir(parents=True)
    due = WatchedRoot(root=Root(path=str(tmp_path / "config"), watch=Watch.FLAT, depth=0), owner=CONFIG)
    told: list[str] = []
    with lab(tmp_path, handle_other=lambda path: bool(told.append(path))) as house:
        house.capture_loop.request_rescan()
        house.capture_loop._queue_batch(Batch(rescan=(due,)))
        assert {due.root.path, str(registry)} <= set(told)
        assert house.turn().looked_ms is not None


def test_a_change_that_is_no_sessions_wakes_nobody(
    resources: Resources, capture_loop: CaptureLoop, tmp_path: Path
) -> None:
    """Our own spool may lie in a directory that is watched: what we write there must not make us write again."""
    project = tmp_path / ".claude/projects/-home-dev"
    ours = {f"{resources.directory}/spool.db-wal", f"{resources.directory}/lock", f"{project}/notes.txt"}
    capture_loop._queue_batch(Batch(paths=frozenset(ours)))
    assert not capture_loop._changed_files
    session = f"{project}/5f1d7c1e-0000-4000-8000-000000000001.jsonl"
    capture_loop._queue_batch(Batch(paths=frozenset({*ours, session})))
    assert session in capture_loop._changed_files


def test_an_archive_that_never_listens_is_given_up(tmp_path: Path) -> None:
    """What it needs hangs (a dead network disk; here a file that nobody writes): the daemon says so, and goes on."""
    (tmp_path / "archive").mkdir()
    os.mkfifo(tmp_path / "archive" / "token")
    with pytest.raises(StateError, match="archive did not start"):
        Archive(str(tmp_path), lambda: None, patience=2.0)


def test_files_that_go_cost_no_search_through_all_others(
    capture_loop: CaptureLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clean-up deletes thousands of files at once. Only the path of a deleted directory covers others."""
    searched: list[str] = []

    def forget_below(_: Inventory, directory: str) -> list[str]:
        searched.append(directory)
        return []

    monkeypatch.setattr(capture_loop_module, "forget_below", forget_below)
    capture_loop._inventory = {"/nowhere/a/1": 1, "/nowhere/b/1": 2}
    capture_loop._queue_batch(Batch(paths=frozenset({"/nowhere/a/1", "/nowhere/b"})))
    assert searched == ["/nowhere/b"]
