"""The HTTP server: uvicorn with limits for connections, and without its polling."""

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
from sessiond.endpoint.server.drain import Drain
from sessiond.endpoint.server.listener import Listener, most_connections

GRACE = 5
"""Seconds that running requests may take to finish when the endpoint shuts down."""
POLL = 0.005
"""Seconds between two looks at the running requests while it shuts down."""


class Server(uvicorn.Server):
    """Serves an application over accepted connections.

    uvicorn checks ten times a second whether to shut down, which wakes an idle laptop. This server waits for an event.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        connections: Connections | None = None,
        drain: Drain | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="on",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # X-Forwarded-For would replace the address of any client on this host
                date_header=False,  # uvicorn updates it in the polling loop, which does not run here
                timeout_graceful_shutdown=GRACE,
                ssl_certfile=tls_cert,
                ssl_keyfile=tls_key,
            )
        )
        if connections is None:
            connections = Connections(most_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
        self.connections = connections
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = False
        self._shutdown = asyncio.Event()
        self._drain = drain or Drain()
        self._drained = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections on these sockets."""
        await self.lifespan.startup()
        listeners = [Listener(each, self.connections, self._connection, self.config.ssl) for each in sockets or ()]
        self.servers = cast(Any, listeners)  # for its type, they would be servers of asyncio
        self.started = True

    async def main_loop(self) -> None:
        """Wait until the server has to shut down."""
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            await self._shutdown.wait()
        self._drain.begun = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), self._drain.seconds)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and return once the running requests are answered. Cancel them after `GRACE` seconds.

        uvicorn sleeps for a tenth of a second at each step, also if nothing runs.
        """
        for listener in [*self.servers, *(sockets or ())]:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(GRACE):
                while (self.server_state.connections or self.server_state.tasks) and not self.force_exit:
                    await asyncio.sleep(POLL)
        except TimeoutError:
            for task in self.server_state.tasks:
                task.cancel()
        if not self.force_exit:
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down at a signal."""
        super().handle_exit(sig, frame)
        self.end()

    def end(self, *, at_once: bool = False) -> None:
        """Shut down. Any thread or signal handler may call this; `at_once`, or a second call, cuts the drain short."""
        at_once = at_once or self._ending
        if at_once:
            self._drain.seconds = 0.0
        self._ending = self.should_exit = True  # before _loop is read: main_loop sets it and then reads should_exit
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the server has already shut down
                self._loop.call_soon_threadsafe(self._shutdown.set)
                if at_once:
                    self._loop.call_soon_threadsafe(self._drained.set)

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
