"""When the daemon copies the built-in archive, and what it does if that fails."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import httpx
import msgspec
import pytest
from test_safety import World, delete, lines

from sessiond.clock import now_ms
from sessiond.config import Config, Token
from sessiond.daemon import archive_copy
from sessiond.daemon.archive import open_archive
from sessiond.daemon.messages import Cause
from sessiond.daemon.pusher import Pusher, Target
from sessiond.daemon.throttle import PUSHING, Throttle
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import ArchiveUnreadable, Unreachable
from sessiond.state import archive_files
from sessiond.upload import BatchResult, bind
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


@pytest.fixture
def pushing(world: World) -> Iterator[Pusher]:
    """Yield the pusher of the first endpoint beside an archive with one session, without its thread."""
    harness = world.harness
    harness.write(CLAUDE, *lines(3))
    harness.settle()
    delete(world)
    harness.settle()
    shutil.copytree(world.base / "archive", os.path.join(harness.state, "archive"))
    world.configure("first")
    resources = harness.resources(msgspec.convert({"endpoint": {"url": harness.address}}, type=Config))
    made = Pusher(resources, Target(harness.address, Token(TOKEN)), Throttle(PUSHING))
    yield made
    made.close()


def push(pushing: Pusher) -> None:
    for _ in range(20):
        if not pushing.push().more or pushing.state.health.next_attempt_ms is not None:
            return


def test_what_is_new_does_not_wait_for_an_archive_that_cannot_be_copied(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records are still pushed if, for example, the endpoint has no room for transcripts."""

    def step(**_: object) -> BatchResult:
        raise Unreachable("the endpoint has no room for more transcripts")

    monkeypatch.setattr(pushing.archive, "step", step)
    monkeypatch.setattr(pushing.archive, "pending", lambda _=0: True)
    fresh = SESSION[:-1] + "9"
    world.harness.write(CLAUDE.replace(SESSION, fresh), claude(fresh, 1))
    world.harness.scan()
    push(pushing)
    assert fresh in world.harness.held_sessions()
    assert pushing.idle_seconds() is not None  # and it is tried again


def test_a_record_alone_is_progress_beside_an_archive_that_cannot_be_copied(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that ended has a new record and no new bytes. It was acknowledged, so the push has not failed."""
    harness = world.harness
    fresh = SESSION[:-1] + "9"
    harness.write(CLAUDE.replace(SESSION, fresh), claude(fresh, 1))
    for _ in range(2):  # the endpoint is asked what it has, and then it gets the rest
        harness.scan()
        push(pushing)

    def step(**_: object) -> BatchResult:
        raise Unreachable("the endpoint has no room for more transcripts")

    monkeypatch.setattr(pushing.archive, "step", step)
    monkeypatch.setattr(pushing.archive, "pending", lambda _=0: True)
    with harness.spool.transaction():
        for captured in harness.spool.catalog.sessions():
            harness.spool.catalog.raise_revision(captured.id, 0, now_ms())
    waiting = harness.spool.stats.waiting()
    assert waiting.sessions > 0
    assert waiting.segments == 0
    assert pushing.push().more
    assert pushing.state.health.failures == 0


def test_what_an_archive_had_to_copy_is_forgotten_with_it(world: World, pushing: Pusher) -> None:
    """It was moved away: `status` would otherwise report its sessions as waiting for good."""
    harness = world.harness
    pushing.retrying.identify_again()
    bind(pushing.context)
    pushing.archive.prepare()
    assert harness.spool.safety.archive().sessions == 1
    shutil.rmtree(os.path.join(harness.state, "archive"))
    resources = harness.resources(msgspec.convert({"endpoint": {"url": harness.address}}, type=Config))
    again = Pusher(resources, Target(harness.address, Token(TOKEN)), Throttle(PUSHING))
    try:
        archive = harness.spool.safety.archive()
        assert (archive.sessions, archive.pending) == (0, 0)
    finally:
        again.close()


def test_an_archive_that_could_not_be_read_is_tried_again(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have served it for a while, or its process was killed."""
    harness = world.harness
    opened: list[Callable[[], ReadClient]] = [lambda: client(harness)]

    def open_archive(directory: str, device: object) -> ReadClient:
        if opened:
            return opened.pop()()
        raise ArchiveUnreadable("the built-in archive did not start")

    failing, opened[:] = list(opened), []
    monkeypatch.setattr("sessiond.daemon.archive.open_archive", open_archive)
    push(pushing)
    assert harness.spool.safety.archive().problem is not None
    opened[:] = failing
    pushing.retrying.identify_again()
    push(pushing)
    assert harness.spool.safety.archive().problem is not None  # not at once: it is started for each try
    monkeypatch.setattr(archive_copy, "UNREADABLE_RETRY", 0.0)
    pushing.retrying.identify_again()
    push(pushing)
    archive = harness.spool.safety.archive()
    assert (archive.problem, archive.sessions, archive.pending) == (None, 1, 0)
    assert SESSION in harness.held_sessions()


def client(harness: DaemonHarness) -> ReadClient:
    assert harness.archive is not None
    return ReadClient(harness.archive.url, harness.archive.token, device_id=harness.device_id)


def test_an_archive_is_copied_again_to_an_endpoint_that_lost_it(world: World, pushing: Pusher) -> None:
    """It was copied whole, and then the endpoint's store is replaced by an empty one while the daemon runs."""
    harness = world.harness
    push(pushing)
    assert SESSION in harness.held_sessions()
    assert not pushing.archive.pending()
    with harness.spool.transaction():
        endpoint = harness.spool.meta("endpoint")
        harness.spool.catalog.change_endpoint(endpoint, endpoint)
    pushing.retrying.identify_again()
    push(pushing)
    archive = harness.spool.safety.archive()
    assert (archive.listed, archive.sessions, archive.pending) == (True, 1, 0)


def test_what_is_written_to_the_archive_later_is_copied(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may serve it for a while. `doctor` must not say meanwhile that it can be removed."""
    harness = world.harness
    monkeypatch.setattr("sessiond.daemon.archive.open_archive", lambda *_: client(harness))
    push(pushing)
    archive = harness.spool.safety.archive()
    assert (archive.sessions, archive.pending) == (1, 0)
    assert archive.files == archive_files(harness.state)
    fresh = SESSION[:-1] + "9"
    line = {
        "op": "append", "machine_id": "testbox", "session": fresh, "stream": "main", "generation": 0, "offset": 0,
        "length": 1, "sha256": hashlib.sha256(b"x").hexdigest(), "data": "x",
    }  # fmt: skip
    store = world.servers["archive"]
    headers = {"Authorization": f"Bearer {store.token}", "Sessiond-Device": str(harness.device_id)}
    httpx.post(f"{store.url}/v1/push", content=json.dumps(line), headers=headers, timeout=60)
    file = os.path.join(harness.state, "archive", "endpoint.db")
    os.utime(file)  # the archive that this test serves has its files elsewhere
    assert archive.files != archive_files(harness.state)
    pushing.retrying.identify_again()
    push(pushing)
    assert harness.held(fresh) == b"x"
    assert harness.spool.safety.archive().files == archive_files(harness.state)


def test_an_archive_that_is_written_to_until_the_end_is_listed_again(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write between the last list and the end of the copy is in no list: `doctor` must not say that it may go."""
    harness = world.harness
    file = os.path.join(harness.state, "archive", "endpoint.db")
    real = ReadClient.close

    def close(self: ReadClient) -> None:
        real(self)
        os.utime(file, (1, 1))

    monkeypatch.setattr("sessiond.daemon.archive.open_archive", lambda *_: client(harness))
    monkeypatch.setattr(ReadClient, "close", close)
    push(pushing)
    archive = harness.spool.safety.archive()
    assert (archive.sessions, archive.pending, archive.files) == (1, 0, None)
    pushing.retrying.identify_again()
    push(pushing)
    assert harness.spool.safety.archive().files == archive_files(harness.state)


def test_a_refused_session_is_tried_again_after_a_while(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint may have been at fault, and its administrator repairs it: no restart is needed."""
    harness = world.harness
    monkeypatch.setattr("sessiond.daemon.archive.open_archive", lambda *_: client(harness))
    bind(pushing.context)
    pushing.archive.prepare()
    with harness.spool.transaction():
        for each in harness.spool.archived.pending(9):
            harness.spool.archived.refuse(each, "invalid")
    push(pushing)
    bytes_of = f"/v1/sessions/testbox/{SESSION}/streams/main"
    assert harness.get(bytes_of).status_code == 404
    monkeypatch.setattr(archive_copy, "REFUSED_RETRY", 0.0)
    pushing.retrying.identify_again()
    push(pushing)
    assert harness.get(bytes_of).status_code == 200


def test_the_user_can_ask_for_another_try_of_the_archive(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sessiond queue retry` does so in a running daemon, and not only ten minutes later."""
    harness = world.harness
    opened: list[Callable[[], ReadClient]] = []

    def open_archive(*_: object) -> ReadClient:
        if opened:
            return opened.pop()()
        raise ArchiveUnreadable("the built-in archive did not start")

    monkeypatch.setattr("sessiond.daemon.archive.open_archive", open_archive)
    push(pushing)
    assert harness.spool.safety.archive().problem is not None
    opened.append(lambda: client(harness))
    pushing.try_sooner({Cause.USER})
    push(pushing)
    assert harness.spool.safety.archive().problem is not None, "nothing has changed: it is started for each try"
    with harness.spool.transaction():
        harness.spool.archived.retry()
    pushing.try_sooner({Cause.USER})
    push(pushing)
    archive = harness.spool.safety.archive()
    assert (archive.problem, archive.sessions, archive.pending) == (None, 1, 0)


def test_every_failure_of_the_archive_is_told_from_one_of_the_endpoint(tmp_path: Path) -> None:
    """The endpoint is not paused because of the archive. Here its process was killed."""
    reader = open_archive(str(tmp_path), UUID(int=1))
    try:
        assert reader.changes(None).sessions == []
        reader._served.stop()  # type: ignore[attr-defined]
        requests: list[Callable[[], object]] = [
            lambda: reader.changes(None),
            lambda: reader.session("ada", UUID(SESSION)),
            lambda: list(reader.stream("ada", UUID(SESSION), "main", generation=0, end=1)),
        ]
        for request in requests:
            with pytest.raises(ArchiveUnreadable, match="can't be read"):
                request()
    finally:
        reader.close()
