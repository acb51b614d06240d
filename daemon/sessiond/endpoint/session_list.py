"""Reads the list of sessions for `ls`, without an HTTP client, whose import takes longer than all else that `ls` does.

It understands what an endpoint that works usually answers: status 200, JSON, Content-Length. Everything else raises
`Unsuitable`; then the caller asks again with `ReadClient`, which knows proxies and reports what is wrong.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from urllib.parse import quote, urlsplit
from uuid import UUID

from sessiond import __version__
from sessiond.config import make_ssl_context
from sessiond.config.url import is_loopback
from sessiond.decoding import json_decoder
from sessiond.endpoint.wire import DEVICE_HEADER, SessionsAnswer
from sessiond.errors import EndpointError

PIECE = 64 << 10
LONGEST_HEAD = 64 << 10
LONGEST = 4 << 20
"""Bytes of an answer that are read, as many as in transport.py: an endpoint must not fill memory."""


class Unsuitable(EndpointError):
    """The endpoint can't be asked in this way, or did not answer with a list."""


class SessionList:
    """A connection to one endpoint that reads its list of sessions. Used by one thread."""

    def __init__(self, url: str, token: str | None, *, device_id: UUID, timeout: float, ca_file: str) -> None:
        """Create it without connecting. `timeout`: seconds for a whole request. Raises: Unsuitable."""
        self.url = url.rstrip("/")
        self._address = urlsplit(self.url)
        host = self._address.hostname or ""
        if not (is_loopback(host) or _connects_directly(os.environ)):
            raise Unsuitable(f"{self.url} may need a proxy")
        self._timeout, self._ca_file = timeout, ca_file
        self._socket: socket.socket | None = None
        fields = {
            "Host": self._address.netloc,
            "User-Agent": f"sessiond/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            DEVICE_HEADER: str(device_id),
        }
        if token:
            fields["Authorization"] = f"Bearer {token}"
        self._head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    def sessions(self, after: str | None, limit: int, wanted: Mapping[str, str]) -> SessionsAnswer:
        """Return a page of sessions, as `ReadClient.sessions` does. Raises: Unsuitable, ConfigError."""
        given = {"limit": str(limit), **wanted} | ({} if after is None else {"after": after})
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in given.items())
        try:
            content = self._get(f"{self._address.path}/v1/sessions?{query}")
            return json_decoder(SessionsAnswer).decode(content)
        except (OSError, ValueError, RecursionError) as error:
            raise Unsuitable(f"{self.url}: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()

    def _get(self, target: str) -> bytes:
        """Return the body of an answer. Raises: OSError, ValueError, ConfigError."""
        deadline = time.monotonic() + self._timeout
        if self._socket is None:
            self._socket = self._connect()
        self._socket.sendall(f"GET {target} HTTP/1.1\r\n{self._head}\r\n".encode("ascii"))
        received = bytearray()
        while b"\r\n\r\n" not in received:
            if len(received) > LONGEST_HEAD:
                raise ValueError("the header is too long")
            received += self._receive(deadline)
        head, _, body = bytes(received).partition(b"\r\n\r\n")
        length = _body_length(head.decode("latin-1").split("\r\n"))
        content = bytearray(body)
        while len(content) < length:
            content += self._receive(deadline)
        if len(content) > length:
            raise ValueError("more than one answer")
        return bytes(content)

    def _connect(self) -> socket.socket:
        address = self._address
        context = make_ssl_context(self._ca_file) if address.scheme == "https" else None
        port = address.port or (80 if context is None else 443)
        connection = socket.create_connection((address.hostname or "", port), self._timeout)
        if context is not None:
            connection = context.wrap_socket(connection, server_hostname=address.hostname)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _receive(self, deadline: float) -> bytes:
        """Return some bytes. Raises: OSError, also at the end of the stream and at the deadline."""
        assert self._socket is not None
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline passed")
        self._socket.settimeout(left)
        found = self._socket.recv(PIECE)
        if not found:
            raise ConnectionError("the connection was closed")
        return found


def _body_length(head: list[str]) -> int:
    """Return the length of a list in JSON from the lines of the header. Raises: ValueError for any other answer."""
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    kind = fields.get("content-type", "").partition(";")[0].strip().lower()
    length = fields.get("content-length", "")
    if head[0].split(" ")[:2] != ["HTTP/1.1", "200"] or kind != "application/json" or "transfer-encoding" in fields:
        raise ValueError("not an answer that is read here")
    if not length.isdigit() or int(length) > LONGEST or fields.get("content-encoding", "identity") != "identity":
        raise ValueError("not an answer that is read here")
    return int(length)


def _connects_directly(environ: Mapping[str, str]) -> bool:
    """Return whether the environment certainly has no proxy. On macOS, the system's settings may have one."""
    named = any(name.lower().endswith("_proxy") and name.lower() != "no_proxy" and environ[name] for name in environ)
    return not named and sys.platform != "darwin"
