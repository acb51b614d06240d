"""The server shuts down without losing an answer and without waiting for idle clients."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from endpoint_lines import DEVICE, Pusher, append, record
from starlette.types import Receive, Scope, Send

from sessiond.endpoint.server.app import Settings, build
from sessiond.endpoint.server.drain import Drain
from sessiond.endpoint.server.server import Server, in_thread
from sessiond.endpoint.server.sqlite_store import SqliteStore

SOON = 60


class App:
    """Answers a request to /slow when the test lets it."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 200."""
        if scope["path"] == "/slow":
            self.asked.set()
            await asyncio.to_thread(self.go.wait, SOON)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def request(listener: socket.socket, path: str) -> http.client.HTTPConnection:
    """Send a request on its own connection."""
    connection = http.client.HTTPConnection(*listener.getsockname(), timeout=SOON)
    connection.request("GET", path)
    return connection


def test_a_running_request_is_answered_before_the_server_ends(listener: socket.socket) -> None:
    app = App()
    server = Server(app)
    with in_thread(server, listener):
        connection = request(listener, "/slow")
        assert app.asked.wait(SOON)
        server.end()
        app.go.set()
        assert connection.getresponse().read() == b"done"
        connection.close()


def test_idle_connections_are_closed_and_new_ones_are_refused(listener: socket.socket) -> None:
    """A client that keeps its connection would hold the server until the grace period ends."""
    address = listener.getsockname()
    with in_thread(server := Server(App()), listener):
        connection = request(listener, "/")
        assert connection.getresponse().read() == b"done"
        assert connection.sock is not None
    assert connection.sock.recv(1) == b""
    assert not server.server_state.connections
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=SOON)


def test_a_draining_endpoint_finishes_what_it_has_read(tmp_path: Path, listener: socket.socket) -> None:
    """A push whose headers came before is stored and answered. Later requests, and the balancer's, are answered 503."""
    url = "http://{}:{}".format(*listener.getsockname())
    drain = Drain(seconds=SOON)
    token = "sd_" + "0" * 32
    with closing(SqliteStore(str(tmp_path))) as store:
        server = Server(build(store, secrets=(token,), settings=Settings(drain=drain)), drain=drain)
        body = json.dumps(append(0, b"text")).encode()
        with in_thread(server, listener), Pusher(url, token) as later:
            assert httpx.get(f"{url}/healthz", timeout=60).text == "ok\n"
            assert later.said(record()) == ["stored"]
            with socket.create_connection(listener.getsockname(), timeout=SOON) as begun:
                begun.sendall(
                    b"POST /v1/push HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                    + f"Authorization: Bearer {token}\r\nSessiond-Device: {DEVICE}\r\n".encode()
                    + f"Content-Length: {len(body)}\r\n\r\n".encode()
                )
                assert begun.recv(1000).startswith(b"HTTP/1.1 100"), "the endpoint has the headers and wants the body"
                server.end()
                while (health := httpx.get(f"{url}/healthz", timeout=60)).status_code == 200:
                    pass
                assert (health.status_code, health.text, health.headers["connection"]) == (503, "draining\n", "close")
                refused = later.post("/v1/push", content=json.dumps(append(0, b"other")))
                assert (refused.status_code, refused.json()["type"]) == (503, "busy")
                assert refused.headers["connection"] == "close"
                assert 1 <= int(refused.headers["retry-after"]) <= 5
                begun.sendall(body)
                answer = http.client.HTTPResponse(begun)
                answer.begin()
                assert json.loads(answer.read())["results"] == [{"status": "stored"}]
            server.end()  # a second signal cuts the drain short
        with store.read() as db:
            assert db.execute("SELECT length FROM generations").fetchall() == [(4,)]
