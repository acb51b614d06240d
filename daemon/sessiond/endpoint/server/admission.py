"""How many requests are worked on at once, in all and of one client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sessiond.endpoint.server import problems
from sessiond.endpoint.server.problems import HttpError

PIECE = 256 << 10
"""Bytes of an answer that are handed to the connection at once: a client that takes less in a minute is cut off."""


class Admission:
    """Admits `total` requests at a time, `each` of them from one client. It belongs to one event loop."""

    def __init__(self, total: int, each: int) -> None:
        self._total, self._each = total, each
        self._count = 0
        self._clients: Counter[str] = Counter()

    @contextmanager
    def admitted(self, client: str) -> Iterator[None]:
        """Count a request until the context ends.

        Raises:
            HttpError: 503, there are too many already.
        """
        self.enter(client)
        try:
            yield
        finally:
            self.leave(client)

    def enter(self, client: str) -> None:
        """Count a request until `leave`.

        Raises:
            HttpError: 503, there are too many already.
        """
        if self._count >= self._total or self._clients[client] >= self._each:
            raise HttpError(503, "busy", "too many requests at once", headers=problems.SOON)
        self._count += 1
        self._clients[client] += 1

    def leave(self, client: str) -> None:
        """End a request that was counted."""
        self._count -= 1
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]


class ReleasingResponse(Response):
    """An answer that calls `release` once it is sent, or can't be: until then it is held in memory."""

    def __init__(self, answer: Response, release: Callable[[], None]) -> None:
        self._answer = answer
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        finally:
            self._release()


class ChunkedAnswers:
    """Sends long answers piece by piece, so that a connection shows whether its client takes them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_pieces(message: Message) -> None:
            body = message.get("body", b"")
            if message["type"] != "http.response.body" or len(body) <= PIECE:
                await send(message)
                return
            for start in range(0, len(body), PIECE):
                last = start + PIECE >= len(body)
                more = message.get("more_body", False) or not last
                await send({"type": message["type"], "body": body[start : start + PIECE], "more_body": more})

        await self._app(scope, receive, send_pieces)
