"""The application: what each address of protocol v1 does (docs/protocol.md).

The loop only moves bytes. Everything that touches the store runs in a thread: pushes a few at a time, since
they take turns to write anyway and each may hold its decoded body; reads beside them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sessiond import __version__
from sessiond.endpoint import dictionary
from sessiond.endpoint.server import body, machines, problems, ranges, records, streams, tokens
from sessiond.endpoint.server.admission import Admission, ChunkedAnswers
from sessiond.endpoint.server.dictionaries import Dictionaries, noting
from sessiond.endpoint.server.digester import Digester
from sessiond.endpoint.server.guard import Guard, client_name, view
from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.push import PushOutcome, PushRequest, Sender
from sessiond.endpoint.server.query import Query, checked, device, identity
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
    Limits,
    OffsetsAnswer,
    OffsetsRequest,
    PushAnswer,
    RemotePosition,
)

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
STEP = 1 << 20
"""Bytes of a stream that are read from the store at once."""
FEATURES = ("offsets", "changes", "sessions", "streams", "ranges", "generations", dictionary.FEATURE)

READING = (READ, ADMIN)
Found = TypeVar("Found")


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
        self._guard = Guard(store, secrets)
        self._pushes = anyio.CapacityLimiter(PUSHES_AT_ONCE)
        self._reads = anyio.CapacityLimiter(READS_AT_ONCE)
        self._waiting = Admission(PUSHES_WAITING, PUSHES_OF_ONE)
        self._reading = Admission(READS_WAITING, READS_OF_ONE)
        self._bodies = bodies or body.Bodies()
        self._dictionaries = Dictionaries()
        self._digester = Digester(store)

    def routes(self) -> list[Route]:
        """List every address."""
        one = "/v1/sessions/{machine_id:machine}/{id:uuid}"
        reading = partial(self._guard.needs, admission=self._reading)
        return [
            Route("/v1", self._guard.optional(self.about), methods=["GET"]),
            Route("/v1/push", self._guard.needs(self.push, PUSH), methods=["POST"]),
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
            raise HttpError(400, "invalid", f"{BATCH_HEADER} is longer than 200 characters")
        pusher = device(request)
        if pusher is None:
            raise HttpError(400, "invalid", f"a push needs the header {DEVICE_HEADER}")
        if access.device is not None and access.name is not None and pusher != access.device:
            raise tokens.wrong_device(access.name)
        sender = Sender(access=access, device=pusher, batch=batch)
        encoding = body.check_kind(request, LINES, dictionary.ENCODING)
        client = client_name(request)
        async with self._bodies.read(request, self.limits.body, client) as sent:
            with self._waiting.admitted(client):
                apply = partial(self._apply, sent, encoding, sender)
                answer = await anyio.to_thread.run_sync(apply, limiter=self._pushes)
        # Stored, and out of the way of other pushes: what digests of large streams cost is this client's wait alone.
        results = answer.complete(await self._digester.digests(list(answer.pending.values())))
        return _json(PushAnswer(batch=batch, results=results))

    def _apply(self, sent: bytes, encoding: str, sender: Sender) -> PushOutcome:
        known, head, pusher = b"", bytearray(), (sender.access.user, sender.device)
        if encoding == dictionary.ENCODING:
            known, sent = self._dictionaries.split(sent, pusher)
            encoding = "zstd"
        decoded = noting(body.decode(sent, encoding, self.limits.decoded, known), head)
        lines = body.lines(decoded, self.limits.items)
        answer = PushRequest(self.store, self.limits, sender, uses=self._guard.uses).run(lines)
        if answer.results:
            self._dictionaries.keep(pusher, dictionary.grown(known, bytes(head)))
        return answer

    async def offsets(self, request: Request, access: Access) -> Response:
        """Answer where streams of the user's machines stand; to a token that may not read, only of its own device's."""
        asker = device(request)
        encoding = body.check_kind(request, JSON)
        async with self._bodies.read(request, self.limits.body, client_name(request)) as sent:
            question, found = await self._read(partial(self._offsets, sent, encoding, access, asker))
        digests = iter(await self._digester.digests([each for each in found if each is not None]))
        return _json(
            OffsetsAnswer(
                streams=[
                    RemotePosition(
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
    ) -> tuple[OffsetsRequest, list[streams.State | None]]:
        try:
            plain = b"".join(body.decode(sent, encoding, self.limits.decoded))
            question = msgspec.json.decode(plain, type=OffsetsRequest)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise HttpError(400, "invalid", f"the question is not valid: {error}") from error
        if len(question.streams) > self.limits.items:
            raise HttpError(413, "too-large", f"a question may name {self.limits.items} streams")
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
        seen = view(request, access, query)
        since, limit = query.text("since"), query.limit()
        ask = partial(records.changes, view=seen, endpoint=self.store.endpoint_id, since=since, limit=limit)
        try:
            return _json(await self._read_db(ask))
        except records.UnknownPageToken as error:
            raise HttpError(410, "unknown-place", f"since: {error}; start again without it") from error

    async def sessions(self, request: Request, access: Access) -> Response:
        """List sessions."""
        query = Query(request, {"tool", "machine_id", "since", "text", "after", "limit", "user"})
        seen = view(request, access, query)
        wanted = records.Filter(
            tool=query.text("tool"),
            machine_id=query.text("machine_id"),
            since=query.moment("since"),
            text=query.text("text"),
        )
        after, limit = query.text("after"), query.limit()
        try:
            return _json(await self._read_db(lambda db: records.listed(db, seen, wanted, after, limit)))
        except records.UnknownPageToken as error:
            raise HttpError(400, "invalid", f"after: {error}") from error

    async def session(self, request: Request, access: Access) -> Response:
        """Show one session."""
        machine, session = identity(request)
        seen = view(request, access, Query(request, {"user"}))
        found = await self._read_db(lambda db: records.one(db, seen, machine, session))
        if found is None:
            raise HttpError(404, "not-found", f"no session {session} of machine {machine}")
        return _json(found)

    async def streams(self, request: Request, access: Access) -> Response:
        """List the streams of a session."""
        machine, session = identity(request)
        user = view(request, access, Query(request, {"user"})).user
        held = await self._read_db(lambda db: records.held(db, user, machine, session))
        known = bool(held.streams) or await self._read_db(
            lambda db: records.revision(db, user, machine, session) is not None
        )
        if not known:
            raise HttpError(404, "not-found", f"no session {session} of machine {machine}")
        return _json(held)

    async def stream(self, request: Request, access: Access) -> Response:
        """Send the bytes of a stream, or a range of them."""
        machine, session = identity(request)
        name = checked(request.path_params["name"], "the name of the stream")
        query = Query(request, {"generation", "user"})
        generation = query.number("generation", most=MAX_GENERATION)
        user = view(request, access, query).user
        stream, life = await self._read_db(lambda db: _find(db, user, machine, session, name, generation))
        if stream is None or life is None:
            what = f"stream {name}" if generation is None else f"generation {generation} of stream {name}"
            raise HttpError(404, "not-found", f"no {what} of session {session} of machine {machine}")
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
        middleware=[Middleware(ChunkedAnswers)],
    )


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _find(
    db: Any, user: str, machine: str, session: str, name: str, generation: int | None
) -> tuple[int | None, streams.GenerationRow | None]:
    stream = streams.find(db, user, machine, session, name)
    return stream, None if stream is None else streams.find_generation(db, stream, generation)
