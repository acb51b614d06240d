"""The ASGI application: the routes of protocol v1, and the requests that push (docs/protocol.md).

The event loop moves bytes, looks up tokens, and stores live pushes while that does not wait (batcher.py). Everything
else that touches the store runs in a worker thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property, partial
from itertools import chain
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec
from msgspec import UNSET
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sessiond import __version__
from sessiond.endpoint import dictionary, stream_digest
from sessiond.endpoint.enrolment import ENROL, EnrolRequest
from sessiond.endpoint.erasure import FORGET
from sessiond.endpoint.pace import Pace
from sessiond.endpoint.server import body, invites, machines, metrics, problems, streams
from sessiond.endpoint.server.admission import Admission, ChunkedAnswers
from sessiond.endpoint.server.decision import Sender
from sessiond.endpoint.server.digester import Digester
from sessiond.endpoint.server.drain import Drain, Draining
from sessiond.endpoint.server.erase import Order
from sessiond.endpoint.server.guard import Guard, Handler, client_name
from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.push_first import PATH, PushFirst
from sessiond.endpoint.server.pushes import Pushes, ReceivedPush
from sessiond.endpoint.server.query import Query, device_id, valid_name
from sessiond.endpoint.server.reads import Reader, ReadHandlers, json_response
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.tokens import ADMIN, PUSH, READ, Access
from sessiond.endpoint.server.trusted_proxy import TrustedProxy
from sessiond.endpoint.wire import (
    BATCH_HEADER,
    DEVICE_HEADER,
    PROTOCOL,
    SERVICE,
    About,
    Limits,
    OffsetsAnswer,
    OffsetsRequest,
    PushAnswer,
    RemotePosition,
    StreamKey,
)

JSON_LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
JSON = frozenset({"application/json"})
ENROL_BYTES = 8 << 10
"""Bytes of a request to enrol, which needs no token."""
ENROLMENTS_WAITING = 16
ENROLMENTS_OF_ONE = 4
"""Requests to enrol at the same time: in total, and from one address. They never wait for a thread of pushes."""
READS_WAITING = 64
READS_OF_ONE = 16
"""Reads whose answer is being made or sent: in total, and from one token."""
FEATURES = (
    *("offsets", "changes", "sessions", "streams", "filters", "unlisted", "ranges", "generations"),
    ENROL,
    FORGET,
    dictionary.FEATURE,
    stream_digest.FEATURE,
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint serves its store."""

    limits: Limits = Limits()
    pace: Pace | None = None
    access_log: bool = False
    proxy: TrustedProxy | None = None
    drain: Drain | None = None
    """Shared with the server, which begins it."""


class Endpoint:
    """The requests of protocol v1 over one store.

    `secrets` are tokens that are accepted in addition to those in the store.
    """

    def __init__(
        self,
        store: Store,
        *,
        secrets: tuple[str, ...] = (),
        settings: Settings | None = None,
        bodies: body.Bodies | None = None,
    ) -> None:
        settings = settings or Settings()
        self.store = store
        self._pace = settings.pace
        self.limits = settings.limits
        self._guard = Guard(store, secrets, settings.proxy)
        self._reader = Reader(store)
        self._pushes = Pushes(store, self.limits, self._guard.uses)
        self._read_admission = Admission(READS_WAITING, READS_OF_ONE)
        self._enrolments = Admission(ENROLMENTS_WAITING, ENROLMENTS_OF_ONE)
        self._enrolment_thread = anyio.CapacityLimiter(1)
        self._bodies = bodies or body.Bodies()
        self._digester = Digester(store)
        self.requests = metrics.Requests()

    @cached_property
    def guarded_push(self) -> Handler:
        """The handler of pushes."""
        return self._guard.needs(self.push, PUSH, is_push=True)

    def routes(self) -> list[Route]:
        """Return the routes of all addresses."""
        handlers = ReadHandlers(self._reader)
        session = "/v1/sessions/{machine_id:machine}/{id:uuid}"
        guarded = partial(self._guard.needs, admission=self._read_admission)
        return [
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/metrics", self._guard.needs(self.metrics, ADMIN), methods=["GET"]),
            Route("/v1", self._guard.optional(self.about), methods=["GET"]),
            Route(PATH, self.guarded_push, methods=["POST"]),
            Route("/v1/enrol", self.enrol, methods=["POST"]),
            Route("/v1/offsets", guarded(self.offsets, PUSH, READ), methods=["POST"]),
            Route("/v1/changes", guarded(handlers.changes, READ, ADMIN), methods=["GET"]),
            Route("/v1/sessions", guarded(handlers.sessions, READ, ADMIN), methods=["GET"]),
            Route("/v1/unlisted", guarded(handlers.unlisted, READ, ADMIN), methods=["GET"]),
            Route(f"{session}/streams", guarded(handlers.streams, READ, ADMIN), methods=["GET"]),
            Route(f"{session}/streams/{{name:path}}", guarded(handlers.stream, READ, ADMIN), methods=["GET"]),
            Route(session, guarded(handlers.session, READ, ADMIN), methods=["GET"]),
            Route("/v1/forgotten", guarded(handlers.forgotten, READ, PUSH), methods=["GET"]),
            Route(session, self._guard.needs(self.forget, PUSH, ADMIN), methods=["DELETE"]),
            Route("/v1/sessions/{id:uuid}", self._guard.needs(self.forget, PUSH, ADMIN), methods=["DELETE"]),
        ]

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Keep the store packed while the endpoint runs."""
        self._pushes.upkeep.start()
        yield
        self._pushes.upkeep.stop()

    async def healthz(self, request: Request) -> Response:
        """Answer 200 if the store can be read, for a load balancer or a service manager."""
        await self._reader.query(lambda db: db.execute("SELECT change FROM users LIMIT 1").fetchone())
        return Response("ok\n", media_type="text/plain")

    async def metrics(self, request: Request, access: Access) -> Response:
        """Return the metrics in the text format of Prometheus."""
        lines = chain(
            self.requests.lines(),
            self._pushes.metrics(),
            metrics.metric("sessiond_store_bytes", "gauge", "Bytes of the store's files.", [({}, self.store.size())]),
            metrics.process_lines(),
        )
        return Response("".join(f"{line}\n" for line in lines), media_type=metrics.CONTENT_TYPE)

    async def about(self, request: Request, access: Access | None) -> Response:
        """Return the endpoint's id, limits and features; to a device's own token also the id of its last push."""
        known = partial(machines.known_of, access=access, device=device_id(request))
        last, keep_days = (None, None) if access is None else await self._reader.query(known)
        return json_response(
            About(
                service=SERVICE,
                protocol=PROTOCOL,
                endpoint_id=self.store.endpoint_id,
                version=__version__,
                limits=self.limits,
                encodings=list(body.ENCODINGS),
                features=list(FEATURES),
                last_batch=last,
                pace=self._pace,
                keep_days=keep_days,
            )
        )

    async def push(self, request: Request, access: Access) -> Response:
        """Store the lines of a push and return a result for each."""
        batch = request.headers.get(BATCH_HEADER, "")
        if len(batch) > 200:
            raise HttpError(400, "invalid", f"{BATCH_HEADER} is longer than 200 characters")
        device = device_id(request)
        if device is None:
            raise HttpError(400, "invalid", f"a push needs the header {DEVICE_HEADER}")
        access.check_device(device)
        sender = Sender(access=access, device=device, batch=batch)
        encoding = body.check_kind(request, JSON_LINES, dictionary.ENCODING)
        client = client_name(request)
        async with self._bodies.read(request, self.limits.body, client) as sent:
            received = ReceivedPush(sent=sent, encoding=encoding, sender=sender, client=client)
            outcome = await self._pushes.store(received)
        results = outcome.results
        if not results:  # it had no transaction, in which the token is looked up
            await self._guard.authenticate(request)
        if outcome.pending:
            # The lines are committed. Only this client waits for the digests of large streams; other pushes go on.
            results = outcome.complete(await self._digester.digests(list(outcome.pending.values())))
        previous = outcome.previous if batch and results else UNSET
        return json_response(PushAnswer(batch=batch, results=results, previous=previous))

    async def forget(self, request: Request, access: Access) -> Response:
        """Erase a session of one machine, or of all that the token may erase; return a receipt."""
        machine = request.path_params.get("machine_id")
        user = Query(request, {"user"}).text("user")
        if user is not None and ADMIN not in access.scopes:
            raise HttpError(403, "forbidden", "user: only a token with the scope admin may name a user")
        order = Order(
            access=access,
            device=device_id(request),
            session=str(request.path_params["id"]),
            machine=None if machine is None else valid_name(machine, "machine_id"),
            user=user,
        )
        return json_response(await self._pushes.erase(order, client_name(request)))

    async def enrol(self, request: Request) -> Response:
        """Create a token for a device that has the code of an invitation."""
        encoding = body.check_kind(request, JSON)
        client = client_name(request)
        async with self._bodies.read(request, ENROL_BYTES, client) as sent:
            asked = body.decode_json(EnrolRequest, sent, encoding, ENROL_BYTES)
            with self._enrolments.admitted(client):
                enrol = partial(invites.enrol, self.store, asked)
                return json_response(await anyio.to_thread.run_sync(enrol, limiter=self._enrolment_thread))

    async def offsets(self, request: Request, access: Access) -> Response:
        """Return the positions of streams of the user's machines.

        A token without the scope `read` sees only the machines of its own device.
        """
        device = device_id(request)
        encoding = body.check_kind(request, JSON)
        async with self._bodies.read(request, self.limits.body, client_name(request)) as sent:
            asked, found, taken = await self._reader.run(partial(self._offsets, sent, encoding, access, device))
        digests = iter(await self._digester.digests([each for each in found if each is not None]))
        positions = [
            _position(key, state, None if state is None else next(digests))
            for key, state in zip(asked.streams, found, strict=True)
        ]
        return json_response(OffsetsAnswer(streams=positions, taken=taken))

    def _offsets(
        self, sent: bytes, encoding: str, access: Access, device: UUID | None
    ) -> tuple[OffsetsRequest, list[streams.State | None], bool]:
        asked = body.decode_json(OffsetsRequest, sent, encoding, self.limits.decoded)
        if len(asked.streams) > self.limits.items:
            raise HttpError(413, "too-large", f"a request may name {self.limits.items} streams")
        with self.store.read() as db:
            taken = machines.is_taken(db, access, asked.machine_id, device)
            # Without `read`, a token sees its own device's machines; others are answered like names without a machine.
            if READ not in access.scopes and not (
                access.owns(device) and machines.belongs(db, access.user, asked.machine_id, str(device))
            ):
                return asked, [None] * len(asked.streams), taken
            owner = access.user, asked.machine_id
            found = [
                streams.find_state(db, *owner, str(key.session), key.stream, follows_sha256=not asked.after)
                for key in asked.streams
            ]
            return asked, found, taken


def _position(key: StreamKey, state: streams.State | None, digest: str | None) -> RemotePosition:
    return RemotePosition(
        session=key.session,
        stream=key.stream,
        generation=None if state is None else state.generation,
        length=0 if state is None else state.length,
        sha256=digest if state is None or state.follows_sha256 else None,
        after=None if state is None or state.follows_sha256 else digest,
    )


def build(
    store: Store,
    *,
    secrets: tuple[str, ...] = (),
    settings: Settings | None = None,
    bodies: body.Bodies | None = None,
) -> ASGIApp:
    """Return the ASGI application over a store."""
    settings = settings or Settings()
    endpoint = Endpoint(store, secrets=secrets, settings=settings, bodies=bodies)
    routes = Starlette(lifespan=endpoint.lifespan, routes=endpoint.routes(), exception_handlers=problems.HANDLERS)
    draining = Draining(ChunkedAnswers(PushFirst(endpoint.guarded_push, routes)), settings.drain or Drain())
    return metrics.Observed(draining, endpoint.requests, access_log=settings.access_log)
