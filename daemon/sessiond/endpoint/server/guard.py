"""Who asks: every request is answered for a token, with what its scopes allow and as many at a time as are admitted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import anyio
import anyio.to_thread
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from sessiond.endpoint.server import problems, records, tokens
from sessiond.endpoint.server.admission import Admission, ReleasingResponse
from sessiond.endpoint.server.connections import KNOWN
from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.query import Query, device
from sessiond.endpoint.server.schema import DEFAULT_USER
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.tokens import ADMIN, Access
from sessiond.errors import StateError

LOOKUPS_AT_ONCE = 8
"""Tokens that are looked up at once, whatever else is read."""

Handler = Callable[[Request], Awaitable[Response]]
Guarded = Callable[[Request, Access], Awaitable[Response]]
Optional = Callable[[Request, Access | None], Awaitable[Response]]


class Guard:
    """Finds the token of each request. `secrets` are tokens that are accepted beside those in the store."""

    def __init__(self, store: Store, secrets: tuple[str, ...] = ()) -> None:
        self.uses = tokens.LastUses()
        self._store = store
        # What a parent process hands over with --token-file: its own, so it is bound to no device.
        owner = Access(user=DEFAULT_USER, scopes=frozenset(tokens.DEFAULT_SCOPES))
        self._secrets = {tokens.hash_secret(secret): owner for secret in secrets}
        self._lookups = anyio.CapacityLimiter(LOOKUPS_AT_ONCE)

    async def authenticate(self, request: Request) -> Access:
        """Return what the token of a request allows.

        Raises:
            HttpError: 401, there is none that is accepted.
            Expired: its time is over.
        """
        scheme, secret = _credentials(request)
        found = None
        if scheme == "bearer":
            found = await anyio.to_thread.run_sync(self._find, secret, limiter=self._lookups)
        if found is None:
            raise problems.unauthorized("the token is not accepted" if secret else "a bearer token is needed")
        request.scope[KNOWN] = True
        return found

    def _find(self, secret: str) -> Access | None:
        with self._store.read() as db:
            return tokens.find(db, secret, self._secrets)

    def needs(self, handler: Guarded, *scopes: str, admission: Admission | None = None) -> Handler:
        """Answer with a token that has one of the scopes, and as many at a time as `admission` admits."""

        async def guarded(request: Request) -> Response:
            access = await self.authenticate(request)
            if access.scopes.isdisjoint(scopes):
                raise HttpError(403, "forbidden", f"the token needs the scope {' or '.join(scopes)}")
            due = self.uses.note(access)
            client = client_name(request)
            if admission is not None:
                admission.enter(client)
            try:
                response = await handler(request, access)
            except BaseException:
                if admission is not None:
                    admission.leave(client)
                raise
            if due:
                response.background = BackgroundTask(self._write_uses)
            return response if admission is None else ReleasingResponse(response, partial(admission.leave, client))

        return guarded

    def optional(self, handler: Optional) -> Handler:
        """Answer without a token, but refuse a wrong one: a client can check its token with `GET /v1`."""

        async def open_to_all(request: Request) -> Response:
            access = await self.authenticate(request) if "authorization" in request.headers else None
            return await handler(request, access)

        return open_to_all

    def _write_uses(self) -> None:
        with suppress(StateError):  # no read fails because its time can't be noted
            if self.uses.pending():
                with self._store.write() as db:
                    self.uses.write(db)


def client_name(request: Request) -> str:
    """Return a name of the client of a request: its token, however it is written in the header, or its address."""
    return _credentials(request)[1] or (request.client.host if request.client else "")


def view(request: Request, access: Access, query: Query) -> records.View:
    """Return whose sessions a request reads.

    Raises:
        HttpError: 403, only an `admin` may name a user. Whether there is one of that name makes no difference.
    """
    user = query.text("user")
    if user is not None and ADMIN not in access.scopes:
        raise HttpError(403, "forbidden", "user: only a token with the scope admin may name a user")
    return records.View(
        user=access.user if user is None else user, device=access.device if access.name else device(request)
    )


def _credentials(request: Request) -> tuple[str, str]:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return scheme.lower(), secret.strip()
