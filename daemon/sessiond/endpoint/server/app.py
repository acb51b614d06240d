"""The application: what each address of protocol v1 does (docs/protocol.md).

The loop only moves bytes. Everything that touches the store runs in a thread: pushes a few at a time, since
they take turns to write anyway and each may hold its decoded body; reads beside them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sessiond import __version__
from sessiond.endpoint import dictionary
from sessiond.endpoint.server import body, machines, problems, ranges, records, streams, tokens
from sessiond.endpoint.server.admission import Admission, Pieces, Released
from sessiond.endpoint.server.connections import KNOWN
from sessiond.endpoint.server.dictionaries import Dictionaries, noting
from sessiond.endpoint.server.digester import Digester
from sessiond.endpoint.server.problems import Refusal
from sessiond.endpoint.server.push import Answer, Pushing, Sender
from sessiond.endpoint.server.query import Query, checked, device, identity
from sessiond.endpoint.server.schema import DEFAULT_USER
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.tokens import ADMIN, PUSH, READ, Access
from sessiond.endpoint.wire import (
    BATCH_HEADER,
    DEVICE_HEADER,
    GENERATION_HEADER,
    MAX_GENERATION,
    PROTOCOL,
    SERVICE,
    About,
    Held,
    Limits,
    OffsetsAnswer,
    OffsetsQuestion,
    PushAnswer,
)
from sessiond.errors import StateError

LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
JSON = frozenset({"application/json"})
PUSHES_AT_ONCE = 4
PUSHES_WAITING = 64
PUSHES_OF_ONE = 16
"""Complete pushes that wait for their turn: in all, and of one token."""
READS_AT_ONCE = 4
READS_WAITING = 64
READS_OF_ONE = 16
"""Reads whose answer is being made or sent: in all, and of one token."""
LOOKUPS_AT_ONCE = 8
"""Tokens that are looked up at once, whatever else is read."""
STEP = 1 << 20
"""Bytes of a stream that are read from the store at once."""
FEATURES = ("offsets", "changes", "sessions", "streams", "ranges", "generations", dictionary.FEATURE)

READING = (READ, ADMIN)

Found = TypeVar("Found")
Handler = Callable[[Request], Awaitable[Response]]
Guarded = Callable[[Request, Access], Awaitable[Response]]


class Endpoint:
    """The requests of protocol v1 over one store.

    `secrets` are tokens that are accepted beside those in the store.
    """

    def __init__(
        self,
        store: Store,
        *,
        secrets: tuple[str, ...] = (),
        limits: Limits | None = None,
        bodies: body.Bodies | None = None,
    ) -> None:
        self.store = store
        self.limits = limits or Limits()
        # What a parent process hands over with --token-file: its own, so it is bound to no device.
        owner = Access(user=DEFAULT_USER, scopes=frozenset(tokens.DEFAULT_SCOPES))
        self._secrets = {tokens.hashed(secret): owner for secret in secrets}
        self._uses = tokens.LastUses()
        self._pushes = anyio.CapacityLimiter(PUSHES_AT_ONCE)
        self._reads = anyio.CapacityLimiter(READS_AT_ONCE)
        self._lookups = anyio.CapacityLimiter(LOOKUPS_AT_ONCE)
        self._waiting = Admission(PUSHES_WAITING, PUSHES_OF_ONE)
        self._reading = Admission(READS_WAITING, READS_OF_ONE)
        self._bodies = bodies or body.Bodies()
        self._dictionaries = Dictionaries()
        self._digester = Digester(store)

    def routes(self) -> list[Route]:
        """List every address."""
        one = "/v1/sessions/{machine_id:machine}/{id:uuid}"
        reading = partial(self._guarded, admission=self._reading)
        return [
            Route("/v1", self._open(self.about), methods=["GET"]),
            Route("/v1/push", self._guarded(self.push, PUSH), methods=["POST"]),
            Route("/v1/offsets", reading(self.offsets, PUSH, READ), methods=["POST"]),
            Route("/v1/changes", reading(self.changes, *READING), methods=["GET"]),
            Route("/v1/sessions", reading(self.sessions, *READING), methods=["GET"]),
            Route(f"{one}/streams", reading(self.streams, *READING), methods=["GET"]),
            Route(
                f"{one}/streams/{{name:path}}",
                reading(self.stream, *READING),
                methods=["GET"],
            ),
            Route(one, reading(self.session, *READING), methods=["GET"]),
        ]

    async def about(self, request: Request, access: Access | None) -> Response:
        """Answer what this endpoint is and takes, and with a device's own token what its last push was."""
        asker, last = device(request), None
        if access is not None and asker is not None and access.owns(asker):
            last = await self._read_db(partial(machines.last_batch, user=access.user, device=str(asker)))
        return _json(
            About(
                service=SERVICE,
                protocol=PROTOCOL,
                endpoint_id=self.store.endpoint_id,
                version=__version__,
                limits=self.limits,
                encodings=list(body.ENCODINGS),
                features=list(FEATURES),
                last_batch=last,
            )
        )

    async def push(self, request: Request, access: Access) -> Response:
        """Store the lines of a push and answer each."""
        batch = request.headers.get(BATCH_HEADER, "")
        if len(batch) > 200:
            raise Refusal(400, "invalid", f"{BATCH_HEADER} is longer than 200 characters")
        pusher = device(request)
        if pusher is None:
            raise Refusal(400, "invalid", f"a push needs the header {DEVICE_HEADER}")
        if access.device is not None and access.name is not None and pusher != access.device:
            raise tokens.wrong_device(access.name)
        sender = Sender(access=access, device=pusher, batch=batch)
        encoding = body.check_kind(request, LINES, dictionary.ENCODING)
        client = _client(request)
        async with self._bodies.read(request, self.limits.body, client) as sent:
            with self._waiting.admitted(client):
                apply = partial(self._apply, sent, encoding, sender)
                answer = await anyio.to_thread.run_sync(apply, limiter=self._pushes)
        # Stored, and out of the way of other pushes: what digests of large streams cost is this client's wait alone.
        results = answer.settle(await self._digester.digests(list(answer.owed.values())))
        return _json(PushAnswer(batch=batch, results=results))

    def _apply(self, sent: bytes, encoding: str, sender: Sender) -> Answer:
        known, head, pusher = b"", bytearray(), (sender.access.user, sender.device)
        if encoding == dictionary.ENCODING:
            known, sent = self._dictionaries.split(sent, pusher)
            encoding = "zstd"
        decoded = noting(body.decode(sent, encoding, self.limits.decoded, known), head)
        lines = body.lines(decoded, self.limits.items)
        answer = Pushing(self.store, self.limits, sender, uses=self._uses).run(lines)
        if answer.results:
            self._dictionaries.keep(pusher, dictionary.grown(known, bytes(head)))
        return answer

    async def offsets(self, request: Request, access: Access) -> Response:
        """Answer where streams of the user's machines stand; to a token that may not read, only of its own device's."""
        asker = device(request)
        encoding = body.check_kind(request, JSON)
        async with self._bodies.read(request, self.limits.body, _client(request)) as sent:
            question, found = await self._read(partial(self._offsets, sent, encoding, access, asker))
        digests = iter(await self._digester.digests([each for each in found if each is not None]))
        return _json(
            OffsetsAnswer(
                streams=[
                    Held(
                        session=key.session,
                        stream=key.stream,
                        generation=None if state is None else state.generation,
                        length=0 if state is None else state.length,
                        sha256=None if state is None else next(digests),
                    )
                    for key, state in zip(question.streams, found, strict=True)
                ]
            )
        )

    def _offsets(
        self, sent: bytes, encoding: str, access: Access, asker: UUID | None
    ) -> tuple[OffsetsQuestion, list[streams.State | None]]:
        try:
            plain = b"".join(body.decode(sent, encoding, self.limits.decoded))
            question = msgspec.json.decode(plain, type=OffsetsQuestion)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Refusal(400, "invalid", f"the question is not valid: {error}") from error
        if len(question.streams) > self.limits.items:
            raise Refusal(413, "too-large", f"a question may name {self.limits.items} streams")
        with self.store.read() as db:
            # Without the scope `read`: of the machines that belong to the token's own device.
            seen = READ in access.scopes or (
                access.owns(asker) and machines.belongs(db, access.user, question.machine_id, str(asker))
            )
            if not seen:
                return question, [None] * len(question.streams)
            return question, [
                streams.state(db, access.user, question.machine_id, str(key.session), key.stream)
                for key in question.streams
            ]

    async def changes(self, request: Request, access: Access) -> Response:
        """List what changed since a place in the user's sequence of changes."""
        query = Query(request, {"since", "limit", "user"})
        view = _view(request, access, query)
        since, limit = query.text("since"), query.limit()
        ask = partial(records.changes, view=view, endpoint=self.store.endpoint_id, since=since, limit=limit)
        try:
            return _json(await self._read_db(ask))
        except records.UnknownPlace as error:
            raise Refusal(410, "unknown-place", f"since: {error}; start again without it") from error

    async def sessions(self, request: Request, access: Access) -> Response:
        """List sessions."""
        query = Query(request, {"tool", "machine_id", "since", "text", "after", "limit", "user"})
        view = _view(request, access, query)
        wanted = records.Filter(
            tool=query.text("tool"),
            machine_id=query.text("machine_id"),
            since=query.moment("since"),
            text=query.text("text"),
        )
        after, limit = query.text("after"), query.limit()
        try:
            return _json(await self._read_db(lambda db: records.listed(db, view, wanted, after, limit)))
        except records.UnknownPlace as error:
            raise Refusal(400, "invalid", f"after: {error}") from error

    async def session(self, request: Request, access: Access) -> Response:
        """Show one session."""
        machine, session = identity(request)
        view = _view(request, access, Query(request, {"user"}))
        found = await self._read_db(lambda db: records.one(db, view, machine, session))
        if found is None:
            raise Refusal(404, "not-found", f"no session {session} of machine {machine}")
        return _json(found)

    async def streams(self, request: Request, access: Access) -> Response:
        """List the streams of a session."""
        machine, session = identity(request)
        user = _view(request, access, Query(request, {"user"})).user
        held = await self._read_db(lambda db: records.held(db, user, machine, session))
        known = bool(held.streams) or await self._read_db(
            lambda db: records.revision(db, user, machine, session) is not None
        )
        if not known:
            raise Refusal(404, "not-found", f"no session {session} of machine {machine}")
        return _json(held)

    async def stream(self, request: Request, access: Access) -> Response:
        """Send the bytes of a stream, or a range of them."""
        machine, session = identity(request)
        name = checked(request.path_params["name"], "the name of the stream")
        query = Query(request, {"generation", "user"})
        generation = query.number("generation", most=MAX_GENERATION)
        user = _view(request, access, query).user
        stream, life = await self._read_db(lambda db: _find(db, user, machine, session, name, generation))
        if stream is None or life is None:
            what = f"stream {name}" if generation is None else f"generation {generation} of stream {name}"
            raise Refusal(404, "not-found", f"no {what} of session {session} of machine {machine}")
        # Not the stream's number in the store: that counts the streams of all users.
        key = blake2b(msgspec.json.encode([user, machine, session, name]), digest_size=8).hexdigest()
        etag = f'"{self.store.endpoint_id.hex[:8]}-{key}-{life.generation}-{life.length}"'
        headers = {"Accept-Ranges": "bytes", "ETag": etag, GENERATION_HEADER: str(life.generation)}
        span = None if request.headers.get("if-range", etag) != etag else request.headers.get("range")
        start, end, partly = ranges.read(span, life.length, headers)
        headers["Content-Length"] = str(end - start)
        if partly:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{life.length}"
        return StreamingResponse(
            self._bytes(stream, life.generation, start, start if request.method == "HEAD" else end),
            status_code=206 if partly else 200,
            headers=headers,
            media_type="application/x-ndjson",
        )

    async def _bytes(self, stream: int, generation: int, start: int, end: int) -> AsyncIterator[bytes]:
        # No transaction spans the answer: what is held of a generation never changes.
        for at in range(start, end, STEP):
            stop = min(at + STEP, end)
            yield await self._read_db(partial(streams.read, stream=stream, generation=generation, start=at, end=stop))

    async def _read(self, question: Callable[[], Found]) -> Found:
        return await anyio.to_thread.run_sync(question, limiter=self._reads)

    async def _read_db(self, question: Callable[..., Found]) -> Found:
        def ask() -> Found:
            with self.store.read() as db:
                return question(db)

        return await self._read(ask)

    async def _authenticate(self, request: Request) -> Access:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        found = None
        if scheme.lower() == "bearer":
            found = await anyio.to_thread.run_sync(self._find_token, secret.strip(), limiter=self._lookups)
        if found is None:
            raise problems.unauthorized("the token is not accepted" if secret else "a bearer token is needed")
        request.scope[KNOWN] = True
        return found

    def _find_token(self, secret: str) -> Access | None:
        with self.store.read() as db:
            return tokens.find(db, secret, self._secrets)

    def _guarded(self, handler: Guarded, *scopes: str, admission: Admission | None = None) -> Handler:
        """Answer with a token that has one of the scopes, and as many at a time as `admission` admits."""

        async def guarded(request: Request) -> Response:
            access = await self._authenticate(request)
            if access.scopes.isdisjoint(scopes):
                raise Refusal(403, "forbidden", f"the token needs the scope {' or '.join(scopes)}")
            due = self._uses.note(access)
            client = _client(request)
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
            return response if admission is None else Released(response, partial(admission.leave, client))

        return guarded

    def _open(self, handler: Callable[[Request, Access | None], Awaitable[Response]]) -> Handler:
        """Answer without a token, but refuse a wrong one: a client can check its token with `GET /v1`."""

        async def open_to_all(request: Request) -> Response:
            access = await self._authenticate(request) if "authorization" in request.headers else None
            return await handler(request, access)

        return open_to_all

    def _write_uses(self) -> None:
        with suppress(StateError):  # no read fails because its time can't be noted
            if self._uses.pending():
                with self.store.write() as db:
                    self._uses.write(db)


def build(
    store: Store,
    *,
    secrets: tuple[str, ...] = (),
    limits: Limits | None = None,
    bodies: body.Bodies | None = None,
) -> Starlette:
    """Make the ASGI application over a store."""
    return Starlette(
        routes=Endpoint(store, secrets=secrets, limits=limits, bodies=bodies).routes(),
        exception_handlers=problems.HANDLERS,
        middleware=[Middleware(Pieces)],
    )


def _client(request: Request) -> str:
    """Name the client of a request: by its token, or its address."""
    return request.headers.get("authorization") or (request.client.host if request.client else "")


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _view(request: Request, access: Access, query: Query) -> records.View:
    """Return whose sessions a request reads.

    Raises:
        Refusal: 403, only an `admin` may name a user. Whether there is one of that name makes no difference.
    """
    user = query.text("user")
    if user is not None and ADMIN not in access.scopes:
        raise Refusal(403, "forbidden", "user: only a token with the scope admin may name a user")
    return records.View(
        user=access.user if user is None else user, device=access.device if access.name else device(request)
    )


def _find(
    db: Any, user: str, machine: str, session: str, name: str, generation: int | None
) -> tuple[int | None, streams.Life | None]:
    stream = streams.find(db, user, machine, session, name)
    return stream, None if stream is None else streams.life(db, stream, generation)
