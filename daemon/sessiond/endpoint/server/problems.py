"""HTTP errors of whole requests, as problem details (RFC 9457)."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sessiond.endpoint.server.store import StoreBusy
from sessiond.endpoint.server.tokens import Expired, Revoked, WrongDevice
from sessiond.endpoint.wire import HttpProblem
from sessiond.errors import SessiondError, StateError, StateFull
from sessiond.logs import log

CONTENT_TYPE = "application/problem+json"
SOON = (1, 5)
"""Seconds until a client that was answered `busy` comes back: at least, at most."""
FULL = (45, 90)
"""The same for a full disk, which takes a while to clear."""


class HttpError(SessiondError):
    """The request is answered with this HTTP status. `kind` is for programs, the message for people."""

    def __init__(self, status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.kind, self.headers = status, kind, headers

    def response(self) -> Response:
        """Return the HTTP response."""
        problem = HttpProblem(
            type=self.kind, title=HTTPStatus(self.status).phrase, status=self.status, detail=self.message
        )
        return Response(
            msgspec.json.encode(problem), status_code=self.status, headers=self.headers, media_type=CONTENT_TYPE
        )


def problem_answer(status: int, kind: str, detail: str, *headers: str) -> bytes:
    """Return a complete HTTP answer with a problem, for a connection that never reaches the application."""
    reason = HTTPStatus(status).phrase
    body = msgspec.json.encode(HttpProblem(type=kind, title=reason, status=status, detail=detail))
    lines = (
        f"HTTP/1.1 {status} {reason}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
        "",
        "",
    )
    return "\r\n".join(lines).encode() + body


def soon() -> dict[str, str]:
    """Return the header that asks a client to come back soon, with a random time: clients must not return together."""
    return retry_after(*SOON)


def retry_after(least: int, most: int) -> dict[str, str]:
    """Return the header Retry-After with a random number of seconds."""
    return {"Retry-After": str(least + secrets.randbelow(most - least + 1))}


def unauthorized(detail: str) -> HttpError:
    """Return the error for a request without an accepted token."""
    return HttpError(401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="sessiond"'})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)
    return error.response()


async def _full(request: Request, error: Exception) -> Response:
    return HttpError(507, "full", str(error), headers=retry_after(*FULL)).response()


async def _busy(request: Request, error: Exception) -> Response:
    return HttpError(503, "busy", str(error), headers=soon()).response()


async def _unauthorized(request: Request, error: Exception) -> Response:
    return unauthorized(str(error)).response()


async def _wrong_device(request: Request, error: Exception) -> Response:
    return HttpError(403, "wrong-device", str(error)).response()


async def _failed(request: Request, error: Exception) -> Response:
    log.error("endpoint.failed", reason=str(error))
    return HttpError(500, "failed", "the endpoint failed; see its log").response()


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "invalid")
    return HttpError(
        error.status_code, kind, f"{request.method} {request.url.path}: {error.detail}", headers=error.headers
    ).response()


_Handler = Callable[[Request, Exception], Awaitable[Response]]
HANDLERS: dict[type[Exception] | int, _Handler] = {
    HttpError: _refused,
    StateFull: _full,
    StoreBusy: _busy,
    StateError: _failed,
    Expired: _unauthorized,
    Revoked: _unauthorized,
    WrongDevice: _wrong_device,
    HTTPException: _http,
    500: _failed,
}
"""The handler that answers each kind of exception."""


async def answer(request: Request, error: Exception) -> Response:
    """Return the answer to a request that raised an error, as Starlette would choose it."""
    return await (_handler(error) or _failed)(request, error)


def is_expected(error: Exception) -> bool:
    """Return whether an error has an answer of its own. Any other one is a fault of the endpoint."""
    return _handler(error) is not None


def _handler(error: Exception) -> _Handler | None:
    return next((HANDLERS[kind] for kind in type(error).__mro__ if kind in HANDLERS), None)
