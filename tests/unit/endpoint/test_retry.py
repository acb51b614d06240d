"""The retrying client: the failures that it retries, how it halves a push, and when it identifies the endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import msgspec
import pytest

from sessiond.endpoint import wire
from sessiond.endpoint.client import Client
from sessiond.endpoint.pace import LONGEST, Pace
from sessiond.endpoint.push_size import PROBE_AFTER
from sessiond.endpoint.retry import IDENTIFY_AGAIN, TRIES, Part, RetryingClient
from sessiond.errors import EndpointError, Refused, Rejected, TooLarge, Unreachable, WrongEndpoint

ABOUT = wire.About(service="", protocol=1, endpoint_id=UUID(int=1), version="1", limits=wire.Limits(), encodings=[])


class ScriptedClient(Client):
    """Answers each push as `script` decides, without a network."""

    def __init__(self, script: Callable[[Sequence[object]], Exception | None]) -> None:
        super().__init__("http://127.0.0.1:9", None, device_id=UUID(int=1))
        self.script = script
        self.pushes: list[tuple[list[object], str]] = []
        self.answer = ABOUT

    def about(self) -> wire.About:
        return self.answer

    def push(self, pushed: Sequence[object], batch: str) -> wire.PushAnswer:
        self.pushes.append((list(pushed), batch))
        error = self.script(pushed)
        if error is not None:
            raise error
        return wire.PushAnswer(batch=batch, results=[wire.Result(status="stored")] * len(pushed))


class Clock:
    """A monotonic clock that is set by the test."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.seconds


def retrying(script: Callable[[Sequence[object]], Exception | None]) -> tuple[RetryingClient, ScriptedClient, Clock]:
    """Return a retrying client over a scripted one, with its clock."""
    client, clock = ScriptedClient(script), Clock()
    return RetryingClient(client, sleep=clock.slept.append, monotonic=clock), client, clock


def push(client: RetryingClient, *items: int) -> Iterator[Part[int]]:
    """Push items under names that count the requests."""
    names = iter(range(1000))
    return client.push(items, lambda part: (list(part), f"batch {next(names)}"))


def failing(times: int, error: Exception) -> Callable[[Sequence[object]], Exception | None]:
    """Fail some times, then answer."""
    errors = [error] * times
    return lambda _: errors.pop() if errors else None


def test_a_transient_failure_is_retried_with_growing_jittered_waits() -> None:
    """The request keeps its id: the endpoint may have stored it although the answer was lost."""
    client, scripted, clock = retrying(failing(TRIES - 1, Unreachable("reset")))
    (part,) = push(client, 1, 2)
    assert part.answer is not None
    assert scripted.pushes == [([1, 2], "batch 0")] * TRIES
    assert len(clock.slept) == TRIES - 1
    assert all(0 <= wait <= limit for wait, limit in zip(clock.slept, (0.3, 0.6), strict=True))


def test_a_failure_that_lasts_is_raised() -> None:
    client, scripted, _ = retrying(failing(TRIES, Unreachable("down")))
    with pytest.raises(Unreachable, match="down"):
        list(push(client, 1))
    assert len(scripted.pushes) == TRIES


@pytest.mark.parametrize("error", [Unreachable("busy", retry_after=60.0), Refused("401"), WrongEndpoint("a portal")])
def test_what_another_attempt_does_not_solve_is_raised_at_once(error: EndpointError) -> None:
    """The endpoint asks for a longer wait, refuses the token, or is not one: `daemon/outage.py` decides the wait."""
    client, scripted, clock = retrying(failing(1, error))
    with pytest.raises(type(error)):
        list(push(client, 1, 2))
    assert (len(scripted.pushes), clock.slept) == (1, [])


@pytest.mark.parametrize("error", [TooLarge("413"), Rejected("400")])
def test_a_refused_request_is_halved_until_the_refused_item_is_alone(error: EndpointError) -> None:
    """Every other item is stored once, and in order."""
    client, scripted, _ = retrying(lambda part: error if 3 in part else None)
    parts = list(push(client, *range(1, 9)))
    assert [(list(part.items), part.answer is not None) for part in parts] == [
        ([1, 2], True),
        ([3], False),
        ([4], True),
        ([5, 6, 7, 8], True),
    ]
    assert parts[1].refusal is error
    assert len({batch for _, batch in scripted.pushes}) == len(scripted.pushes)  # each request has its own id


def test_a_part_is_named_after_the_part_before_was_applied() -> None:
    """The id of a push depends on the last acknowledged one, which the caller stores."""
    client, _, _ = retrying(lambda part: TooLarge("413") if len(part) > 1 else None)
    applied: list[int] = []

    def prepare(part: Sequence[int]) -> tuple[list[int], str]:
        return list(part), str(len(applied))

    for part in client.push([1, 2, 3], prepare):
        assert part.answer is not None
        assert part.answer.batch == str(len(applied))
        applied += part.items


def test_a_failure_after_a_stored_part_keeps_that_part() -> None:
    client, _, _ = retrying(
        lambda part: TooLarge("413") if len(part) > 1 else Refused("revoked") if 2 in part else None
    )
    parts = push(client, 1, 2)
    assert next(parts).items == (1,)
    with pytest.raises(Refused):
        next(parts)


def test_nothing_is_pushed_for_no_items() -> None:
    client, scripted, _ = retrying(lambda _: None)
    assert list(push(client)) == []
    assert scripted.pushes == []


def test_the_endpoint_is_identified_at_first_hourly_and_on_request() -> None:
    """Another endpoint may answer at the same address, or the same one restored from a backup."""
    client, _, clock = retrying(lambda _: None)
    assert client.must_identify()
    assert client.seconds_until_identification() is None
    client.about()
    assert not client.must_identify()
    clock.seconds += IDENTIFY_AGAIN / 2
    assert client.seconds_until_identification() == IDENTIFY_AGAIN / 2
    clock.seconds += IDENTIFY_AGAIN
    assert client.must_identify()
    assert client.seconds_until_identification() == 0.0
    client.about()
    client.identify_again()
    assert client.must_identify()


@pytest.mark.parametrize(("error", "identify"), [(Unreachable("down"), True), (Refused("401"), True), (None, False)])
def test_the_endpoint_is_identified_again_after_a_failure(error: EndpointError | None, identify: bool) -> None:
    client, scripted, _ = retrying(lambda _: error)
    client.about()
    if error is None:
        list(push(client, 1))
    else:
        with pytest.raises(type(error)):
            list(push(client, 1))
    assert client.must_identify() is identify
    assert scripted.pushes


def test_a_failed_identification_is_none() -> None:
    client, scripted, _ = retrying(lambda _: None)
    client.about()
    scripted.about = failing_about
    with pytest.raises(Unreachable):
        client.about()
    assert client.must_identify()


def failing_about() -> wire.About:
    """Fail as an endpoint that is down."""
    raise Unreachable("down")


def test_an_endpoint_that_refuses_everything_gets_few_requests() -> None:
    """The first push is halved down to single items; later ones begin there. No batch is halved again and again."""
    client, scripted, _ = retrying(lambda _: TooLarge("413"))
    counts = []
    for _ in range(9):
        scripted.pushes.clear()
        parts = list(push(client, *range(200)))
        assert parts and all(part.refusal is not None for part in parts)
        counts.append(len(scripted.pushes))
    assert counts[0] <= 24
    assert counts[1:8] == [2, 4, 8, 16, 32, 64, 128]
    assert counts[8] == 200, "now and then each item is tried: the first ones may be what it objects to"
    tried = {item for pushed, _ in scripted.pushes for item in pushed}
    assert tried == set(range(200))


def test_items_that_are_refused_first_do_not_hide_the_rest_for_good() -> None:
    client, _, _ = retrying(lambda part: Rejected("400") if min(part) < 40 else None)  # type: ignore[type-var]
    stored: set[int] = set()
    for _ in range(9):
        for part in push(client, *range(60)):
            if part.answer is not None:
                stored |= set(part.items)
    assert stored == set(range(40, 60))


@pytest.mark.parametrize("most", [1, 3, 50])
def test_the_accepted_size_is_remembered(most: int) -> None:
    """A proxy accepts less than a batch: the batches after the first are sent in parts that pass."""
    client, scripted, _ = retrying(lambda part: TooLarge("413") if len(part) > most else None)
    refused, requests = 0, 0
    for number in range(20):
        scripted.pushes.clear()
        parts = list(push(client, *range(100)))
        assert [item for part in parts for item in part.items] == list(range(100))
        assert all(part.answer is not None for part in parts)
        if number:
            refused += sum(len(pushed) > most for pushed, _ in scripted.pushes)
            requests += len(scripted.pushes)
    assert refused <= requests / PROBE_AFTER + 1


def test_one_refused_item_does_not_make_the_pushes_small_for_long() -> None:
    """The size is not the cause, so after a while everything is sent in one request again."""
    client, scripted, _ = retrying(lambda part: Rejected("400") if 77 in part else None)
    list(push(client, *range(200)))
    for _ in range(40):
        list(push(client, *range(78, 278)))
    scripted.pushes.clear()
    list(push(client, *range(78, 278)))
    assert len(scripted.pushes) == 1


def test_another_endpoint_begins_without_a_limit() -> None:
    client, scripted, _ = retrying(lambda part: TooLarge("413") if len(part) > 1 else None)
    client.about()
    list(push(client, *range(8)))
    scripted.script = lambda _: None
    scripted.about = lambda: msgspec.structs.replace(ABOUT, endpoint_id=UUID(int=2))  # type: ignore[method-assign]
    client.about()
    scripted.pushes.clear()
    list(push(client, *range(8)))
    assert len(scripted.pushes) == 1


def test_items_are_weighed() -> None:
    """A part has as many bytes as were accepted, with any number of items."""
    client, scripted, _ = retrying(lambda part: TooLarge("413") if sum(part) > 10 else None)  # type: ignore[call-overload]

    def parts(*items: int) -> list[list[int]]:
        scripted.pushes.clear()
        list(client.push(items, lambda part: (list(part), "name"), weigh=lambda item: item))
        return [pushed for pushed, _ in scripted.pushes]  # type: ignore[misc]

    parts(5, 5, 5, 5)
    assert parts(1, 2, 3, 4, 5, 5, 9, 1) == [[1, 2, 3, 4], [5, 5], [9, 1]]


@pytest.mark.parametrize(
    ("pace", "seconds"),
    [(None, 0.0), (Pace(push_interval_ms=1500), 1.5), (Pace(push_interval_ms=2**53 - 1), LONGEST)],
)
def test_the_interval_that_the_endpoint_asks_for_is_known(pace: Pace | None, seconds: float) -> None:
    """A wrong answer must not stop the pushing for years."""
    client, scripted, _ = retrying(lambda _: None)
    scripted.answer = msgspec.structs.replace(ABOUT, pace=pace)
    client.about()
    assert client.push_interval == seconds
    scripted.answer = ABOUT
    client.about()
    assert client.push_interval == 0, "the endpoint no longer asks for one"
