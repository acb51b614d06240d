"""Answers that the client reads: Retry-After, a login page's status, and positions in streams."""

from __future__ import annotations

import json
import uuid

import httpx
import pytest

from sessiond.endpoint import wire
from sessiond.endpoint.answers import MAX_RETRY_AFTER, parse_date, parse_retry_after
from sessiond.endpoint.client import Client
from sessiond.endpoint.transport import make_transport
from sessiond.errors import WrongEndpoint

URL = "http://127.0.0.1:1"
KEYS = [wire.StreamKey(session=uuid.UUID(int=number), stream="main") for number in (1, 2)]


class Fixed(httpx.BaseTransport):
    """A network that gives one answer."""

    def __init__(self, status: int, body: object) -> None:
        self.status, self.body = status, json.dumps(body).encode()

    def handle_request(self, _: httpx.Request) -> httpx.Response:
        return httpx.Response(
            self.status, headers={"content-type": "application/json"}, stream=httpx.ByteStream(self.body)
        )


def client(status: int, body: object) -> Client:
    return Client(
        URL, "a token", device_id=uuid.UUID(int=9), transport=make_transport(URL, network=Fixed(status, body))
    )


def position(number: int) -> dict[str, object]:
    return {"session": str(uuid.UUID(int=number)), "stream": "main", "generation": 0, "length": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("no", None), ("-1", None), ("0", None), ("0.5", 0.5), ("1", 1), ("1e9", MAX_RETRY_AFTER)],
)
def test_retry_after_is_any_time_in_the_future(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("", None), ("soon", None), ("Thu, 01 Jan 1970 00:01:40 GMT", 100.0)],
)
def test_the_date_of_an_answer_is_read_if_it_has_one(value: str | None, seconds: float | None) -> None:
    """`doctor` compares it with the clock of this machine."""
    assert parse_date(value) == seconds


def test_a_network_that_wants_a_login_is_named() -> None:
    """The user can do something about it: that is not an endpoint that is down."""
    with pytest.raises(WrongEndpoint, match="the network asks for a login") as found:
        client(511, {}).offsets("ada", KEYS)
    assert found.value.hint == "log in to the network"


@pytest.mark.parametrize("numbers", [(1, 3), (3, 2), (2, 1), (1,), (1, 2, 2)])
def test_positions_of_other_streams_are_refused(numbers: tuple[int, ...]) -> None:
    """One wrong position is enough: applied to another stream, it would skip bytes."""
    with pytest.raises(WrongEndpoint):
        client(200, {"streams": [position(number) for number in numbers]}).offsets("ada", KEYS)


def test_positions_are_in_the_order_of_the_request() -> None:
    found = client(200, {"streams": [position(1), position(2)]}).offsets("ada", KEYS)
    assert [each and each.session for each in found] == [key.session for key in KEYS]
