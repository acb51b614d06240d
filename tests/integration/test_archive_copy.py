"""When the daemon copies the built-in archive, and what it does if that fails."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import msgspec
import pytest
from test_safety import World, delete, lines

from sessiond.clock import now_ms
from sessiond.config import Config, Token
from sessiond.daemon import archive_copy
from sessiond.daemon.messages import Cause
from sessiond.daemon.pusher import Pusher, Target
from sessiond.daemon.throttle import PUSHING, Throttle
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import ArchiveUnreadable, Unreachable
from sessiond.state import archive_files
from sessiond.upload import BatchResult, bind
from support.harness import CLAUDE, SESSION, TOKEN, Household, claude


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


@pytest.fixture
def pushing(world: World) -> Iterator[Pusher]:
    """Yield the pusher of the first endpoint beside an archive with one session, without its thread."""
    house = world.house
    house.write(CLAUDE, *lines(3))
    house.settle()
    delete(world)
    house.settle()
    shutil.copytree(world.base / "archive", os.path.join(house.state, "archive"))
    world.configure("first")
    resources = house.resources(msgspec.convert({"endpoint": {"url": house.address}}, type=Config))
    made = Pusher(resources, Target(house.address, Token(TOKEN)), Throttle(PUSHING))
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
    world.house.write(CLAUDE.replace(SESSION, fresh), claude(fresh, 1))
    world.house.scan()
    push(pushing)
    assert fresh in world.house.held_sessions()
    assert pushing.idle_seconds() is not None  # and it is tried again


def test_a_record_alone_is_progress_beside_an_archive_that_cannot_be_copied(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that ended has a new record and no new bytes. It was acknowledged, so the push has not failed."""
    house = world.house
    fresh = SESSION[:-1] + "9"
    house.write(CLAUDE.replace(SESSION, fresh), claude(fresh, 1))
    for _ in range(2):  # the endpoint is asked what it has, and then it gets the rest
        house.scan()
        push(pushing)

    def step(**_: object) -> BatchResult:
        raise Unreachable("the endpoint has no room for more transcripts")

    monkeypatch.setattr(pushing.archive, "step", step)
    monkeypatch.setattr(pushing.archive, "pending", lambda _=0: True)
    with house.spool.transaction():
        for captured in house.spool.catalog.sessions():
            house.spool.catalog.raise_revision(captured.id, 0, now_ms())
    waiting = house.spool.stats.waiting()
    assert waiting.sessions > 0
    assert waiting.segments == 0
    assert pushing.push().more
    assert pushing.state.health.failures == 0


def test_what_an_archive_had_to_copy_is_forgotten_with_it(world: World, pushing: Pusher) -> None:
    """It was moved away: `status` would otherwise report its sessions as waiting for good."""
    house = world.house
    pushing.retrying.identify_again()
    bind(pushing._context)
    pushing.archive.prepare()
    assert house.spool.safety.archive().sessions == 1
    shutil.rmtree(os.path.join(house.state, "archive"))
    resources = house.resources(msgspec.convert({"endpoint": {"url": house.address}}, type=Config))
    again = Pusher(resources, Target(house.address, Token(TOKEN)), Throttle(PUSHING))
    try:
        archive = house.spool.safety.archive()
        assert (archive.sessions, archive.pending) == (0, 0)
    finally:
        again.close()


def test_an_archive_that_could_not_be_read_is_tried_again(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have served it for a while, or its process was killed."""
    house = world.house
    opened: list[Callable[[], ReadClient]] = [lambda: client(house)]

    def open_archive(directory: str, device: object) -> ReadClient:
        if opened:
            return opened.pop()()
        raise ArchiveUnreadable("the built-in archive did not start")

    failing, opened[:] = list(opened), []
    monkeypatch.setattr("sessiond.daemon.archive.open_archive", open_archive)
    push(pushing)
    assert house.spool.safety.archive().problem is not None
    opened[:] = failing
    pushing.retrying.identify_again()
    push(pushing)
    assert house.spool.safety.archive().problem is not None  # not at once: it is started for each try
    monkeypatch.setattr(archive_copy, "UNREADABLE_RETRY", 0.0)
    pushing.retrying.identify_again()
    push(pushing)
    archive = house.spool.safety.archive()
    assert (archive.problem, archive.sessions, archive.pending) == (None, 1, 0)
    assert SESSION in house.held_sessions()


def client(house: Household) -> ReadClient:
    assert house.archive is not None
    return ReadClient(house.archive.url, house.archive.token, device_id=house.device_id)


def test_an_archive_is_copied_again_to_an_endpoint_that_lost_it(world: World, pushing: Pusher) -> None:
    """It was copied whole, and then the endpoint's store is replaced by an empty one while the daemon runs."""
    house = world.house
    push(pushing)
    assert SESSION in house.held_sessions()
    assert not pushing.archive.pending()
    with house.spool.transaction():
        endpoint = house.spool.meta("endpoint")
        house.spool.catalog.change_endpoint(endpoint, endpoint)
    pushing.retrying.identify_again()
    push(pushing)
    archive = house.spool.safety.archive()
    assert (archive.listed, archive.sessions, archive.pending) == (True, 1, 0)


def test_what_is_written_to_the_archive_later_is_copied(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may serve it for a while. `doctor` must not say meanwhile that it can be removed."""
    house = world.house
    monkeypatch.setattr("sessiond.daemon.archive.open_archive", lambda *_: client(house))
    push(pushing)
    archive = house.spool.safety.archive()
    assert (archive.sessions, archive.pending) == (1, 0)
    assert archive.files == archive_files(house.state)
    fresh = SESSION[:-1] + "9"
    line = {
        "op": "append", "machine_id": "testbox", "session": fresh, "stream": "main", "generation": 0, "offset": 0,
        "length": 1, "sha256": hashlib.sha256(b"x").hexdigest(), "data": "x",
    }  # fmt: skip
    store = world.servers["archive"]
    headers = {"Authorization": f"Bearer {store.token}", "Sessiond-Device": str(house.device_id)}
    httpx.post(f"{store.url}/v1/push", content=json.dumps(line), headers=headers)
    file = os.path.join(house.state, "archive", "endpoint.db")
    os.utime(file)  # the archive that this test serves has its files elsewhere
    assert archive.files != archive_files(house.state)
    pushing.retrying.identify_again()
    push(pushing)
    assert house.held(fresh) == b"x"
    assert house.spool.safety.archive().files == archive_files(house.state)


def test_an_archive_that_is_written_to_until_the_end_is_listed_again(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write between the last list and the end of the copy is in no list: `doctor` must not say that it may go."""
    house = world.house
    file = os.path.join(house.state, "archive", "endpoint.db")
    real = ReadClient.close

    def close(self: ReadClient) -> None:
        real(self)
        os.utime(file, (1, 1))

    monkeypatch.setattr("sessiond.daemon.archive.open_archive", lambda *_: client(house))
    monkeypatch.setattr(ReadClient, "close", close)
    push(pushing)
    archive = house.spool.safety.archive()
    assert (archive.sessions, archive.pending, archive.files) == (1, 0, None)
    pushing.retrying.identify_again()
    push(pushing)
    assert house.spool.safety.archive().files == archive_files(house.state)


def test_a_refused_session_is_tried_again_after_a_while(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint may have been at fault, and its administrator repairs it: no restart is needed."""
    house = world.house
    monkeypatch.setattr("sessiond.daemon.archive.open_archive", lambda *_: client(house))
    bind(pushing._context)
    pushing.archive.prepare()
    with house.spool.transaction():
        for each in house.spool.archived.pending(9):
            house.spool.archived.refuse(each, "invalid")
    push(pushing)
    bytes_of = f"/v1/sessions/testbox/{SESSION}/streams/main"
    assert house.get(bytes_of).status_code == 404
    monkeypatch.setattr(archive_copy, "REFUSED_RETRY", 0.0)
    pushing.retrying.identify_again()
    push(pushing)
    assert house.get(bytes_of).status_code == 200


def test_the_user_can_ask_for_another_try_of_the_archive(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sessiond queue retry` does so in a running daemon, and not only ten minutes later."""
    house = world.house
    opened: list[Callable[[], ReadClient]] = []

    def open_archive(*_: object) -> ReadClient:
        if opened:
            return opened.pop()()
        raise ArchiveUnreadable("the built-in archive did not start")

    monkeypatch.setattr("sessiond.daemon.archive.open_archive", open_archive)
    push(pushing)
    assert house.spool.safety.archive().problem is not None
    opened.append(lambda: client(house))
    pushing.try_sooner({Cause.USER})
    push(pushing)
    assert house.spool.safety.archive().problem is not None, "nothing has changed: it is started for each try"
    with house.spool.transaction():
        house.spool.archived.retry()
    pushing.try_sooner({Cause.USER})
    push(pushing)
    archive = house.spool.safety.archive()
    assert (archive.problem, archive.sessions, archive.pending) == (None, 1, 0)
