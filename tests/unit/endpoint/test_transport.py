"""The transport to an endpoint: the environment's proxy, the size of an answer, and no state but the connection."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import msgspec
import pytest

from sessiond.endpoint import wire
from sessiond.endpoint.answers import content_of
from sessiond.endpoint.client import Client
from sessiond.endpoint.transport import (
    ANSWER_CAP,
    AnswerTooLarge,
    DeadlineTransport,
    describe_proxy,
    find_proxy,
    make_transport,
)
from sessiond.endpoint.wire import PROTOCOL, SERVICE
from sessiond.errors import ConfigError, Unreachable, WrongEndpoint

ABOUT = {
    "service": SERVICE,
    "protocol": PROTOCOL,
    "version": "1",
    "endpoint_id": str(uuid.UUID(int=7)),
    "limits": {"body_bytes": 1, "items": 1, "segment_bytes": 1},
    "encodings": [],
    "features": [],
}


class _Answering(BaseHTTPRequestHandler):
    """Answers as an endpoint, sets a cookie, and keeps the requests."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        self.asked.append((self.path, dict(self.headers.items())))
        body = json.dumps(ABOUT).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "seen=1; Path=/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    handler = type("Handler", (_Answering,), {"asked": []})
    with HTTPServer(("127.0.0.1", 0), handler) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def asked(server: HTTPServer) -> list[tuple[str, dict[str, str]]]:
    """List the requests that came."""
    handler = server.RequestHandlerClass
    assert issubclass(handler, _Answering)
    return handler.asked


def ask(url: str, times: int = 1) -> None:
    """Request the description of an endpoint."""
    client = Client(url, "a-token", device_id=uuid.UUID(int=1))
    for _ in range(times):
        assert client.about().endpoint_id == uuid.UUID(int=7)
    client.close()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}"])
def test_the_environments_proxy_is_used(
    name: str, form: str, server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy may have a scheme or not, as for other programs."""
    monkeypatch.setenv(name, form.format(server.server_port))
    ask("http://endpoint.test")
    ((path, headers),) = asked(server)
    assert (path, headers["Host"]) == ("http://endpoint.test/v1", "endpoint.test")


def test_no_proxy_stands_between_two_programs_of_this_machine(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A company's proxy can't reach the archive or an endpoint on this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    ask(f"http://127.0.0.1:{server.server_port}")
    assert [path for path, _ in asked(server)] == ["/v1"]


def test_what_is_excepted_goes_past_the_proxy(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_PROXY has hosts, and domains whose hosts are all excepted."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "inner.test")
    assert find_proxy("https://endpoint.inner.test/v1") is None
    assert find_proxy("https://endpoint.test") == "http://proxy.test:3128"
    assert find_proxy("http://endpoint.test") is None


def test_an_endpoint_that_does_not_speak_tls_is_named(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to change instead of what TLS reads into the answer. A proxy may be what answered."""
    address = f"127.0.0.1:{server.server_port}"
    with pytest.raises(WrongEndpoint) as found:
        ask(f"https://{address}")
    assert str(found.value) == f"the endpoint at {address} does not speak TLS"
    assert found.value.hint == "set endpoint.url to an address that starts with http://"
    monkeypatch.setenv("HTTPS_PROXY", f"https://user:password@{address}")
    with pytest.raises(WrongEndpoint) as found:
        ask("https://endpoint.test")
    assert str(found.value) == f"the endpoint at endpoint.test:443 or the proxy https://{address} does not speak TLS"
    assert found.value.hint is not None and "--tls-cert" in found.value.hint


def test_no_cookie_comes_back(server: HTTPServer) -> None:
    """Rule 12: only the results of an endpoint have an effect."""
    ask(f"http://127.0.0.1:{server.server_port}", times=2)
    assert len(asked(server)) == 2
    assert not any("Cookie" in headers for _, headers in asked(server))


class Answers(httpx.BaseTransport):
    """Answers every request with a body, and keeps the requests."""

    def __init__(self, body: bytes, **headers: str) -> None:
        self.body, self.headers = body, headers
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        return httpx.Response(200, headers=self.headers, stream=httpx.ByteStream(self.body))


def test_a_client_takes_any_transport_and_gives_it_plain_lines() -> None:
    """Compression and dictionaries are the transport's business."""
    batch = wire.PushAnswer(batch="b", results=[wire.Result(status="stored")])
    network = Answers(msgspec.json.encode(batch), **{"content-type": "application/json"})
    client = Client("http://endpoint.test", None, device_id=uuid.UUID(int=1), transport=network)
    item = wire.PushGeneration(machine_id="a", session=uuid.UUID(int=1), stream="m", generation=1, previous=0, keep=0)
    client.push([item], "b")
    (request,) = network.requests
    assert msgspec.json.decode(request.content, type=wire.Push) == item
    assert "content-encoding" not in request.headers
    assert request.headers["content-length"] == str(len(request.content))


def test_an_answer_without_an_end_is_not_read_into_memory() -> None:
    """Reading ends with the first part beyond the limit."""
    parts = 0

    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            nonlocal parts
            while parts < 1000:
                parts += 1
                yield bytes(1 << 20)

    network = httpx.MockTransport(lambda _: httpx.Response(200, stream=Endless()))
    transport = DeadlineTransport(network)
    with pytest.raises(AnswerTooLarge):
        transport.handle_request(httpx.Request("GET", "http://endpoint.test/v1"))
    assert parts == (ANSWER_CAP >> 20) + 1
    client = Client("http://endpoint.test", None, device_id=uuid.UUID(int=1), transport=DeadlineTransport(network))
    parts = 0
    with pytest.raises(WrongEndpoint, match="longer than"):
        client.about()
    client.close()
    transport.close()


def test_a_compressed_answer_is_not_unpacked() -> None:
    """The client asks for none, and one could decompress to any size: it is returned as it came."""
    bomb = gzip.compress(bytes(1 << 20))
    transport = DeadlineTransport(Answers(bomb, **{"content-encoding": "gzip"}))
    response = transport.handle_request(httpx.Request("GET", "http://endpoint.test/v1"))
    assert content_of(response) == bomb
    transport.close()


def test_sent_bytes_are_counted_as_they_go_over_the_network() -> None:
    """They are counted after compression, as the throttle limits the rate on the network."""
    about = msgspec.json.encode(ABOUT | {"features": ["dictionary"]})
    network = Answers(about, **{"content-type": "application/json"})
    client = Client(
        "http://endpoint.test", None, device_id=uuid.UUID(int=1), transport=make_transport("", network=network)
    )
    client._send(
        "POST", httpx.URL("http://endpoint.test/v1/push"), {"Content-Type": "application/x-ndjson"}, b"x" * 9999
    )
    (request,) = network.requests
    assert 0 < client.sent_bytes < 100
    assert client.sent_bytes == len(request.content) == int(request.headers["content-length"])
    client.close()


@pytest.mark.parametrize("proxy", ["socks9://ada:SENTINEL@127.0.0.1:1", "http://ada:SENTINEL@host:port"])
def test_a_proxy_that_can_not_be_used_is_a_configuration_error(
    proxy: str, server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon ends with a message instead of a traceback, and the message has no password."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigError, match=r"\(HTTPS_PROXY\) can't be used") as caught:
        Client("https://endpoint.test", "a-token", device_id=uuid.UUID(int=1))
    assert "SENTINEL" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("password", ["SENTINEL", "SEN/TINEL", "SEN@TINEL", "SEN/TI@NEL"])
def test_a_proxy_is_described_without_its_password(password: str) -> None:
    """The special characters of the password need not be percent-encoded."""
    assert describe_proxy(f"http://ada:{password}@proxy.test:3128/") == "http://proxy.test:3128"


class ClosingServer:
    """Answers the first request of each connection, and closes the connection when the second one has arrived."""

    def __init__(self, answers: int) -> None:
        """`answers`: requests that are answered at all; later connections are closed without an answer."""
        self.answers, self.connections, self.requests = answers, 0, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        body = json.dumps(ABOUT).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if not self._receive(connection):
                    return
                self.connections += 1
                if self.answers:
                    self.answers -= 1
                    connection.sendall(head + body)
                    self._receive(connection)

    def _receive(self, connection: socket.socket) -> bool:
        """Read until the end of a request's headers; return whether one came."""
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            part = connection.recv(4096)
            if not part:
                return False
            received += part
        self.requests += 1
        return True

    def close(self) -> None:
        """End the thread: a connection without a request."""
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join()
        self._listener.close()


def test_a_request_on_a_connection_that_closes_meanwhile_is_sent_once_more() -> None:
    """The endpoint may close an idle connection in the moment when the next request is under way."""
    server = ClosingServer(answers=3)
    client = Client(server.url, None, device_id=uuid.UUID(int=1))
    for _ in range(3):
        assert client.about().endpoint_id == uuid.UUID(int=7)
    assert (server.connections, server.requests) == (3, 5)
    client.close()
    server.close()


def test_a_new_connection_that_closes_is_an_error() -> None:
    """It is not repeated here, so that a broken endpoint costs no more than one further attempt."""
    server = ClosingServer(answers=1)
    client = Client(server.url, None, device_id=uuid.UUID(int=1))
    client.about()
    with pytest.raises(Unreachable):
        client.about()
    assert (server.connections, server.requests) == (2, 3)
    with pytest.raises(Unreachable):
        client.about()
    assert (server.connections, server.requests) == (3, 4)
    client.close()
    server.close()
