"""The comparison of stream digests with those that an endpoint states."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sessiond.errors import Unreachable
from sessiond.spool.verification import Claim, Claims
from sessiond.upload import compare_digests as compare_digests_module
from sessiond.upload.compare_digests import TRIES, Stated, compare_digests
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    """Yield a home with three sessions that the endpoint has."""
    with daemon_harness(tmp_path) as made:
        for number in range(3):
            session = f"{number}{SESSION[1:]}"
            made.write(CLAUDE.replace(SESSION, session), claude(session, 1))
        made.settle()
        yield made


def claims(harness: DaemonHarness) -> list[Claim]:
    return [claim for claim in Claims(harness.spool.connection).claims() if claim.stream is not None]


def stated(harness: DaemonHarness, sleep: Callable[[float], None] | None = None) -> Stated:
    found = Stated()
    for found in compare_digests(harness.spool, harness.uploading.reader, harness.machine_id, claims(harness), sleep):  # noqa: B007
        pass
    return found


def answer(harness: DaemonHarness, change: Change) -> None:
    """Change the first position of each answer."""

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        sent = json.loads(send().read())
        change(sent["streams"][0])
        body = httpx.ByteStream(json.dumps(sent).encode())
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=body)

    harness.transport.fate = fate


def test_equal_digests_are_equal(harness: DaemonHarness) -> None:
    assert stated(harness).equal == {claim.stream for claim in claims(harness)}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda it: it.update(after="0" * 64), "different"),
        (lambda it: it.update(length=it["length"] - 1), "lacking"),
        (lambda it: it.update(generation=None, length=0, after=None), "lacking"),
        (lambda it: it.update(length=it["length"] + 1), "ahead"),
        (lambda it: it.update(generation=1, length=0), "ahead"),
        (lambda it: it.update(after=None, sha256="0" * 64), "length_only"),
        (lambda it: it.update(length="many"), "length_only"),
    ],
)
def test_each_other_answer_counts_as_what_it_is(harness: DaemonHarness, change: Change, found: str) -> None:
    first, *others = claims(harness)
    answer(harness, change)
    result = stated(harness)
    assert result.equal == {claim.stream for claim in others}
    lists = {name: getattr(result, name) for name in ("different", "lacking", "ahead", "length_only")}
    assert {name: listed for name, listed in lists.items() if listed} == {found: [first]}


@pytest.mark.parametrize("change", [{"after": "0" * 64}, {"generation": 1}])
def test_what_is_captured_meanwhile_is_no_difference(harness: DaemonHarness, change: dict[str, Any]) -> None:
    """The daemon goes on beside the command."""

    def capture(position: dict[str, Any]) -> None:
        position.update(change)
        session = position["session"]
        harness.write(CLAUDE.replace(SESSION, session), claude(session, 2))
        harness.scan()

    answer(harness, capture)
    result = stated(harness)
    assert result.different == result.ahead == []
    assert len(result.length_only) == 1


@pytest.mark.parametrize("waits", [False, True])
def test_digests_that_take_long_are_asked_for_again(harness: DaemonHarness, waits: bool) -> None:
    """The endpoint goes on computing them. In the end the lengths are compared."""
    busy, slept, asked = [0] * (TRIES - 1), list[float](), list[None]()

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        asked.append(None)
        if not busy:
            return send()
        busy.pop()
        headers = {"content-type": "application/problem+json", "retry-after": "7"}
        return httpx.Response(503, headers=headers, stream=httpx.ByteStream(b"{}"))

    harness.transport.fate = fate
    result = stated(harness, slept.append if waits else None)
    assert slept == [7.0] * (TRIES - 1 if waits else 0)
    assert len(result.equal) == (3 if waits else 0)
    assert len(result.length_only) == (0 if waits else 3)
    busy[:] = [0] * TRIES
    asked.clear()
    slept.clear()
    assert len(stated(harness, slept.append).length_only) == 3
    assert (len(asked), len(slept)) == (TRIES, TRIES - 1)


def test_an_endpoint_that_does_not_answer_fails(harness: DaemonHarness) -> None:
    def fate(*_: object) -> httpx.Response:
        raise httpx.ConnectError("nobody listens")

    harness.transport.fate = fate
    with pytest.raises(Unreachable):
        stated(harness, lambda _: None)


@pytest.mark.parametrize(("streams", "size", "requests"), [(500, 1 << 30, 1), (2, 1 << 30, 2), (500, 1, 3)])
def test_a_request_is_bounded(
    harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch, streams: int, size: int, requests: int
) -> None:
    """By streams, and by the bytes that an endpoint without any digest has to read."""
    monkeypatch.setattr(compare_digests_module, "REQUEST_STREAMS", streams)
    monkeypatch.setattr(compare_digests_module, "REQUEST_BYTES", size)
    before = len(harness.transport.requests)
    assert len(stated(harness).equal) == 3
    assert len(harness.transport.requests) - before == requests
