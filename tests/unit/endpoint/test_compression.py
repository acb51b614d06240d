"""Which encoding a push is sent in, depending on what the endpoint has said and answered before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

import httpx
import pytest

from sessiond import zstd
from sessiond.endpoint import dictionary
from sessiond.endpoint.compression import JSON_LINES, CompressingTransport

URL = "http://127.0.0.1:1"
LINES = b'{"op":"session","record":{"tool":"codex"}}\n' * 4
OFFER = {"features": ["erase", dictionary.FEATURE]}
JSON = "application/json"


class Network(httpx.BaseTransport):
    """Answers what it is told to, the last answer again and again, and remembers what was sent."""

    def __init__(self) -> None:
        self.answers: list[httpx.Response | httpx.TransportError] = []
        self.sent: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, httpx.TransportError):
            raise answer
        return answer


def answer(status: int = 200, body: object = None, content_type: str = JSON) -> httpx.Response:
    stream = httpx.ByteStream(json.dumps(body or {}).encode())
    return httpx.Response(status, headers={"content-type": content_type}, stream=stream)


class Lab:
    """A transport in front of a network."""

    def __init__(self) -> None:
        self.network = Network()
        self.transport = CompressingTransport(self.network)

    def ask(self, path: str = "/v1", method: str = "GET", *, said: httpx.Response) -> None:
        self.network.answers = [said]
        self.transport.handle_request(httpx.Request(method, URL + path))

    def push(self, *said: httpx.Response | httpx.TransportError) -> list[str]:
        """Push lines; return the encodings in which they were sent."""
        self.network.answers, self.network.sent = list(said or [answer()]), []
        request = httpx.Request("POST", f"{URL}/v1/push", content=LINES, headers={"content-type": JSON_LINES})
        with suppress(httpx.TransportError):
            self.transport.handle_request(request)
        return [each.headers["content-encoding"] for each in self.network.sent]


@pytest.fixture
def offered() -> Lab:
    """Return a lab whose endpoint has said that it knows dictionaries."""
    lab = Lab()
    lab.ask(said=answer(body=OFFER))
    return lab


def test_a_push_is_compressed_with_the_one_before(offered: Lab) -> None:
    assert [offered.push() for _ in range(3)] == [["zstd"], [dictionary.ENCODING], [dictionary.ENCODING]]
    sent = offered.network.sent[0]
    body = sent.read()
    assert sent.headers["content-length"] == str(len(body))
    assert sent.headers["content-type"] == JSON_LINES
    known = (LINES * 2)[-dictionary.SIZE :]
    _, frames = dictionary.unpack(body)
    assert b"".join(zstd.decompress_stream((frames,), 1 << 20, known)) == LINES


@pytest.mark.parametrize(
    ("path", "method", "said"),
    [
        ("/v1/sessions", "GET", answer(body=OFFER)),
        ("/v1", "POST", answer(body=OFFER)),
        ("/v1", "GET", answer(503, OFFER)),
        ("/v1", "GET", answer(200, OFFER, "text/html")),
        ("/v1", "GET", answer(200, {"features": ["erase"]})),
        ("/v1", "GET", answer(200, {"features": 7})),
    ],
)
def test_only_the_description_of_the_endpoint_offers_it(path: str, method: str, said: httpx.Response) -> None:
    """A login page or the content of a session must not."""
    lab = Lab()
    lab.ask(path, method, said=said)
    assert [lab.push() for _ in range(2)] == [["zstd"]] * 2


def test_other_requests_are_sent_as_they_are(offered: Lab) -> None:
    offered.network.answers, offered.network.sent = [answer()], []
    request = httpx.Request("POST", f"{URL}/v1/offsets", content=b"{}", headers={"content-type": JSON})
    offered.transport.handle_request(request)
    assert offered.network.sent == [request]
    assert "content-encoding" not in request.headers


@pytest.mark.parametrize("status", [400, 415, 404])
def test_what_is_refused_with_a_dictionary_is_sent_without_one(offered: Lab, status: int) -> None:
    """The endpoint has another one, or a proxy does not know the encoding."""
    offered.push()
    assert offered.push(answer(status), answer()) == [dictionary.ENCODING, "zstd"]
    assert offered.push() == [dictionary.ENCODING]


@pytest.mark.parametrize("status", [413, 429, 503])
def test_what_another_encoding_does_not_help_is_not_sent_again(offered: Lab, status: int) -> None:
    """Afterwards it is not known what the endpoint has."""
    offered.push()
    assert offered.push(answer(status)) == [dictionary.ENCODING]
    assert offered.push() == ["zstd"]


@pytest.mark.parametrize(
    "said", [httpx.ReadError("the line broke"), answer(503), answer(200, {}, "text/html")], ids=["none", "503", "HTML"]
)
def test_after_a_push_without_its_answer_there_is_no_dictionary(
    offered: Lab, said: httpx.Response | httpx.TransportError
) -> None:
    assert offered.push(said) == ["zstd"]
    assert offered.push() == ["zstd"]
    assert offered.push() == [dictionary.ENCODING]


def test_after_some_refusals_no_dictionary_is_used_until_the_endpoint_is_asked_again(offered: Lab) -> None:
    offered.push()
    refused: Sequence[httpx.Response] = (answer(400), answer())
    for _ in range(dictionary.MAX_MISSES):
        assert offered.push(*refused) == [dictionary.ENCODING, "zstd"]
    assert offered.push() == ["zstd"]
    offered.ask(said=answer(body=OFFER))
    assert offered.push() == [dictionary.ENCODING]
