"""What the client makes of the answers to its reads: bytes of a stream, pages, and what an endpoint does not have."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from sessiond.endpoint import read_client
from sessiond.endpoint.read_client import ReadClient
from sessiond.endpoint.transport import make_transport
from sessiond.errors import Forbidden, NotFound, Refused, Rejected, TooLarge, Unreachable, WrongEndpoint

URL = "http://127.0.0.1:1"
SESSION = uuid.UUID(int=1)
PIECE = 10
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_client, "PIECE", PIECE)


class Network(httpx.BaseTransport):
    """Answers each request as a function does, and remembers it."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.asked = answer, list[httpx.Request]()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.answer(request)


def client(answer: Answer) -> tuple[ReadClient, Network]:
    network = Network(answer)
    transport = make_transport(URL, network=network)
    return ReadClient(URL, "a token", device_id=uuid.UUID(int=9), transport=transport), network


def response(status: int, body: bytes | object = b"") -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.Response(status, headers={"content-type": "application/json"}, stream=httpx.ByteStream(content))


def serving(held: bytes, *, ranges: bool = True) -> Answer:
    """Answer with the asked range of these bytes, as RFC 9110 has it; or with all of them."""

    def answer(request: httpx.Request) -> httpx.Response:
        if not ranges:
            return response(200, held)
        first, last = map(int, re.findall(r"\d+", request.headers["range"]))
        return response(206, held[first : last + 1]) if first < len(held) else response(416)

    return answer


def read(answer: Answer, **where: int) -> tuple[list[bytes], list[str]]:
    """Return the pieces of a stream, and the ranges that were asked for."""
    made, network = client(answer)
    pieces = list(made.stream("ada", SESSION, "main", **where))
    return pieces, [request.headers["range"].removeprefix("bytes=") for request in network.asked]


HELD = bytes(range(25))


def test_a_stream_is_read_in_pieces_up_to_its_end() -> None:
    assert read(serving(HELD)) == ([HELD[:10], HELD[10:20], HELD[20:]], ["0-9", "10-19", "20-29"])


def test_a_stream_that_ends_with_a_piece_is_read_up_to_its_end() -> None:
    """Only the next request shows that nothing follows."""
    assert read(serving(HELD[:20])) == ([HELD[:10], HELD[10:20]], ["0-9", "10-19", "20-29"])


@pytest.mark.parametrize(
    ("start", "end", "ranges"),
    [(7, 9, ["7-8"]), (7, 17, ["7-16"]), (7, 18, ["7-16", "17-17"]), (5, 99, ["5-14", "15-24", "25-34"])],
)
def test_a_part_of_a_stream_is_read(start: int, end: int, ranges: list[str]) -> None:
    pieces, asked = read(serving(HELD), start=start, end=end)
    assert (b"".join(pieces), asked) == (HELD[start:end], ranges)


def test_nothing_is_asked_about_an_empty_part() -> None:
    assert read(serving(HELD), start=5, end=5) == ([], [])


@pytest.mark.parametrize(("start", "end"), [(0, 25), (3, 25), (3, 8), (20, 99)])
def test_an_endpoint_without_ranges_is_asked_once(start: int, end: int) -> None:
    pieces, asked = read(serving(HELD, ranges=False), start=start, end=end)
    assert (b"".join(pieces), len(asked)) == (HELD[start:end], 1)


def test_an_endpoint_that_sends_too_much_gives_no_more_than_was_asked_for() -> None:
    pieces, _ = read(lambda _: response(206, HELD), start=0, end=12)
    assert pieces == [HELD[:12]]


@pytest.mark.parametrize("generation", [None, 0, 3])
def test_a_generation_is_named_in_the_address(generation: int | None) -> None:
    made, network = client(serving(HELD[:5]))
    assert b"".join(made.stream("my machine", SESSION, "agents/a1", generation=generation)) == HELD[:5]
    path = f"/v1/sessions/my%20machine/{SESSION}/streams/agents/a1"
    query = b"" if generation is None else f"?generation={generation}".encode()
    assert network.asked[0].url.raw_path == path.encode() + query


ERRORS = [
    (400, Rejected),
    (401, Refused),
    (403, Forbidden),
    (413, TooLarge),
    (416, WrongEndpoint),
    (429, Unreachable),
    (503, Unreachable),
    (500, Unreachable),
    (302, WrongEndpoint),
]


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), *ERRORS])
def test_a_stream_that_can_not_be_read_is_an_error(status: int, error: type[Exception]) -> None:
    """416 for the first byte is no end: each stream has that byte."""
    with pytest.raises(error):
        read(lambda _: response(status, {}))


def test_the_reason_why_there_is_no_stream_is_quoted() -> None:
    for body, reason in (
        ({"title": "damaged", "detail": "stream x is damaged: a\nb"}, "stream x is damaged: a?b"),
        ({}, "no stream"),
    ):
        with pytest.raises(NotFound, match="answered 404: .*" + re.escape(reason)):
            read(lambda _, body=body: response(404, body))


def pages(made: list[dict[str, Any]]) -> Answer:
    """Answer with these pages, one after another."""
    left = iter(made)
    return lambda _: response(200, next(left))


def listed(name: str, *numbers: int) -> dict[str, Any]:
    generations = [{"generation": number, "length": 1, "previous": None, "keep": 0} for number in numbers]
    return {"name": name, "generations": generations}


def test_the_generations_of_a_stream_may_be_on_two_pages() -> None:
    made, network = client(
        pages(
            [
                {"streams": [listed("a", 0), listed("b", 0, 1)], "next": "b 1"},
                {"streams": [listed("b", 2), listed("c", 0)], "next": None},
            ]
        )
    )
    found = made.streams("ada", SESSION)
    assert [(each.name, [one.generation for one in each.generations]) for each in found] == [
        ("a", [0]),
        ("b", [0, 1, 2]),
        ("c", [0]),
    ]
    path = f"/v1/sessions/ada/{SESSION}/streams"
    assert [request.url.raw_path.decode() for request in network.asked] == [path, f"{path}?after=b%201"]


def endless(streams: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    while True:
        yield {"streams": streams, "next": "on and on"}


@pytest.mark.parametrize(("streams", "asked"), [([], 1), ([listed("a", 0)], 4), ([listed("a", *range(7))], 1)])
def test_a_list_of_streams_without_an_end_is_an_error(
    streams: list[dict[str, Any]], asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not fill the memory (rule 12)."""
    monkeypatch.setattr(read_client, "MAX_LISTED", 7)
    left = endless(streams)
    made, network = client(lambda _: response(200, next(left)))
    with pytest.raises(WrongEndpoint, match="without an end"):
        made.streams("ada", SESSION)
    assert len(network.asked) == asked


@pytest.mark.parametrize("status", [404, 405, 501])
def test_an_endpoint_that_can_not_erase_is_to_be_upgraded(status: int) -> None:
    made, network = client(lambda _: response(status, {}))
    with pytest.raises(WrongEndpoint, match="can't erase sessions"):
        made.forget(SESSION)
    assert [(each.method, each.url.path) for each in network.asked] == [("DELETE", f"/v1/sessions/{SESSION}")]


@pytest.mark.parametrize(("status", "error"), ERRORS)
def test_an_endpoint_that_does_not_erase_now_is_another_error(status: int, error: type[Exception]) -> None:
    with pytest.raises(error) as found:
        client(lambda _: response(status, {}))[0].forget(SESSION)
    assert "can't erase" not in str(found.value)


def test_a_receipt_that_can_not_be_read_is_an_error() -> None:
    with pytest.raises(WrongEndpoint, match="does not follow the protocol"):
        client(lambda _: response(200, {"session": 5}))[0].forget(SESSION)


LISTS: list[tuple[Callable[[ReadClient, str | None], object], str, str, tuple[int, ...]]] = [
    (lambda made, at: made.sessions(at, 5), "/v1/sessions?limit=5", "after", ()),
    (lambda made, at: made.changes(at, 5), "/v1/changes?limit=5", "since", (404, 410)),
    (lambda made, at: made.unlisted(at, 5), "/v1/unlisted?limit=5", "after", ()),
    (lambda made, at: made.forgotten(at, 5), "/v1/forgotten?limit=5", "since", (404, 405, 410)),
]


@pytest.mark.parametrize(("ask", "path", "name", "missing"), LISTS)
def test_a_page_is_asked_for_by_its_position(
    ask: Callable[[ReadClient, str | None], object], path: str, name: str, missing: tuple[int, ...]
) -> None:
    """What an endpoint of an earlier version, or one that was restored, does not have is no fault of it."""
    for at, address in ((None, path), ("a b", f"{path}&{name}=a%20b")):
        made, network = client(lambda _: response(503))
        with pytest.raises(Unreachable):
            ask(made, at)
        assert network.asked[0].url.raw_path.decode() == address
    for status in (404, 405, 410):
        with pytest.raises(NotFound if status in missing else WrongEndpoint):
            ask(client(lambda _, status=status: response(status, {}))[0], None)
    with pytest.raises(WrongEndpoint, match="can't be requested"):
        ask(client(lambda _: response(200, {}))[0], "x" * 70_000)
