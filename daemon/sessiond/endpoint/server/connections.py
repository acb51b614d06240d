"""Timeouts of connections, and the choice of the one to drop when there are too many.

uvicorn limits only how long a connection may be idle after an answer. This module also limits the time for the headers,
for the rest of a refused body, for an answer that the client does not read, and for closing. It limits the bytes of the
headers and the requests that a client sends before the answers, because uvicorn's parser keeps both in memory.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import Counter
from typing import Any, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sessiond.endpoint.server.lazy_timer import LazyTimer
from sessiond.endpoint.server.problems import problem_answer

LOGGER = logging.getLogger("uvicorn.error.requests")
"""Errors in requests are answered and not logged. A log line for each would let any client fill the disk."""
LOGGER.setLevel(logging.ERROR)
KNOWN = "sessiond.known"
"""Key in a request's scope: the request came with an accepted token."""
MAX_HEAD = 64 << 10
"""Bytes that may arrive in a row without completing the headers, or belonging to a body: headers and trailers."""
MAX_PIPELINED = 8
"""Requests of one connection that wait for the answer to an earlier one."""

LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
"""The headers of a request with a body."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that a connection may stay in a state."""

    headers: float = 10
    """Limits the time from the first byte of a request, or from the connection, to the end of its headers."""
    idle: float = 75
    """Limits the time between two requests."""
    answer: float = 60
    """Limits the time in which an answer makes no progress. At most 256 KiB of it are in transit."""
    rest: float = 10
    """Limits the time to finish a body whose request is already answered. If the connection closed at once, the client
    might not see the answer."""
    close: float = 10
    """Limits the time from the decision to close until the connection is closed."""


class Phase(enum.IntEnum):
    """The state of a connection."""

    HANDSHAKE = 0
    """TLS is being negotiated."""
    HEADERS = 1
    """A request has begun, or none has arrived yet."""
    IDLE = 2
    REST = 3
    """The request is answered, and its body is still being received."""
    CLOSING = 4
    BODY = 5
    """The headers are complete, the body is not."""
    WORKING = 6
    """The request is complete and not answered yet. The connection is then never dropped."""


class Part(enum.Enum):
    """The part of a request that is being received."""

    HEADERS = enum.auto()
    BODY = enum.auto()


class Refused(Exception):
    """A request that is not handled. The parser stops there, and the answer is 400."""


class Connection(HttpToolsProtocol):
    """A uvicorn connection with additional timeouts and limits."""

    def __init__(self, *arguments: Any, connections: Connections, address: str, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.logger = LOGGER
        self.phase = Phase.HANDSHAKE
        self.address = address
        self.number = 0
        """The count of connections when this one was accepted: a lower number is older."""
        self._part: Part | None = None
        self._overhead = 0
        """Bytes that arrived since the parser last completed headers or found a part of a body."""
        self._known = False
        self._open = connections
        self._timer = LazyTimer(self.loop, self._expired)
        self._stalled: asyncio.TimerHandle | None = None
        connections.add(self)

    @property
    def known(self) -> bool:
        """Whether a request with an accepted token came over this connection."""
        scope = cast("dict[str, Any] | None", self.scope)  # None until the first request
        return self._known or bool(scope and scope.get(KNOWN))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._enter(Phase.HEADERS, self._open.timeouts.headers)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > MAX_HEAD:
            self._refuse(431, "too-large", f"the headers have more than {MAX_HEAD} bytes")
        self._update()

    def on_message_begin(self) -> None:
        self._known = self.known  # the next line replaces the scope
        super().on_message_begin()
        self._part = Part.HEADERS

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._part is Part.HEADERS:  # nothing needs the trailers after a body
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise Refused
        # The parser stops after the headers of a request for another protocol.
        if self.parser.should_upgrade() and any(name in LENGTHS for name, _ in self.headers):
            raise Refused
        self._part, self._overhead = Part.BODY, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._part, self._overhead = None, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # `_update` has its own timer, also for data that follows an answer
        self._update()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self._open.timeouts.answer, self.abort)

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def shutdown(self) -> None:
        super().shutdown()
        self._update()

    def abort(self) -> None:
        """Close at once and discard unsent data."""
        self._open.discard(self)
        self._stop_timers()
        if self.transport is not None:
            self.transport.abort()
        else:
            self._open.cancel(self)

    def _update(self) -> None:
        """Enter the phase that matches the connection's state."""
        timeouts = self._open.timeouts
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None until the first request
        if self.transport.is_closing():
            self._enter(Phase.CLOSING, timeouts.close)
        elif cycle is not None and not cycle.response_complete:
            self._enter(Phase.BODY if cycle.more_body else Phase.WORKING, None)
        elif self._part is Part.BODY:
            self._enter(Phase.REST, timeouts.rest)
        elif self._part is Part.HEADERS or cycle is None:
            self._enter(Phase.HEADERS, timeouts.headers)
        else:
            self._enter(Phase.IDLE, timeouts.idle)

    def _enter(self, phase: Phase, seconds: float | None) -> None:
        if phase is self.phase:
            return  # the timer keeps running: a client that sends a byte now and then must not extend it
        self.phase = phase
        self._timer.set(seconds)

    def _expired(self) -> None:
        if self.phase is Phase.CLOSING:
            self.abort()
            return
        if self._part is Part.HEADERS:
            self.transport.write(problem_answer(408, "too-slow", "the headers did not arrive in time"))
        self.transport.close()
        self._update()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "malformed", msg)

    def _refuse(self, status: int, kind: str, detail: str) -> None:
        """Answer what is being received with an error, and close the connection.

        While an earlier request is not answered, close it without a word: the client would take this for its answer.
        """
        if self.transport.is_closing():
            return
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is None or cycle.response_complete or (cycle.more_body and not self.pipeline):
            self.transport.write(problem_answer(status, kind, detail))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        self.cycle.keep_alive = False  # it is answered, but nothing after it is parsed

    def _stop_timers(self) -> None:
        self._timer.close()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


class Connections:
    """The open connections, up to `limit`. Use it from one event loop only."""

    def __init__(self, limit: int, timeouts: Timeouts | None = None) -> None:
        self.limit = limit
        self.timeouts = timeouts or Timeouts()
        self.dropped = 0
        """Connections that were dropped for new ones."""
        self._open: set[Connection] = set()
        self._handshakes: dict[Connection, asyncio.Task[None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> None:
        """Add a connection that was accepted."""
        self._count += 1
        connection.number = self._count
        self._open.add(connection)

    def discard(self, connection: Connection) -> None:
        """Remove a connection that is closed."""
        self._open.discard(connection)

    def negotiate(self, connection: Connection, handshake: asyncio.Task[None]) -> None:
        """Record the task of a connection's TLS handshake, to cancel it if the connection is dropped."""
        self._handshakes[connection] = handshake
        handshake.add_done_callback(lambda _: self._handshakes.pop(connection, None))

    def cancel(self, connection: Connection) -> None:
        """Cancel the handshake of a connection."""
        handshake = self._handshakes.get(connection)
        if handshake is not None:
            handshake.cancel()

    def admit(self) -> bool:
        """Return whether one more connection may be opened. If there are too many, drop another one for it."""
        return len(self._open) < self.limit or self.drop()

    def drop(self) -> bool:
        """Drop one connection and return True; return False if all of them are being answered.

        Connections without an accepted token go first. Of these, one of the address with the most of them is dropped,
        so a client with a thousand half-sent requests displaces only its own. Connections with incomplete headers come
        before others of that address, and older ones before newer ones.
        """
        idle = [each for each in self._open if each.phase is not Phase.WORKING]
        if not idle:
            return False
        candidates = [each for each in idle if not each.known] or idle
        count = Counter(each.address for each in candidates)
        victim = min(candidates, key=lambda each: (-count[each.address], each.phase is Phase.BODY, each.number))
        self.dropped += 1
        victim.abort()
        return True
