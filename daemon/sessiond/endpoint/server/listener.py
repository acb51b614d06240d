"""Accepting connections, as many as there are descriptors for."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from sessiond.endpoint.server.connections import Connection, Connections, refusal
from sessiond.logs import log

MAX_CONNECTIONS = 1024
MIN_CONNECTIONS = 16
RESERVED = 96
"""Descriptors for everything else: the store's connections, with two or three files each, and what Python opens."""
WANTED = MAX_CONNECTIONS + RESERVED
AT_ONCE = 32
"""Connections that are accepted before the loop turns: descriptors of dropped ones are free only then."""
PAUSE = 0.1
"""Seconds without accepting where there is no descriptor left and no connection to drop."""
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
BUSY = refusal(503, "busy", "too many connections", "Retry-After: 1")

Factory = Callable[[str], Connection]
"""Makes the protocol of a connection from this address."""


def raise_limit() -> int:
    """Raise the soft limit of open files as far as it is useful and allowed, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has another limit beside it; what there is has to do
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return WANTED if soft == resource.RLIM_INFINITY else soft


def most_connections(descriptors: int) -> int:
    """Return how many connections may be open with so many descriptors."""
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, descriptors - RESERVED))


class Listener:
    """Accepts connections on a listening socket. asyncio itself has no limit, and is loud without descriptors."""

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
        """Accept no more."""
        if self._paused is not None:
            self._paused.cancel()
        with suppress(OSError, ValueError):
            self._loop.remove_reader(self._sock.fileno())

    async def wait_closed(self) -> None:
        """Do nothing: uvicorn calls it of asyncio's servers."""

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
        if not self._connections.make_room():
            # All are being answered. This one hears so, instead of waiting for its timeout.
            with accepted, suppress(OSError):
                if self._ssl is None:
                    accepted.send(BUSY)
                    accepted.shutdown(socket.SHUT_WR)
            return
        connection = self._factory(address)
        task = self._loop.create_task(self._connect(accepted, connection))
        self._connections.negotiate(connection, task)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._connected(done, accepted, connection))

    async def _connect(self, accepted: socket.socket, connection: Connection) -> None:
        timeout = {"ssl_handshake_timeout": self._connections.timeouts.headers} if self._ssl else {}
        with suppress(OSError):  # the client went away or failed the handshake: that is its own affair
            await self._loop.connect_accepted_socket(lambda: connection, accepted, ssl=self._ssl, **timeout)

    def _connected(self, done: asyncio.Task[None], accepted: socket.socket, connection: Connection) -> None:
        self._tasks.discard(done)
        if cast("asyncio.Transport | None", connection.transport) is None:  # failed, or dropped for another one
            self._connections.discard(connection)
            self._loop.call_soon(accepted.close)  # once asyncio has let go of the descriptor

    def _exhausted(self, error: OSError) -> None:
        if not self._reported:
            self._reported = True
            log.warning("endpoint.exhausted", reason=str(error))
        if self._connections.drop():
            return  # its descriptor is free when the loop turns; the listener is still readable then
        self._loop.remove_reader(self._sock.fileno())
        self._paused = self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._accept)
