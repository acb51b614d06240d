"""What the daemon's parts do when what they stand on gives way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from capture_lab import lab
from sessiond import state
from sessiond.config import Config
from sessiond.daemon.archive import Archive
from sessiond.daemon.capturing import Capturing
from sessiond.daemon.edits import CONFIG
from sessiond.daemon.rooms import Rooms, open_rooms
from sessiond.errors import StateError
from sessiond.sources.base import Root, UserDirs, Watch
from sessiond.watch import Batch, WatchedRoot, Watcher


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Rooms]:
    (tmp_path / "state").mkdir(mode=0o700)
    endpoint = {"url": "http://127.0.0.1:9"}
    config = msgspec.convert({"state_dir": str(tmp_path / "state"), "endpoint": endpoint}, type=Config)
    made = open_rooms(config, {"HOME": str(tmp_path)})
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
def capturing(rooms: Rooms) -> Iterator[Capturing]:
    """A room that captures, without its thread."""
    watcher, lock = Watcher([]), state.Lock(rooms.directory)
    places = UserDirs(home="/nowhere", environ={})
    yield Capturing(rooms, watcher, lock, captured=lambda: None, aside=lambda _: False, places=places)
    watcher.close()
    lock.release()


def test_a_look_that_is_asked_for_puts_no_other_off(tmp_path: Path) -> None:
    """What was due at the same time is the configuration's directory too, and a tool's list of further roots."""
    registry = tmp_path / "home/.local/share/crush/projects.json"
    registry.parent.mkdir(parents=True)
    due = WatchedRoot(root=Root(path=str(tmp_path / "config"), watch=Watch.FLAT, depth=0), owner=CONFIG)
    told: list[str] = []
    with lab(tmp_path, aside=lambda path: bool(told.append(path))) as house:
        house.capturing.look_now()
        house.capturing._take(Batch(rescan=(due,)))
        assert {due.root.path, str(registry)} <= set(told)
        assert house.turn().looked_ms is not None


def test_a_change_that_is_no_sessions_wakes_nobody(rooms: Rooms, capturing: Capturing, tmp_path: Path) -> None:
    """Our own spool may lie in a directory that is watched: what we write there must not make us write again."""
    project = tmp_path / ".claude/projects/-home-dev"
    ours = {f"{rooms.directory}/spool.db-wal", f"{rooms.directory}/lock", f"{project}/notes.txt"}
    capturing._take(Batch(paths=frozenset(ours)))
    assert not capturing._turns
    session = f"{project}/5f1d7c1e-0000-4000-8000-000000000001.jsonl"
    capturing._take(Batch(paths=frozenset({*ours, session})))
    assert session in capturing._turns


def test_an_archive_that_never_listens_is_given_up(tmp_path: Path) -> None:
    """What it needs hangs (a dead network disk; here a file that nobody writes): the daemon says so, and goes on."""
    (tmp_path / "archive").mkdir()
    os.mkfifo(tmp_path / "archive" / "token")
    with pytest.raises(StateError, match="archive did not start"):
        Archive(str(tmp_path), lambda: None, patience=2.0)


def test_files_that_go_cost_no_search_through_all_others(capturing: Capturing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean-up deletes thousands at once; only a directory's name stands for what was below it."""
    searched: list[str] = []
    monkeypatch.setattr(capturing, "_forget_below", searched.append)
    capturing._settled = {"/nowhere/a/1": 1, "/nowhere/b/1": 2}
    capturing._take(Batch(paths=frozenset({"/nowhere/a/1", "/nowhere/b"})))
    assert searched == ["/nowhere/b"]
