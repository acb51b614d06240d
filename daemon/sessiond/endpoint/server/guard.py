"""Authentication: finds the token of each request, checks its scopes, and limits the requests of one client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial, wraps

import anyio
import anyio.to_thread
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from sessiond.endpoint.server import audit, problems, records, tokens
from sessiond.endpoint.server.admission import Admission, ReleasingResponse
from sessiond.endpoint.server.connections import KNOWN
from sessiond.endpoint.server.last_uses import LastUses
from sessiond.endpoint.server.metrics import ACCESS_NAME
from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.query import Query, device_id
from sessiond.endpoint.server.recent_pushers import RecentPushers
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.tokens import ADMIN, Access
from sessiond.endpoint.server.trusted_proxy import TrustedProxy
from sessiond.endpoint.server.users import DEFAULT_USER
from sessiond.errors import StateError

LOOKUPS = 2
"""Tokens that are looked up at the same time in a store that blocks, and entries of the audit log that are written."""
Handler = Callable[[Request], Awaitable[Response]]
Guarded = Callable[[Request, Access], Awaitable[Response]]
Optional = Callable[[Request, Access | None], Awaitable[Response]]


class Guard:
    """Finds the access of each request: by its token, or by the user that a trusted proxy names.

    `secrets` are tokens that are accepted in addition to those in the store.
    """

    def __init__(self, store: Store, secrets: tuple[str, ...] = (), proxy: TrustedProxy | None = None) -> None:
        self._proxy = proxy
        self.uses = LastUses()
        self._store = store
        self._lookups = anyio.CapacityLimiter(LOOKUPS)
        # The token of --token-file belongs to the parent process and is not bound to a device.
        owner = Access(user=DEFAULT_USER, scopes=frozenset(tokens.DEFAULT_SCOPES))
        self._secrets = {tokens.hash_secret(secret): owner for secret in secrets}
        self._pushers = RecentPushers()

    async def authenticate(self, request: Request, *, is_push: bool = False) -> Access:
        """Return the access that a request has. A token counts more than a user that a proxy names.

        That of a push may be a minute old, because the transaction of the push looks up the token again.

        Raises:
            HttpError: 401, there is no token or it is not accepted; 400, the request gives two lengths, or the proxy's
                header is not valid.
            Expired: the token has expired.
        """
        if "transfer-encoding" in request.headers and "content-length" in request.headers:
            # A proxy may use the other length. Part of this body would then be a request of another client (RFC 9112).
            raise HttpError(400, "malformed", "two lengths of one body", headers={"Connection": "close"})
        scheme, secret = _credentials(request)
        found = None
        if "authorization" not in request.headers:
            found = None if self._proxy is None else self._proxy.authenticate(request)
        elif scheme == "bearer":
            found = self._pushers.find(request, secret) if is_push else None
            if found is None:
                found = await self._look_up(secret)
                if is_push and found is not None:
                    self._pushers.keep(found)
        if found is None:
            raise problems.unauthorized("the token is not accepted" if secret else "a bearer token is needed")
        request.scope[KNOWN] = True
        request.scope[ACCESS_NAME] = found.name
        return found

    async def _look_up(self, secret: str) -> Access | None:
        if self._store.blocking:
            return await anyio.to_thread.run_sync(self._find, secret, limiter=self._lookups)
        # In the event loop: the lookup reads one row by an index, which takes less than a thread's wake-up.
        return self._find(secret)

    def _find(self, secret: str) -> Access | None:
        with self._store.read() as db:
            return tokens.find(db, secret, self._secrets)

    def needs(
        self, handler: Guarded, *scopes: str, admission: Admission | None = None, is_push: bool = False
    ) -> Handler:
        """Return a handler that requires a token with one of the scopes, and a free slot in `admission`.

        `is_push`: its transaction looks up the token again.
        """

        @wraps(handler)
        async def guarded(request: Request) -> Response:
            access = await self.authenticate(request, is_push=is_push)
            if access.scopes.isdisjoint(scopes):
                raise HttpError(403, "forbidden", f"the token needs the scope {' or '.join(scopes)}")
            due = self.uses.note(access)
            if ADMIN in access.scopes:
                await self._audit(request, access)
            client = ""
            if admission is not None:
                # People behind a proxy have its address, but not a common share of the endpoint.
                client = client_name(request) if "authorization" in request.headers else access.name or ""
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

    async def _audit(self, request: Request, access: Access) -> None:
        """Record that an administrator reads another user's sessions, before anything of them is sent.

        Raises:
            StateError: the entry can't be written, so nothing is read.
        """
        user = request.query_params.get("user")
        if user in (None, access.user) or request.method == "DELETE":
            return  # an erasure is recorded in its own transaction

        def write() -> None:
            with self._store.write() as db:
                audit.record(db, access.name or "", "session.read", user or "", request.url.path)

        await anyio.to_thread.run_sync(write, limiter=self._lookups)

    def optional(self, handler: Optional) -> Handler:
        """Return a handler that needs no token but refuses a wrong one, so that a client can check its token."""

        @wraps(handler)
        async def open_to_all(request: Request) -> Response:
            proxied = self._proxy is not None and self._proxy.authenticate(request) is not None
            authenticated = proxied or "authorization" in request.headers
            access = await self.authenticate(request) if authenticated else None
            return await handler(request, access)

        return open_to_all

    def _write_uses(self) -> None:
        with suppress(StateError):  # a read must not fail because the last use can't be written
            if self.uses.pending():
                with self._store.write() as db:
                    self.uses.write(db)


def client_name(request: Request) -> str:
    """Return what identifies the client of a request: its token, without the scheme before it, or its address."""
    return _credentials(request)[1] or (request.client.host if request.client else "")


def view(request: Request, access: Access, query: Query) -> records.View:
    """Return whose sessions a request reads.

    Raises:
        HttpError: 403, the request names a user without the scope `admin`. It does not depend on whether that user
            exists.
    """
    user = query.text("user")
    if user is not None and ADMIN not in access.scopes:
        raise HttpError(403, "forbidden", "user: only a token with the scope admin may name a user")
    return records.View(
        user=access.user if user is None else user, device=access.device if access.name else device_id(request)
    )


def _credentials(request: Request) -> tuple[str, str]:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return scheme.lower(), secret.strip()
