"""When the daemon copies the built-in archive, and what it does where that does not work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from test_safety import World, delete, lines

from sessiond.config import Config, Token
from sessiond.daemon import archive_copy
from sessiond.daemon.pusher import Pusher, Target
from sessiond.daemon.resources import Resources
from sessiond.daemon.throttle import PUSHING, Throttle
from sessiond.device import identify
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import ArchiveUnreadable, Unreachable
from sessiond.upload import BatchResult
from support.harness import CLAUDE, SESSION, TOKEN, Household, claude


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


@pytest.fixture
def pushing(world: World) -> Iterator[Pusher]:
    """What pushes to the first endpoint beside an archive with one session, without its thread."""
    house = world.house
    house.write(CLAUDE, *lines(3))
    house.settle()
    delete(world)
    house.settle()
    shutil.copytree(world.base / "archive", os.path.join(house.state, "archive"))
    world.configure("first")
    resources = Resources(
        config=msgspec.convert({"endpoint": {"url": house.address}}, type=Config),
        directory=house.state,
        device=identify(house.state),
        machine_id="testbox",
        spool=house.spool,
        places=[],
        found=[],
        ingest=house.ingesting,
        environ={},
    )
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
    """The endpoint has no room for transcripts, say: records still get there."""

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


def test_an_archive_that_could_not_be_read_is_tried_again(
    world: World, pushing: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody served it for a while, or its process was killed."""
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
    monkeypatch.setattr(archive_copy, "AGAIN", 0.0)
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
