"""The server shuts down without losing an answer and without waiting for idle clients."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send

from sessiond.endpoint.server.server import Server, in_thread

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
