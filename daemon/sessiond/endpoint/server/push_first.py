"""Answers pushes before Starlette sees them, and passes all other requests on to its routes.

Most requests of a busy endpoint are pushes. Starlette's routing and its wrappers took a sixth of the time of a push.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sessiond.endpoint.server import problems
from sessiond.endpoint.server.guard import Handler

PATH = "/v1/push"


class PushFirst:
    """An ASGI application that answers a POST to PATH with `push`, and leaves other requests to `others`."""

    def __init__(self, push: Handler, others: ASGIApp) -> None:
        self._push, self._others = push, others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._others(scope, receive, send)
            return
        scope["endpoint"] = self._push  # as Starlette's router does
        request = Request(scope, receive)
        try:
            response = await self._push(request)
        except Exception as error:
            await (await problems.answer(request, error))(scope, receive, send)
            if not problems.is_expected(error):
                raise  # the server logs it
            error.__traceback__ = None  # its frames hold the decoded body, until the garbage collector finds them
            return
        await response(scope, receive, send)
