"""What the pusher does around a push: it binds the endpoint, keeps its state, and says when to try again."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sessiond.config import Config, Token
from sessiond.daemon.built_in_archive import BuiltInArchive
from sessiond.daemon.messages import Cause, EraseForgotten, Inbox, Inboxes
from sessiond.daemon.pusher import Pusher, Target
from sessiond.daemon.resources import Resources
from sessiond.daemon.throttle import PUSHING, Throttle
from sessiond.daemon.upload_loop import UploadLoop
from sessiond.device import identify
from sessiond.spool import health
from sessiond.upload.context import BatchResult
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, daemon_harness

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    """Make a home with an endpoint."""
    with daemon_harness(tmp_path) as made:
        yield made


@pytest.fixture
def pushers() -> Iterator[list[Pusher]]:
    """Close pushers at the end."""
    made: list[Pusher] = []
    yield made
    for pusher in made:
        pusher.close()


def pusher(harness: DaemonHarness, pushers: list[Pusher], url: str = "") -> Pusher:
    """Return a pusher to an endpoint, by default the harness's, as a daemon makes one at its start."""
    address = url or harness.endpoint.url
    resources = Resources(
        config=msgspec.convert({"endpoint": {"url": address, "timeout": 1}}, type=Config),
        directory=harness.state,
        device=identify(harness.state),
        machine_id="testbox",
        spool=harness.spool,
        roots=[],
        listed_roots=[],
        ingest=harness.ingesting,
        environ={},
        archive=BuiltInArchive(harness.state, harness.device_id),
    )
    pushers.append(Pusher(resources, Target(address, Token(TOKEN)), Throttle(PUSHING), sleep=lambda _: None))
    return pushers[-1]


def acknowledged(harness: DaemonHarness, url: str) -> int:
    """Return how many sessions `status` calls safe at an endpoint."""
    (tool,) = harness.spool.stats.tools(url)
    return tool.counts.acknowledged


def push_all(harness: DaemonHarness, made: Pusher) -> None:
    """Push and read until nothing is left."""
    for _ in range(20):
        more = made.push().more
        harness.scan()
        if not more and not made.makes_room() and not harness.spool.stats.waiting().segments:
            return
    pytest.fail("it never ends")


def test_another_address_discards_what_the_old_one_acknowledged(harness: DaemonHarness, pushers: list[Pusher]) -> None:
    """This happens before the new endpoint has answered, as nothing shows that it has any of it. It gets everything."""
    path = harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    push_all(harness, pusher(harness, pushers))
    assert acknowledged(harness, harness.endpoint.url) == 1
    pusher(harness, pushers)
    assert acknowledged(harness, harness.endpoint.url) == 1, "a restart changes nothing"
    pusher(harness, pushers, NOWHERE).push()
    assert acknowledged(harness, NOWHERE) == 0
    assert acknowledged(harness, harness.endpoint.url) == 0
    push_all(harness, pusher(harness, pushers))
    assert acknowledged(harness, harness.endpoint.url) == 1
    assert harness.held(SESSION) == Path(path).read_bytes()


def test_an_acknowledgement_is_stored_for_status(harness: DaemonHarness, pushers: list[Pusher]) -> None:
    """Its time and latency are stored in the transaction that removes the batch from the outbox."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    push_all(harness, pusher(harness, pushers))
    found = health.read_endpoint(harness.spool)
    assert found.last_ack_ms is not None
    assert found.latency_ms is not None
    assert found.pace_ms == found.last_ack_ms


def test_a_failed_push_says_when_it_is_tried_again(harness: DaemonHarness, pushers: list[Pusher]) -> None:
    """The loop waits as long; a request of the user ends the wait, and the endpoint is identified again."""
    made = pusher(harness, pushers, NOWHERE)
    assert not made.push().more
    waits = made.idle_seconds()
    assert waits is not None
    assert 0 <= waits <= 2
    assert made.state.health.failures == 1
    made.try_sooner({Cause.USER})
    assert made.state.wait_ms() == 0
    assert made.retrying.must_identify()


def test_an_idle_pusher_asks_who_the_endpoint_is_once_in_a_while(harness: DaemonHarness, pushers: list[Pusher]) -> None:
    """An endpoint that was restored from a backup would go unnoticed until the next push."""
    made = pusher(harness, pushers)
    push_all(harness, made)
    seconds = made.idle_seconds()
    assert seconds is not None
    assert 60 < seconds <= 3600
    assert not made.retrying.must_identify()


def test_the_endpoint_sets_the_time_between_two_pushes(harness: DaemonHarness, pushers: list[Pusher]) -> None:
    """It is counted from the beginning of a push, and varied by a tenth. An endpoint may ask for none."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    made = pusher(harness, pushers)
    push_all(harness, made)
    assert made.pace_left() == 0
    made.retrying.push_interval = 10_000.0
    made.push()
    assert 8_000 < made.pace_left() <= 11_000


def test_the_upload_loop_waits_for_that_time(harness: DaemonHarness, pushers: list[Pusher]) -> None:
    """What is captured meanwhile is not pushed before; a message ends the wait, and the rest of it follows."""
    made = pusher(harness, pushers)
    inboxes = Inboxes(main=queue.SimpleQueue(), capture=Inbox(), upload=Inbox())
    loop = UploadLoop(made, inboxes)
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    push_all(harness, made)
    made.retrying.push_interval = 10_000.0
    made.push()
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.scan()
    waits: list[float | None] = []
    inboxes.upload.wait = waits.append  # type: ignore[method-assign]
    for _ in range(3):
        loop.step()
    assert acknowledged(harness, harness.endpoint.url) == 0
    assert all(wait is not None and wait > 8_000 for wait in waits)
    made.retrying.push_interval = 0.0
    loop.step()
    assert acknowledged(harness, harness.endpoint.url) == 1


def test_the_capture_loop_erases_what_an_endpoint_erased(harness: DaemonHarness, pushers: list[Pusher]) -> None:
    inboxes = Inboxes(main=queue.SimpleQueue(), capture=Inbox(), upload=Inbox())
    loop = UploadLoop(pusher(harness, pushers), inboxes)
    loop.notify_capture(BatchResult())
    assert EraseForgotten() not in inboxes.capture.take()
    loop.notify_capture(BatchResult(forgotten=1))
    assert EraseForgotten() in inboxes.capture.take()
