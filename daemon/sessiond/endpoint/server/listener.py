"""Accepts connections, as many as the limit of open files allows."""

from __future__ import annotations

import asyncio
import errno
import resource
import secrets
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from sessiond.endpoint.server.connections import Connection, Connections
from sessiond.endpoint.server.problems import SOON, problem_answer
from sessiond.logs import log

MAX_CONNECTIONS = 1024
MIN_CONNECTIONS = 16
RESERVED = 96
"""Descriptors for everything else: connections to the store, with two or three files each, and Python's own files."""
WANTED = MAX_CONNECTIONS + RESERVED
AT_ONCE = 32
"""Connections that are accepted in one iteration of the loop: it frees the descriptors of dropped ones at its end."""
PAUSE = 0.1
"""Seconds without accepting when no descriptor is left and no connection can be dropped."""
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
BUSY = [
    problem_answer(503, "busy", "too many connections", f"Retry-After: {seconds}")
    for seconds in range(SOON[0], SOON[1] + 1)
]
"""The answers to a connection that is one too many. Clients that were refused together must not return together."""

Factory = Callable[[str], Connection]
"""Returns the asyncio protocol for a connection from this address."""


def raise_limit() -> int:
    """Raise the soft limit of open files as far as is useful and allowed, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has a second limit; keep the current one if that is lower
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return WANTED if soft == resource.RLIM_INFINITY else soft


def most_connections(descriptors: int) -> int:
    """Return how many connections may be open with this many descriptors."""
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, descriptors - RESERVED))


class Listener:
    """Accepts connections on a listening socket.

    asyncio's own listener has no limit, and logs an error for each connection when no descriptor is left.
    """

    def __init__(
        self, sock: socket.socket, connections: Connections, factory: Factory, context: ssl.SSLContext | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._connections = connections
        self._factory = factory
        self._ssl = context
        self._paused: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._reported = False
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        """Stop accepting connections."""
        if self._paused is not None:
            self._paused.cancel()
        with suppress(OSError, ValueError):
            self._loop.remove_reader(self._sock.fileno())

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                self._exhausted(error)
                return
            self._take(accepted, str(address[0]))

    def _take(self, accepted: socket.socket, address: str) -> None:
        accepted.setblocking(False)
        if not self._connections.admit():
            # All connections are being answered. Answer 503 at once, so that the client does not wait for its timeout.
            with accepted, suppress(OSError):
                if self._ssl is None:
                    accepted.send(secrets.choice(BUSY))
                    accepted.shutdown(socket.SHUT_WR)
            return
        connection = self._factory(address)
        task = self._loop.create_task(self._connect(accepted, connection))
        self._connections.negotiate(connection, task)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._connected(done, accepted, connection))

    async def _connect(self, accepted: socket.socket, connection: Connection) -> None:
        timeout = {"ssl_handshake_timeout": self._connections.timeouts.headers} if self._ssl else {}
        with suppress(OSError):  # the client disconnected or failed the handshake; only it is affected
            await self._loop.connect_accepted_socket(lambda: connection, accepted, ssl=self._ssl, **timeout)

    def _connected(self, done: asyncio.Task[None], accepted: socket.socket, connection: Connection) -> None:
        self._tasks.discard(done)
        if cast("asyncio.Transport | None", connection.transport) is None:  # it failed, or was dropped
            self._connections.discard(connection)
            self._loop.call_soon(accepted.close)  # later, when asyncio no longer uses the descriptor

    def _exhausted(self, error: OSError) -> None:
        if not self._reported:
            self._reported = True
            log.warning("endpoint.exhausted", reason=str(error))
        if self._connections.drop():
            return  # its descriptor is free in the next iteration; the listener is still readable then
        self._loop.remove_reader(self._sock.fileno())
        self._paused = self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._accept)
