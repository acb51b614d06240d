"""The HTTP server: uvicorn, with limits for connections and without its clock."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from sessiond.endpoint.server.connections import Connection, Connections
from sessiond.endpoint.server.listener import Listener, most_connections

GRACE = 5
"""Seconds that requests have to end in when the endpoint is told to."""


class Server(uvicorn.Server):
    """Serves an application over accepted connections.

    uvicorn looks ten times a second whether to end, on a laptop that is to sleep; this one waits to be told.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        connections: Connections | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,  # it would need the clock
                timeout_graceful_shutdown=GRACE,
                ssl_certfile=tls_cert,
                ssl_keyfile=tls_key,
            )
        )
        if connections is None:
            connections = Connections(most_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
        self.connections = connections
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections on these sockets."""
        await self.lifespan.startup()
        listeners = [Listener(each, self.connections, self._connection, self.config.ssl) for each in sockets or ()]
        self.servers = cast(Any, listeners)  # uvicorn only closes them
        self.started = True

    async def main_loop(self) -> None:
        """Wait for the end."""
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            await self._told.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End at a signal."""
        super().handle_exit(sig, frame)
        self.end()

    def end(self) -> None:
        """End; from any thread, or from inside a signal handler."""
        self.should_exit = True  # first: main_loop looks at it after it has shown its loop
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: it has ended
                self._loop.call_soon_threadsafe(self._told.set)

    def _connection(self, address: str) -> Connection:
        return Connection(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            connections=self.connections,
            address=address,
        )


@contextmanager
def in_thread(server: Server, listener: socket.socket) -> Iterator[None]:
    """Serve in a thread until the context ends."""
    thread = threading.Thread(target=partial(server.run, sockets=[listener]), name="endpoint", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.end()
        thread.join()
