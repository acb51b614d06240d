"""A direct HTTP/1.1 connection to an endpoint.

The transport of httpx would use httpcore and h11: that is a fifth of the CPU of a pushed line, and 50 modules to
import. It is still used for a connection through a proxy.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader

from sessiond.endpoint.http_answer import Head, read_body, read_head
from sessiond.memory import hide_modules

with hide_modules("httpx._main"):
    import httpx

ON_CONNECT = "sessiond.on_connect"
"""Extension of a request: called with the socket of each new connection, before the TLS handshake."""
_PORTS = {"http": 80, "https": 443}


class DirectTransport(httpx.BaseTransport):
    """Sends requests over one connection, which is kept for the next request. Not thread-safe.

    Timeouts are those of the request (extension `timeout`, as httpx defines it): each is for a single operation.
    """

    def __init__(self, context: ssl.SSLContext | None, *, idle: float) -> None:
        """`context` is for https. A connection that was unused for `idle` seconds is not used again."""
        self._context = context
        if context is not None:
            context.set_alpn_protocols(["http/1.1"])
        self._idle = idle
        self._connection: Connection | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the head of its answer. The caller reads and closes the response's stream.

        Raises: httpx.TransportError. The connection is closed then.
        """
        head, timeouts = _head(request), request.extensions["timeout"]
        if self._connection is not None and not self._connection.is_usable(self._idle):
            self.close()
        try:
            connection = self._connection or self._connect(request, timeouts["connect"])
            connection.socket.settimeout(timeouts["read"])
            connection.send(head, request)
            with _translated(httpx.ReadTimeout, httpx.ReadError):
                answer = read_head(connection.file)
        except BaseException:
            self.close()
            raise
        content = _Content(connection.file, answer, self._finish)
        return httpx.Response(answer.status, headers=answer.headers, stream=content)

    def _connect(self, request: httpx.Request, timeout: float) -> Connection:
        url, on_connect = request.url, request.extensions.get(ON_CONNECT)
        host = url.raw_host.decode("ascii")
        with _translated(httpx.ConnectTimeout, httpx.ConnectError):
            opened = socket.create_connection((host, url.port or _PORTS[url.scheme]), timeout)
            try:
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._context is not None:
                    # The handshake comes later, so that it can be aborted: `on_connect` has the socket by then.
                    opened = self._context.wrap_socket(opened, server_hostname=host, do_handshake_on_connect=False)
                if on_connect is not None:
                    on_connect(opened)
                if isinstance(opened, ssl.SSLSocket):
                    opened.do_handshake()
                self._connection = Connection(opened)
            except BaseException:
                opened.close()
                raise
        return self._connection

    def _finish(self, reusable: bool) -> None:
        if self._connection is not None:
            self._connection.used = time.monotonic()
        if not reusable:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        closed, self._connection = self._connection, None
        if closed is not None:
            closed.close()


class Connection:
    """A socket, and the file that answers are read from."""

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.file: BufferedReader = opened.makefile("rb")
        self.used = time.monotonic()
        """When the last answer was complete (monotonic seconds)."""

    def is_usable(self, idle: float) -> bool:
        """Return whether the other side seems to keep it open. An idle connection that is readable was closed."""
        if time.monotonic() - self.used > idle:
            return False
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return not poll.poll(0)

    def send(self, head: bytes, request: httpx.Request) -> None:
        """Send a request; its head and the first part of the body together. Raises: httpx.WriteTimeout."""
        assert isinstance(request.stream, httpx.SyncByteStream)
        unsent = head
        try:
            with _translated(httpx.WriteTimeout, httpx.WriteError):
                for part in request.stream:
                    self.socket.sendall(unsent + part)
                    unsent = b""
                if unsent:
                    self.socket.sendall(unsent)
        except httpx.WriteError:
            pass  # an endpoint may answer and close before it has read all, as with 413: the answer is read next

    def close(self) -> None:
        """Close both."""
        for closed in (self.file, self.socket):
            with suppress(OSError):
                closed.close()


class _Content(httpx.SyncByteStream):
    """The body of an answer."""

    def __init__(self, file: BufferedReader, head: Head, finish: Callable[[bool], None]) -> None:
        """`finish` is called with whether the connection can be used again."""
        self._file, self._head, self._finish = file, head, finish
        self._complete = False

    def __iter__(self) -> Iterator[bytes]:
        with _translated(httpx.ReadTimeout, httpx.ReadError):
            yield from read_body(self._file, self._head)
        self._complete = True

    def close(self) -> None:
        """Release the connection: it can be used again only if the answer was read to its end."""
        self._finish(self._complete and self._head.keeps_connection)


def _head(request: httpx.Request) -> bytes:
    """Return the request line and the headers. Raises: httpx.LocalProtocolError."""
    lines = [request.method.encode("ascii") + b" " + request.url.raw_path + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in request.headers.raw]
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        raise httpx.LocalProtocolError("a header has a line break")  # such as a token with one
    return b"\r\n".join(lines) + b"\r\n\r\n"


@contextmanager
def _translated(timed_out: type[httpx.TransportError], failed: type[httpx.TransportError]) -> Iterator[None]:
    """Raise the errors of a socket as those of httpx."""
    try:
        yield
    except TimeoutError as error:
        raise timed_out(str(error)) from error
    except OSError as error:
        raise failed(str(error)) from error
