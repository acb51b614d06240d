"""What the daemon's parts do when something that they depend on fails."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import ProgrammingError

import pytest

from sessiond import state
from sessiond.config import Config, Loaded
from sessiond.daemon import capture_loop
from sessiond.daemon.archive import Archive
from sessiond.daemon.config_watch import ConfigWatch
from sessiond.daemon.messages import Captured, Message, Ping, ScanNow, Stop
from sessiond.errors import StateError, StateFull
from sessiond.spool import Spool
from sessiond.spool.health import CLEAN
from sessiond.watch import Batch
from support.capture import lab, session, write
from support.harness import claude, encode


def test_an_archive_that_dies_at_once_is_not_started_in_a_loop(tmp_path: Path) -> None:
    """Its store may be damaged: there is a pause between two starts."""
    died: list[float] = []
    began = time.monotonic()
    archive = Archive(str(tmp_path), lambda: died.append(time.monotonic()), respawn=3.0)
    os.kill(archive.pid, signal.SIGKILL)
    while not died and time.monotonic() < began + 20:
        time.sleep(0.05)
    archive.stop()
    assert died[0] - began >= 3.0


def test_a_scan_on_request_delays_no_other(tmp_path: Path) -> None:
    """The configuration's directory may be due at the same time, and a tool's list of further roots."""
    registry = tmp_path / "home/.local/share/crush/projects.json"
    registry.parent.mkdir(parents=True)
    config = tmp_path / "config" / "config.toml"
    config.parent.mkdir()
    with lab(tmp_path) as harness:
        harness.capture_loop.config_files = ConfigWatch(Loaded(config=Config()), {}, str(config))
        roots = harness.capture_loop.config_files.roots()
        due = next(watched for watched in roots if "config.d" not in watched.root.path)
        harness.engine.inboxes.capture.put(ScanNow())
        harness.capture_loop.add_batch(Batch(rescan=(due,)))
        main = harness.engine.inboxes.main
        assert {main.get_nowait() for _ in range(main.qsize())} == {Message.EDITED, Message.MOVED}
        assert harness.turn().looked_ms is not None


def test_a_change_outside_of_sessions_queues_nothing(tmp_path: Path) -> None:
    """Our own spool may be in a watched directory: our writes must not make us write again."""
    project = tmp_path / "home/.claude/projects/-home-dev"
    with lab(tmp_path) as harness:
        harness.look()
        own = harness.resources.directory
        harness.report(f"{own}/spool.db-wal", f"{own}/lock", f"{project}/notes.txt")
        assert not harness.queue.has_live
        session = f"{project}/5f1d7c1e-0000-4000-8000-000000000001.jsonl"
        harness.report(f"{own}/lock", session)
        assert session in harness.queue


@pytest.mark.parametrize(("started", "whole", "pushes"), [(True, True, 1), (True, False, 0), (False, True, 0)])
def test_only_an_engine_that_worked_and_ends_well_pushes_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: bool, whole: bool, pushes: int
) -> None:
    """After an error the spool may be damaged, so nothing more is sent from it."""
    pushed: list[int] = []
    with lab(tmp_path) as harness:
        monkeypatch.setattr(harness.engine.upload_loop, "last_push", lambda: pushed.append(1))
        if started:
            harness.engine.start()
        harness.engine.stop(whole=whole)
        assert len(pushed) == pushes


def test_an_engine_with_one_thread_is_alive_but_not_intact(tmp_path: Path) -> None:
    """`demo` would wait forever for the work of the other thread."""
    with lab(tmp_path) as harness:
        engine = harness.engine
        assert (engine.alive, engine.intact) == (False, False)
        engine.start()
        assert (engine.alive, engine.intact) == (True, True)
        engine.inboxes.capture.put(Stop())
        deadline = time.monotonic() + 60
        while engine.intact:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert engine.alive


def test_status_knows_the_daemon_before_its_first_scan(tmp_path: Path) -> None:
    """A long scan would otherwise leave `status` with what an earlier daemon stored."""
    with lab(tmp_path) as harness:
        harness.engine.inboxes.capture.put(Stop())
        harness.capture_loop.run()
        assert harness.health().pid == os.getpid()
        assert Captured() in harness.engine.inboxes.upload.take(), "what was captured last is pushed"


def test_the_next_start_checks_the_spool_only_after_an_error(tmp_path: Path) -> None:
    """The check reads all of it. An engine that ended in order has closed the spool, and stored that."""

    def clean() -> bool:
        with closing(Spool(str(tmp_path / "state"))) as spool:
            return spool.meta(CLEAN) is not None

    with lab(tmp_path) as harness:
        assert not clean()
    assert clean()
    with pytest.raises(ProgrammingError):
        harness.resources.spool.connection.execute("SELECT 1")
    with pytest.raises(ZeroDivisionError), lab(tmp_path):
        raise ZeroDivisionError
    assert not clean()


def test_only_a_change_of_its_file_asks_for_a_tools_list_of_roots(tmp_path: Path) -> None:
    """The main thread must not search all roots again with each line of a session."""
    registry = tmp_path / "home/.local/share/crush/projects.json"
    registry.parent.mkdir(parents=True)
    path = write(tmp_path, 1, age=0)
    with lab(tmp_path) as harness:
        main = harness.engine.inboxes.main
        harness.report(path)
        assert main.empty()
        harness.report(str(registry))
        assert main.get_nowait() is Message.MOVED
        assert main.empty()
        assert len(harness.resources.registries) > 1
        harness.look()
        assert main.get_nowait() is Message.MOVED
        assert main.empty()


def test_a_disk_that_has_room_again_stops_nothing(tmp_path: Path) -> None:
    """Only the report did not fit, and nothing is left to read: the next iteration reports that all is well."""
    with lab(tmp_path) as harness:
        harness.look()
        harness.lock.note(stopped="the disk is full")
        harness.queue.restart()
        harness.engine.inboxes.capture.put(Ping())  # otherwise the iteration would wait for an event
        harness.capture_loop.step()
        holder = state.running(harness.resources.directory)
        assert holder is not None
        assert holder.stopped is None


def test_what_a_failed_commit_had_is_read_again(tmp_path: Path) -> None:
    """The disk fills up: uncommitted work stays queued, and nothing is captured twice."""
    paths = [write(tmp_path, number, age=0) for number in (1, 2, 3)]
    with open(paths[-1], "ab") as file:
        file.write(encode(claude(session(3), 9, text=os.urandom(200_000).hex())))
    with lab(tmp_path) as harness:
        spool = harness.resources.spool
        harness.report(*paths)
        (pages,) = spool.connection.execute("PRAGMA page_count").fetchone()
        spool.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StateFull):
            harness.turn()
        captured = harness.captured()
        assert session(3) not in captured
        assert all(path in harness.queue for number, path in enumerate(paths, 1) if session(number) not in captured)
        spool.connection.execute("PRAGMA max_page_count = 1000000")
        harness.queue.restart()
        harness.turn()
        assert harness.captured() == {session(1), session(2), session(3)}
        assert not harness.queue.has_live
        sizes = spool.connection.execute("SELECT sum(length) FROM segment").fetchone()
        assert sizes == (sum(os.path.getsize(path) for path in paths),)


def test_a_live_line_comes_first_after_a_file_that_did_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The round is not finished first: each of its parts could fail as well, with ten seconds in between."""
    monkeypatch.setattr(capture_loop, "FULL_WAIT", 0.0)
    with open(write(tmp_path, 1, age=0), "ab") as file:
        file.write(encode(claude(session(1), 9, text=os.urandom(200_000).hex())))
    captured: list[set[str]] = []
    with lab(tmp_path) as harness:
        spool = harness.resources.spool

        def note(*, stopped: str | None) -> None:
            if stopped is None:
                captured.append(harness.captured())
                harness.engine.inboxes.capture.put(Stop())
            else:
                spool.connection.execute("PRAGMA max_page_count = 1000000")
                harness.report(write(tmp_path, 2, age=0))

        monkeypatch.setattr(harness.lock, "note", note)
        harness.watcher.wait(0.0)
        harness.scan()
        (pages,) = spool.connection.execute("PRAGMA page_count").fetchone()
        spool.connection.execute(f"PRAGMA max_page_count = {pages}")
        harness.capture_loop.run()
        assert session(2) in captured[0]


def test_an_archive_that_never_listens_is_given_up(tmp_path: Path) -> None:
    """It hangs on a dead network disk (here a FIFO without a writer): the daemon reports it, and goes on."""
    (tmp_path / "archive").mkdir()
    os.mkfifo(tmp_path / "archive" / "token")
    with pytest.raises(StateError, match="archive did not start"):
        Archive(str(tmp_path), lambda: None, patience=2.0)


class CountingInventory(dict[str, int]):
    """An inventory that counts the searches through all its paths."""

    searches = 0

    def __iter__(self) -> Iterator[str]:
        self.searches += 1
        return super().__iter__()


def test_files_that_vanish_cost_no_search_through_all_others(tmp_path: Path) -> None:
    """A clean-up deletes thousands of files at once. Only the path of a deleted directory covers others."""
    with lab(tmp_path) as harness:
        inventory = CountingInventory({f"/nowhere/a/{number}": 1 for number in range(1000)} | {"/nowhere/b/1": 2})
        harness.capture_loop.scanner.inventory = inventory
        harness.report(*(f"/nowhere/a/{number}" for number in range(1000)))
        assert (inventory.searches, set(inventory)) == (0, {"/nowhere/b/1"})
        inventory.searches = 0
        harness.report("/nowhere/b")
        assert (inventory.searches, len(inventory)) == (1, 0)
        assert "/nowhere/b/1" in harness.queue
