"""Connections: how long each may be in which state, and which one goes when there are too many.

uvicorn limits only how long a connection may be idle after an answer. Here, headers have to be complete in time, what
is left of a refused body is read for a moment only, an answer has to be taken, and a close has to end.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import Counter
from typing import Any, cast

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from sessiond.endpoint.wire import HttpProblem

LOGGER = logging.getLogger("uvicorn.error.requests")
"""What is wrong with a request is told to its sender. A line in the log for each would let anybody fill the disk."""
LOGGER.setLevel(logging.ERROR)
KNOWN = "sessiond.known"
"""Key of a request's scope: it came with a token that is accepted."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that a connection may stay in a state."""

    headers: float = 10
    """From the first byte of a request (for the first one: from the connection) to the end of its headers."""
    idle: float = 75
    """Between two requests."""
    answer: float = 60
    """In which nothing of an answer is taken, of which at most 256 KiB are on their way."""
    rest: float = 10
    """To go on sending a body whose request is answered already. Closed at once, it might not see the answer."""
    close: float = 10
    """From the decision to close to the end."""


class Phase(enum.IntEnum):
    """What a connection is busy with; those with a low value are dropped first."""

    HANDSHAKE = 0
    """TLS is being negotiated."""
    HEADERS = 1
    """A request has begun, or none has come yet."""
    IDLE = 2
    REST = 3
    """The request is answered, and its body still comes in."""
    CLOSING = 4
    BODY = 5
    """The headers are complete, the body is not."""
    WORKING = 6
    """The request is complete and is not answered yet. Such a connection is never dropped."""


class Connection(H11Protocol):
    """A connection of uvicorn's with the timeouts that uvicorn has not."""

    def __init__(self, *arguments: Any, connections: Connections, address: str, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.logger = LOGGER
        self.phase = Phase.HANDSHAKE
        self.address = address
        self.number = 0
        """Counts connections: a lower one is older."""
        self._known = False
        self._open = connections
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        connections.add(self)

    @property
    def known(self) -> bool:
        """Whether a request with a good token came over it."""
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
        super().data_received(data)
        self._update(received=True)

    def on_response_complete(self) -> None:
        self._known = self.known
        super().on_response_complete()
        self._unset_keepalive_if_required()  # ours is kept by `_update`, also where data comes in after an answer
        self._update(received=bool(self.conn.trailing_data[0]))

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
        self._update(received=False)

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        self._open.discard(self)
        self._stop_timers()
        if self.transport is not None:
            self.transport.abort()
        else:
            self._open.cancel(self)

    def _update(self, *, received: bool) -> None:
        """Enter the phase that the state of the connection says; `received`: bytes came that are no request yet."""
        timeouts = self._open.timeouts
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None until the first request
        if self.transport.is_closing():
            self._enter(Phase.CLOSING, timeouts.close)
        elif cycle is not None and not cycle.response_complete:
            self._enter(Phase.BODY if cycle.more_body else Phase.WORKING, None)
        elif self.conn.their_state is not h11.IDLE:
            self._enter(Phase.REST, timeouts.rest)
        elif received or self.phase is Phase.HEADERS:
            self._enter(Phase.HEADERS, timeouts.headers)
        else:
            self._enter(Phase.IDLE, timeouts.idle)

    def _enter(self, phase: Phase, seconds: float | None) -> None:
        if phase is self.phase:
            return  # its time goes on: bytes that drip in must not extend it
        self.phase = phase
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._expired)

    def _expired(self) -> None:
        if self.phase is Phase.CLOSING:
            self.abort()
            return
        if self.phase is Phase.HEADERS and self.conn.trailing_data[0]:
            self.transport.write(refusal(408, "too-slow", "the headers did not arrive in time"))
        self.transport.close()
        self._update(received=False)

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._stalled):
            if timer is not None:
                timer.cancel()
        self._timer = self._stalled = None


class Connections:
    """All open connections, `most` at most. It belongs to one event loop."""

    def __init__(self, most: int, timeouts: Timeouts | None = None) -> None:
        self.most = most
        self.timeouts = timeouts or Timeouts()
        self.dropped = 0
        """Connections that went for others to come."""
        self._open: set[Connection] = set()
        self._handshakes: dict[Connection, asyncio.Task[None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> None:
        """Count a connection that was accepted."""
        self._count += 1
        connection.number = self._count
        self._open.add(connection)

    def discard(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)

    def negotiate(self, connection: Connection, handshake: asyncio.Task[None]) -> None:
        """Note the task that makes a connection ready; it ends when the connection is dropped before."""
        self._handshakes[connection] = handshake
        handshake.add_done_callback(lambda _: self._handshakes.pop(connection, None))

    def cancel(self, connection: Connection) -> None:
        """End a connection that is not ready yet."""
        handshake = self._handshakes.get(connection)
        if handshake is not None:
            handshake.cancel()

    def make_room(self) -> bool:
        """Drop a connection if there are too many; False where all of them are being answered."""
        return len(self._open) < self.most or self.drop()

    def drop(self) -> bool:
        """Drop the connection that is least worth keeping; False where all of them are being answered.

        First those over which no good token came. Of these, those of the address that has most of them, so that one
        client with a thousand half-sent requests takes the place of none but its own. Of these, the least advanced,
        and then the oldest.
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


def refusal(status: int, kind: str, detail: str, *headers: str) -> bytes:
    """Return a whole answer with a problem, for where no request can be answered by the application."""
    reason = {408: "Request Timeout", 503: "Service Unavailable"}[status]
    body = msgspec.json.encode(HttpProblem(type=kind, title=reason, status=status, detail=detail))
    lines = (
        f"HTTP/1.1 {status} {reason}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
        "",
        "",
    )
    return "\r\n".join(lines).encode() + body
