"""The connection to an endpoint: answers of any HTTP/1.1 server, and when the connection is used again."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

import httpx
import pytest

from sessiond.endpoint.direct import DirectTransport

JSON = b'{"a": 1}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + JSON
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TIMEOUTS = httpx.Timeout(10).as_dict()


class Script:
    """A server that answers each request with the next bytes, and closes a connection where the script says so."""

    def __init__(self, answers: Sequence[bytes | None]) -> None:
        """None closes the connection; the next answer is for the next connection."""
        self.answers, self.connections, self.received = list(answers), 0, b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while self.answers:
            connection, _ = self._listener.accept()
            self.connections += 1
            with connection:
                while self.answers and (answer := self.answers.pop(0)) is not None:
                    self.received += connection.recv(1 << 16)
                    connection.sendall(answer)

    def close(self) -> None:
        """Wait until the script has ended."""
        self._thread.join(60)
        self._listener.close()


@pytest.fixture
def transport() -> Iterator[DirectTransport]:
    made = DirectTransport(None, idle=60.0)
    yield made
    made.close()


def ask(transport: DirectTransport, url: str, body: bytes = b"") -> tuple[int, bytes]:
    """Send a request; return the status and the body of the answer."""
    request = httpx.Request("POST", url, content=body, extensions={"timeout": TIMEOUTS})
    response = transport.handle_request(request)
    try:
        assert isinstance(response.stream, httpx.SyncByteStream)
        return response.status_code, b"".join(response.stream)
    finally:
        response.close()


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        CHUNKED + b"3\r\n" + JSON[:3] + b"\r\n5;note=x\r\n" + JSON[3:] + b"\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER,
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + ANSWER,
    ],
)
def test_each_form_of_an_answer_is_read_and_keeps_the_connection(transport: DirectTransport, answer: bytes) -> None:
    """A length, chunks with a trailer, and informational answers before it (RFC 9112, RFC 9110 section 15.2)."""
    server = Script([answer, answer])
    assert [ask(transport, server.url) for _ in range(2)] == [(200, JSON)] * 2
    server.close()
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n" + JSON,
        b"HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\n" + JSON,
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\n" + JSON,
    ],
)
def test_a_connection_that_the_endpoint_ends_is_not_used_again(transport: DirectTransport, answer: bytes) -> None:
    """Otherwise the next push would fail once."""
    server = Script([answer, None, answer, None])
    assert [ask(transport, server.url) for _ in range(2)] == [(200, JSON)] * 2
    server.close()
    assert server.connections == 2


def test_an_idle_connection_that_was_closed_is_replaced(transport: DirectTransport) -> None:
    """Endpoints and proxies close idle connections without a word."""
    server = Script([ANSWER, None, ANSWER, ANSWER])
    assert ask(transport, server.url) == (200, JSON)
    held = transport._connection
    assert held is not None
    while held.socket.recv(1, socket.MSG_PEEK):
        pass
    assert [ask(transport, server.url) for _ in range(2)] == [(200, JSON)] * 2
    server.close()
    assert server.connections == 2


def test_a_connection_that_was_idle_for_long_is_replaced() -> None:
    """A firewall may have forgotten it without closing it: a request would wait until its deadline."""
    transport = DirectTransport(None, idle=0.0)
    server = Script([ANSWER, None, ANSWER])
    assert [ask(transport, server.url) for _ in range(2)] == [(200, JSON)] * 2
    server.close()
    transport.close()
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + JSON,
        CHUNKED + b"9\r\n" + JSON,
        CHUNKED + b"8\r\n" + JSON + b"\r\n",
        CHUNKED + b"x\r\n" + JSON,
        CHUNKED + b"-1\r\n" + JSON,
        CHUNKED + b"7\r\n" + JSON + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + JSON,
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nContent-Length: 7\r\n\r\n" + JSON,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + JSON,
        b"HTTP/1.1 200 OK\r\nContent-Length : 8\r\n\r\n" + JSON,
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n folded\r\n\r\n" + JSON,
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * (1 << 17) + b"\r\n\r\n",
    ],
)
def test_a_part_of_an_answer_is_an_error(transport: DirectTransport, answer: bytes) -> None:
    """It must not count as an acknowledgement, nor what programs read in different ways. The connection is closed."""
    server = Script([answer, None, ANSWER])
    with pytest.raises(httpx.RemoteProtocolError):
        ask(transport, server.url)
    assert ask(transport, server.url) == (200, JSON)
    server.close()


def test_a_connection_without_an_answer_is_a_read_error(transport: DirectTransport) -> None:
    """The transport above sends the request again if the connection was kept from before."""
    server = Script([b"", None])
    with pytest.raises(httpx.ReadError):
        ask(transport, server.url)
    server.close()


def test_an_answer_before_the_end_of_the_request_is_read(transport: DirectTransport) -> None:
    """A proxy refuses a body that is too large with 413, and closes the connection while it is sent."""
    refused = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    listener = socket.create_server(("127.0.0.1", 0))
    refusing = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 10)
            connection.sendall(refused)
            connection.shutdown(socket.SHUT_WR)
            refusing.set()
            while connection.recv(1 << 20):
                pass

    thread = threading.Thread(target=serve)
    thread.start()

    class Body(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"x"
            refusing.wait(60)
            held = transport._connection
            assert held is not None
            held.socket.shutdown(socket.SHUT_WR)  # as after a reset: what is sent now fails
            yield b"y"

    request = httpx.Request(
        "POST", f"http://127.0.0.1:{listener.getsockname()[1]}/", stream=Body(), extensions={"timeout": TIMEOUTS}
    )
    response = transport.handle_request(request)
    response.close()
    thread.join(60)
    listener.close()
    assert response.status_code == 413


def test_a_header_with_a_line_break_is_not_sent(transport: DirectTransport) -> None:
    """A token file with two lines would add a header of its own."""
    server = Script([ANSWER])
    bad = httpx.Request(
        "GET", server.url, headers={"Authorization": "Bearer a\r\nX: y"}, extensions={"timeout": TIMEOUTS}
    )
    with pytest.raises(httpx.LocalProtocolError, match="line break"):
        transport.handle_request(bad)
    assert ask(transport, server.url, b"body") == (200, JSON)
    server.close()
    assert server.received.startswith(b"POST /v1 HTTP/1.1\r\n") and server.received.endswith(b"\r\n\r\nbody")
    assert b"X: y" not in server.received


def test_no_other_http_library_is_imported(transport: DirectTransport) -> None:
    """The transport of httpx imports httpcore and h11: 50 modules at each start, and their memory."""
    server = Script([ANSWER])
    code = (
        "import sys, httpx; from sessiond.endpoint.transport import make_transport;"
        f" request = httpx.Request('GET', {server.url!r});"
        " assert make_transport(str(request.url)).handle_request(request).status_code == 200;"
        " sys.exit(bool({'httpcore', 'h11', 'anyio', 'certifi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    server.close()
    assert done.returncode == 0
