"""The end of an endpoint behind a load balancer: it finishes what it has begun, and sends everything else away.

At SIGTERM, an endpoint that drains still accepts connections for some seconds. `GET /healthz` is answered 503, so that
the balancer chooses another process; so is any other request, and its connection is closed. Requests whose headers were
complete before are answered as usual.
"""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sessiond.endpoint.server import problems
from sessiond.endpoint.server.problems import HttpError


class Drain:
    """The seconds for which an endpoint drains, and whether it has begun to."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.begun = False


class Draining:
    """Middleware that refuses requests once the drain has begun."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app, self._drain = app, drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._drain.begun:
            await self._app(scope, receive, send)
            return
        headers = {"Connection": "close"}
        if scope["path"] == "/healthz":
            await PlainTextResponse("draining\n", status_code=503, headers=headers)(scope, receive, send)
            return
        error = HttpError(503, "busy", "the endpoint is shutting down", headers=problems.soon() | headers)
        await error.response()(scope, receive, send)
