"""The endpoint's state from push to push: what is stored of it, and when the next push is due."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sessiond import logs
from sessiond.config import Config, Token
from sessiond.daemon.endpoint_state import HEALING_WAIT, EndpointState
from sessiond.daemon.messages import Cause
from sessiond.daemon.resources import Opening, Resources, open_resources
from sessiond.errors import Refused, Unreachable, WrongEndpoint
from sessiond.spool import health
from sessiond.upload import BatchResult
from support.clock import ManualClock

URL, OTHER = "http://127.0.0.1:9", "http://127.0.0.1:10"


@pytest.fixture
def clock() -> ManualClock:
    """Return the clock of the state, which the test advances."""
    return ManualClock()


@pytest.fixture
def resources(tmp_path: Path, clock: ManualClock) -> Iterator[Resources]:
    """Open a spool."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    config = msgspec.convert({"state_dir": str(directory), "endpoint": {"url": URL}}, type=Config)
    made = open_resources(config, {"HOME": str(tmp_path)}, Opening(clock=clock))
    yield made
    made.close()


@pytest.fixture
def state(resources: Resources, clock: ManualClock) -> EndpointState:
    """Return the state of an endpoint that was never reached."""
    return EndpointState(resources, URL, Token("t"))


def stored(resources: Resources) -> health.EndpointHealth:
    """Return what `status` would read."""
    return health.read_endpoint(resources.spool)


def test_a_failure_is_stored_with_its_wait(state: EndpointState, resources: Resources, clock: ManualClock) -> None:
    """The wait passes by the clock; a new process goes on with it."""
    assert state.wait_ms() == 0
    with logs.recorded() as events:
        state.failed(Refused("the token is refused", hint="log in"))
    wait = state.wait_ms()
    assert 4000 <= wait <= 6000
    assert [(event["event"], event["retry_in"]) for event in events] == [("upload.failed", round(wait / 1000, 1))]
    found = stored(resources)
    assert (found.kind, found.failures, found.hint) == ("refused", 1, "log in")
    clock.advance(1)
    assert state.wait_ms() == wait - 1000
    assert EndpointState(resources, URL, Token("t")).wait_ms() == wait - 1000
    assert EndpointState(resources, URL, Token("another")).wait_ms() == 0, "the token may have been the reason"
    assert EndpointState(resources, OTHER, Token("t")).health.failures == 0
    clock.advance(wait / 1000)
    assert state.wait_ms() <= 0


def test_a_long_trouble_is_logged_as_a_pause(state: EndpointState, clock: ManualClock) -> None:
    """The event has the hint. Nothing is retried for a quarter of an hour."""
    with logs.recorded() as events:
        for _ in range(6):
            state.failed(Refused("the token is refused", hint="log in"))
            clock.advance(300)
    assert [event["event"] for event in events][-1] == "upload.paused"
    assert events[-1]["hint"] == "log in"
    assert state.health.paused


def test_the_last_acknowledgement_is_that_of_the_same_endpoint(resources: Resources, clock: ManualClock) -> None:
    """The built-in archive has another address at each start, and stays the same."""
    archive = msgspec.structs.replace(
        resources, config=msgspec.structs.replace(resources.config, endpoint=type(resources.config.endpoint)())
    )
    first = EndpointState(archive, URL, None)
    with resources.spool.transaction():
        first.acknowledged(10)
    acked = first.health.last_ack_ms
    assert acked == clock.now_ms()
    assert EndpointState(archive, OTHER, None).health.last_ack_ms == acked
    assert EndpointState(archive, OTHER, None).health.archive
    assert EndpointState(resources, OTHER, None).health.last_ack_ms is None
    assert not EndpointState(resources, OTHER, None).health.archive


def test_each_cause_shortens_the_wait_as_far_as_it_may(state: EndpointState) -> None:
    """A user ends the wait and keeps the count, a new setup resets the count, and without a cause nothing changes."""
    for _ in range(3):
        state.failed(Refused("no"))
    before = state.health
    state.try_sooner(set())
    assert state.health == before
    state.try_sooner({Cause.USER})
    assert (state.wait_ms(), state.health.failures, state.health.rejections) == (0, 3, 3)
    state.failed(Refused("no"))
    state.try_sooner({Cause.USER, Cause.SETUP, Cause.NETWORK})
    assert (state.wait_ms(), state.health.failures, state.health.rejections) == (0, 1, 0)


def test_another_network_ends_a_wait_without_an_answer(state: EndpointState) -> None:
    """It was probably the network that failed."""
    for _ in range(8):
        state.failed(Unreachable("down", retry_after=100.0))
    assert state.wait_ms() >= 100_000
    state.try_sooner({Cause.NETWORK})
    assert state.wait_ms() == 0


@pytest.mark.parametrize(("since", "left_ms"), [(1.0, 4000), (4.0, 1000), (7.0, 0)])
def test_another_network_retries_a_wrong_answer_after_the_shortest_wait(
    state: EndpointState, clock: ManualClock, since: float, left_ms: int
) -> None:
    """It counts from the last try: container networks come and go every second."""
    for _ in range(3):
        state.failed(WrongEndpoint("a login page"))
    state.start_push()
    clock.advance(since)
    state.try_sooner({Cause.NETWORK})
    assert state.wait_ms() == left_ms


def test_an_acknowledgement_is_stored_with_its_latency(
    state: EndpointState, resources: Resources, clock: ManualClock
) -> None:
    """It ends a failure, and gives the speed that `status` shows."""
    state.failed(Unreachable("down"))
    for _ in range(2):
        state.start_push()
        clock.advance(0.25)
        with resources.spool.transaction():
            state.acknowledged(500)
    found = stored(resources)
    assert (found.last_ack_ms, found.latency_ms, found.failures) == (clock.now_ms(), 250, 0)
    assert (found.pace_bytes, found.next_attempt_ms) == (500, None)


def test_a_push_after_failures_is_logged_with_their_duration(
    state: EndpointState, resources: Resources, clock: ManualClock
) -> None:
    """A push that had nothing to send ends failures too, but is no acknowledgement."""
    state.failed(Unreachable("down"))
    before = state.health
    clock.advance(90)
    state.start_push()
    clock.advance(0.5)
    with logs.recorded() as events:
        state.succeeded(BatchResult(), before)
    assert [(event["event"], event["seconds"]) for event in events] == [("upload.resumed", 90.5)]
    found = stored(resources)
    assert (found.failures, found.last_ack_ms, found.latency_ms) == (0, None, 500)
    with logs.recorded() as events:
        state.succeeded(BatchResult(), state.health)
    assert events == []


def test_what_was_pushed_is_logged(state: EndpointState, clock: ManualClock) -> None:
    """The event has records, segments and bytes, and what was parked, with a hint."""
    state.start_push()
    clock.advance(0.125)
    with logs.recorded() as events:
        state.succeeded(BatchResult(sessions=2, segments=3, bytes=70, parked=1), state.health)
    acked, parked = events
    assert acked["event"] == "upload.acked"
    assert [acked[key] for key in ("sessions", "segments", "bytes", "seconds")] == [2, 3, 70, 0.125]
    assert (parked["event"], parked["reason"]) == ("upload.parked", "1 items, see `sessiond queue`")


def test_an_endpoint_that_contradicts_itself_is_asked_less_and_less(state: EndpointState, resources: Resources) -> None:
    """Two batches that only found differences are normal. Each further one waits longer, until bytes are stored."""
    healing = BatchResult(healed=1, sessions=1)
    waits = []
    for _ in range(5):
        state.succeeded(healing, state.health)
        waits.append(state.wait_ms())
    assert waits == [0, 0, *(int(HEALING_WAIT * 1000) * number for number in (3, 4, 5))]
    assert stored(resources).next_attempt_ms == state.health.next_attempt_ms
    state.succeeded(BatchResult(healed=1, bytes=1, segments=1), state.health)
    assert state.wait_ms() == 0
    assert stored(resources).next_attempt_ms is None
    state.succeeded(healing, state.health)
    assert state.wait_ms() == 0, "counted from the beginning"


def test_why_the_backlog_waits_is_stored(state: EndpointState, resources: Resources) -> None:
    """The reason survives a push, and is removed when the backlog goes on."""
    state.set_waits("on battery")
    assert stored(resources).waits == "on battery"
    with resources.spool.transaction():
        state.acknowledged(1)
    assert stored(resources).waits == "on battery"
    state.set_waits(None)
    assert stored(resources).waits is None
