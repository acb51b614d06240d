"""Old sessions leave the built-in archive only if another endpoint has them: `archive.keep`."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import msgspec
import pytest
from test_safety import World, delete, lines

from sessiond import logs
from sessiond.clock import Clock
from sessiond.config import Config, Token
from sessiond.daemon import archive_keep
from sessiond.daemon.archive_keep import ArchiveKeep
from sessiond.daemon.pusher import Pusher, Target
from sessiond.daemon.throttle import PUSHING, Throttle
from sessiond.endpoint.server.dropping import drop_sessions
from sessiond.endpoint.server.lock import StoreLock
from sessiond.errors import AlreadyRunning, Unreachable
from sessiond.spool.archive_file import ARCHIVE_KEEP
from sessiond.status import read_status
from support.clock import ManualClock
from support.harness import CLAUDE, SESSION, TOKEN, claude

OTHER = SESSION[:-1] + "9"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Yield an archive with two old sessions whose tool has deleted their files, beside an endpoint."""
    with ExitStack() as stack:
        made = World(tmp_path, stack)
        made.harness.write(CLAUDE, *lines(3))
        made.harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1))
        made.harness.settle()
        delete(made)
        os.unlink(os.path.join(made.harness.home, CLAUDE.replace(SESSION, OTHER)))
        made.harness.settle()
        yield made


def copy_archive(world: World) -> None:
    """Copy the archive to the first endpoint."""
    world.configure("first")
    world.harness.settle()
    assert set(world.harness.held_sessions()) >= {SESSION, OTHER}


def compare(world: World, keep: str = "1d") -> set[str]:
    """Compare what is older than `keep`; return the sessions that would be removed."""
    found = ArchiveKeep(world.harness.spool, world.harness.state, keep, Clock())
    while found.wants_archive():
        found.compare_next(world.harness.transfer)
    return {str(each.session) for each in found.confirmed}


def stored(directory: str | Path) -> set[str]:
    with closing(sqlite3.connect(os.path.join(directory, "endpoint.db"))) as store:
        return {row[0] for row in store.execute("SELECT session FROM sessions")}


def test_only_old_sessions_that_were_copied_are_removed(world: World) -> None:
    """By default everything is kept. A session that this machine has continued is not old."""
    world.configure("first")
    world.harness.transfer.prepare()
    assert compare(world) == set()  # not copied yet
    copy_archive(world)
    assert compare(world, "all") == set()
    assert compare(world, "9000d") == set()
    assert compare(world) == {SESSION, OTHER}
    now_ms = int(time.time() * 1000)
    world.harness.spool.connection.execute("UPDATE session SET active_ms = ? WHERE uuid = ?", (now_ms, OTHER))
    assert compare(world) == {SESSION}


@pytest.mark.parametrize("lost", ["record", "bytes", "generation"])
def test_what_the_endpoint_has_lost_is_copied_again(world: World, lost: str) -> None:
    """It was copied whole. Before it is removed, every generation and the record are compared once more."""
    if lost == "generation":
        world.harness.write(CLAUDE, claude(SESSION, 7, text="another beginning"))
        world.harness.settle()
        delete(world)
        world.harness.settle()
    copy_archive(world)
    path = world.base / "first" / "endpoint.db"
    with closing(sqlite3.connect(path)) as store, store:
        (stream,) = store.execute("SELECT stream FROM streams WHERE session = ?", (SESSION,)).fetchone()
        if lost == "record":
            store.execute("DELETE FROM sessions WHERE session = ?", (SESSION,))
        else:
            where = "stream = ?" if lost == "bytes" else "stream = ? AND generation = 0"
            assert store.execute(f"DELETE FROM chunks WHERE {where}", (stream,)).rowcount
            assert store.execute(f"DELETE FROM generations WHERE {where}", (stream,)).rowcount
    assert compare(world) == {OTHER}
    assert world.harness.spool.safety.archive().pending == 1
    assert SESSION in stored(world.base / "archive")


def test_a_failing_endpoint_keeps_everything(world: World) -> None:
    """The attempt ends, and is repeated an hour later; a session that could not be compared stays."""
    copy_archive(world)

    def fail(_: httpx.Request, __: object) -> httpx.Response:
        raise Unreachable("the endpoint is away")

    found = ArchiveKeep(world.harness.spool, world.harness.state, "1d", Clock())
    assert found.wants_archive()
    world.harness.transport.fate = fail
    found.compare_next(world.harness.transfer)
    assert not found.confirmed
    assert not found.wants_archive()
    assert world.harness.spool.safety.archive().pending == 0


def test_a_store_that_is_served_is_left_alone(world: World) -> None:
    """`sessiond restore` may be reading it. Without a reader, a session is removed without a tombstone."""
    store = world.base / "copy"
    shutil.copytree(world.base / "archive", store)
    with StoreLock(str(store)), pytest.raises(AlreadyRunning):
        drop_sessions(str(store), [("testbox", SESSION)])
    assert stored(store) == {SESSION, OTHER}
    assert drop_sessions(str(store), [("testbox", SESSION), ("unknown", OTHER)]) > 0
    assert stored(store) == {OTHER}
    with closing(sqlite3.connect(store / "endpoint.db")) as db:
        assert db.execute("SELECT count(*) FROM forgotten").fetchone() == (0,)


def test_a_store_with_much_unused_space_becomes_smaller(world: World) -> None:
    """Its pages would otherwise stay with the file."""
    store = world.base / "copy"
    shutil.copytree(world.base / "archive", store)
    with closing(sqlite3.connect(store / "endpoint.db")) as db:
        db.execute("UPDATE chunks SET frame = zeroblob(1000000)")
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = os.stat(store / "endpoint.db").st_size
    drop_sessions(str(store), [("testbox", SESSION), ("testbox", OTHER)])
    assert os.stat(store / "endpoint.db").st_size < before / 4


def keep_one_day(world: World) -> tuple[str, Pusher]:
    """Return the directory of a built-in archive whose sessions were copied, and what pushes beside it."""
    harness = world.harness
    store = os.path.join(harness.state, "archive")
    shutil.copytree(world.base / "archive", store)
    copy_archive(world)
    settings = msgspec.convert({"endpoint": {"url": harness.address}, "archive": {"keep": "1d"}}, type=Config)
    return store, Pusher(harness.resources(settings), Target(harness.address, Token(TOKEN)), Throttle(PUSHING))


def test_the_daemon_removes_old_sessions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them was removed already, by a process that was killed. Both still count as safe, but not if the archive
    were the endpoint again.
    """
    monkeypatch.setattr(archive_keep, "GRACE", 60.0)
    harness = world.harness
    store, pusher = keep_one_day(world)
    drop_sessions(store, [("testbox", SESSION)])
    acknowledged = "SELECT 1 FROM acknowledged WHERE endpoint = ?", (str(world.servers["archive"].store.endpoint_id),)
    assert harness.spool.connection.execute(*acknowledged).fetchall()
    while pusher.push().more:
        pass
    assert pusher.idle_seconds() == pytest.approx(1.0)
    pusher.close()  # waits for the process
    assert stored(store) == set()
    archive = harness.spool.safety.archive()
    assert (archive.sessions, archive.pending) == (0, 0)
    assert world.counts().acknowledged == 2
    assert not harness.spool.connection.execute(*acknowledged).fetchall()


def test_many_old_sessions_are_removed_one_part_after_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next part follows as soon as a process has ended, without another push."""
    monkeypatch.setattr(archive_keep, "AT_ONCE", 1)
    store, pusher = keep_one_day(world)
    while pusher.push().more or pusher.idle_seconds() == pytest.approx(1.0):
        time.sleep(0.01)
    pusher.close()
    assert stored(store) == set()


def test_a_process_that_takes_long_ends_with_the_daemon(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_keep, "GRACE", 0.01)
    found = ArchiveKeep(world.harness.spool, world.harness.state, "1d", Clock())
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stderr=subprocess.PIPE)
    found._process = process
    found.close("archive")
    assert process.returncode == -signal.SIGKILL
    assert not found.running


def test_old_sessions_are_searched_once_an_hour(world: World) -> None:
    """Whether there are any is asked after each push."""
    copy_archive(world)
    clock, spool = ManualClock(), world.harness.spool
    found = ArchiveKeep(spool, world.harness.state, "1d", clock)
    spool.connection.execute("UPDATE archived SET active_ms = active_ms + 1000000000000")
    assert not found.wants_archive()
    spool.connection.execute("UPDATE archived SET active_ms = active_ms - 1000000000000")
    clock.advance(archive_keep.EACH_SECONDS - 1)
    assert not found.wants_archive()
    clock.advance(1)
    assert found.wants_archive()
    assert not ArchiveKeep(spool, world.harness.state, "all", clock).wants_archive()


def test_nothing_is_removed_while_the_archive_is_the_endpoint(world: World) -> None:
    """`status` says how many sessions are old, and how many of them exist only there."""
    harness = world.harness
    harness.spool.set_meta(ARCHIVE_KEEP, "86400.0")
    status = read_status(None, world.environ())
    assert (status.archive_old, status.archive_old_only_here) == (2, 2)
    told = [each for each in status.advice if "archive.keep" in each.what]
    assert [each.what for each in told] == [
        "2 sessions older than archive.keep are kept: no other endpoint has them, 2 not even their tools"
    ]
    assert told[0].do is not None
    assert told[0].do.endswith("sessiond forget --before 1d")
    harness.spool.set_meta(ARCHIVE_KEEP, "")
    assert not [each for each in read_status(None, world.environ()).advice if "archive.keep" in each.what]


@pytest.mark.parametrize(
    ("code", "reason"),
    [("import sys; sys.exit('the disk is full')", "the disk is full"), ("exit(3)", "it ended with 3")],
)
def test_the_log_says_why_nothing_was_removed(world: World, code: str, reason: str) -> None:
    """A process that was killed says nothing itself."""
    found = ArchiveKeep(world.harness.spool, world.harness.state, "1d", Clock())
    found._process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    with logs.recorded() as events:
        assert not found.finish("archive", wait=60)
    assert [(each["event"], each["reason"]) for each in events] == [("archive.kept", reason)]
    assert not found.running
