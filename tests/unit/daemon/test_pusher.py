"""What the pusher does around a push: it binds the endpoint, keeps its state, and says when to try again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sessiond.config import Config, Token
from sessiond.daemon.messages import Cause
from sessiond.daemon.pusher import Pusher, Target
from sessiond.daemon.resources import Resources
from sessiond.daemon.throttle import PUSHING, Throttle
from sessiond.device import identify
from sessiond.spool import health
from support.harness import CLAUDE, SESSION, TOKEN, Household, claude, household

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Household]:
    """Make a home with an endpoint."""
    with household(tmp_path) as made:
        yield made


@pytest.fixture
def pushers() -> Iterator[list[Pusher]]:
    """Close pushers at the end."""
    made: list[Pusher] = []
    yield made
    for pusher in made:
        pusher.close()


def pusher(house: Household, pushers: list[Pusher], url: str = "") -> Pusher:
    """Return a pusher to an endpoint, by default the harness's, as a daemon makes one at its start."""
    address = url or house.endpoint.url
    resources = Resources(
        config=msgspec.convert({"endpoint": {"url": address, "timeout": 1}}, type=Config),
        directory=house.state,
        device=identify(house.state),
        machine_id="testbox",
        spool=house.spool,
        roots=[],
        listed_roots=[],
        ingest=house.ingesting,
        environ={},
    )
    pushers.append(Pusher(resources, Target(address, Token(TOKEN)), Throttle(PUSHING), sleep=lambda _: None))
    return pushers[-1]


def acknowledged(house: Household, url: str) -> int:
    """Return how many sessions `status` calls safe at an endpoint."""
    (tool,) = house.spool.stats.tools(url)
    return tool.counts.acknowledged


def push_all(house: Household, made: Pusher) -> None:
    """Push and read until nothing is left."""
    for _ in range(20):
        more = made.push().more
        house.scan()
        if not more and not made.makes_room() and not house.spool.stats.waiting().segments:
            return
    pytest.fail("it never ends")


def test_another_address_discards_what_the_old_one_acknowledged(house: Household, pushers: list[Pusher]) -> None:
    """This happens before the new endpoint has answered, as nothing shows that it has any of it. It gets everything."""
    path = house.write(CLAUDE, claude(SESSION, 1))
    house.scan()
    push_all(house, pusher(house, pushers))
    assert acknowledged(house, house.endpoint.url) == 1
    pusher(house, pushers)
    assert acknowledged(house, house.endpoint.url) == 1, "a restart changes nothing"
    pusher(house, pushers, NOWHERE).push()
    assert acknowledged(house, NOWHERE) == 0
    assert acknowledged(house, house.endpoint.url) == 0
    push_all(house, pusher(house, pushers))
    assert acknowledged(house, house.endpoint.url) == 1
    assert house.held(SESSION) == Path(path).read_bytes()


def test_an_acknowledgement_is_stored_for_status(house: Household, pushers: list[Pusher]) -> None:
    """Its time and latency are stored in the transaction that removes the batch from the outbox."""
    house.write(CLAUDE, claude(SESSION, 1))
    house.scan()
    push_all(house, pusher(house, pushers))
    found = health.read_endpoint(house.spool)
    assert found.last_ack_ms is not None
    assert found.latency_ms is not None
    assert found.pace_ms == found.last_ack_ms


def test_a_failed_push_says_when_it_is_tried_again(house: Household, pushers: list[Pusher]) -> None:
    """The loop waits as long; a request of the user ends the wait, and the endpoint is identified again."""
    made = pusher(house, pushers, NOWHERE)
    assert not made.push().more
    waits = made.idle_seconds()
    assert waits is not None
    assert 0 <= waits <= 2
    assert made.state.health.failures == 1
    made.try_sooner({Cause.USER})
    assert made.state.wait_ms() == 0
    assert made.retrying.must_identify()


def test_an_idle_pusher_asks_who_the_endpoint_is_once_in_a_while(house: Household, pushers: list[Pusher]) -> None:
    """An endpoint that was restored from a backup would go unnoticed until the next push."""
    made = pusher(house, pushers)
    push_all(house, made)
    seconds = made.idle_seconds()
    assert seconds is not None
    assert 60 < seconds <= 3600
    assert not made.retrying.must_identify()
