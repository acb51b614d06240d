"""Limits on the number of requests that are handled at the same time, in total and per client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sessiond.endpoint.server import problems
from sessiond.endpoint.server.problems import HttpError

CHUNK = 256 << 10
"""Bytes of an answer that are sent at once. A client that reads less than that in a minute is disconnected."""


class Admission:
    """Admits `total` requests at a time, and `each` from one client. Use it from one event loop only."""

    def __init__(self, total: int, each: int) -> None:
        self._total, self._each = total, each
        self._count = 0
        self._clients: Counter[str] = Counter()

    @contextmanager
    def admitted(self, client: str) -> Iterator[None]:
        """Count a request until the context ends.

        Raises:
            HttpError: 503, a limit is reached.
        """
        self.enter(client)
        try:
            yield
        finally:
            self.leave(client)

    def enter(self, client: str) -> None:
        """Count a request until `leave` is called.

        Raises:
            HttpError: 503, a limit is reached.
        """
        if self._count >= self._total or self._clients[client] >= self._each:
            raise HttpError(503, "busy", "too many requests at once", headers=problems.soon())
        self._count += 1
        self._clients[client] += 1

    def leave(self, client: str) -> None:
        """Stop counting a request."""
        self._count -= 1
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]


class ReleasingResponse(Response):
    """A response that calls `release` once it is sent or has failed. Until then its body is in memory."""

    def __init__(self, answer: Response, release: Callable[[], None]) -> None:
        self._answer = answer
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        finally:
            self._release()


class ChunkedAnswers:
    """Middleware that sends long answers in chunks, so that the connection notices a client that stops reading."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_chunks(message: Message) -> None:
            body = message.get("body", b"")
            if message["type"] != "http.response.body" or len(body) <= CHUNK:
                await send(message)
                return
            for start in range(0, len(body), CHUNK):
                last = start + CHUNK >= len(body)
                more = message.get("more_body", False) or not last
                await send({"type": message["type"], "body": body[start : start + CHUNK], "more_body": more})

        await self._app(scope, receive, send_chunks)
