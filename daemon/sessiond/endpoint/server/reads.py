"""The requests that read sessions, changes and the bytes of streams.

Every read runs in a worker thread, because SQLite blocks. A request reads only what the user of its token owns.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from functools import partial
from hashlib import blake2b
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sessiond.endpoint.server import changes, expired, listing, ranges, reading, records, streams
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.guard import view
from sessiond.endpoint.server.pages import UnknownPageToken
from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.query import Query, device_id, id_prefix, session_path, valid_name
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.tokens import Access
from sessiond.endpoint.server.unlisted import list_unlisted
from sessiond.endpoint.wire import GENERATION_HEADER, MAX_GENERATION, RECORDS

MAX_THREADS = 4
"""Reads that run at the same time."""
MAX_DOWNLOADS = 8
"""Reads of bytes that run at the same time. A slow object store keeps these threads, and no others."""
STEP = 1 << 20
"""Bytes of a stream that are in memory at once."""
MAX_DAMAGED = 1000
"""Damaged streams that are remembered."""
SESSION_FILTERS = {
    *("tool", "machine_id", "id", "since", "until", "text", "branch", "model", "gone"),
    *("sort", "after", "limit", "user"),
}
"""The parameters of `GET /v1/sessions`."""
Answer = TypeVar("Answer")


class Reader:
    """Runs functions that read the store in worker threads, MAX_THREADS at a time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._limiter = anyio.CapacityLimiter(MAX_THREADS)
        self._downloads = anyio.CapacityLimiter(MAX_DOWNLOADS)

    async def run(self, function: Callable[[], Answer]) -> Answer:
        """Return what `function` returns."""
        return await anyio.to_thread.run_sync(function, limiter=self._limiter)

    async def download(self, stream: int, generation: int, start: int, end: int) -> bytes:
        """Return the bytes [start, end) of a generation. Raises: see `reading.read`."""
        read = partial(reading.read, self.store, stream, generation, start, end)
        return await anyio.to_thread.run_sync(read, limiter=self._downloads)

    async def query(self, function: Callable[[Database], Answer]) -> Answer:
        """Return what `function` returns for a connection in a read transaction."""

        def read() -> Answer:
            with self.store.read() as db:
                return function(db)

        return await self.run(read)


class ReadHandlers:
    """Handlers of the requests that need the scope `read` or `admin`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._endpoint_id = reader.store.endpoint_id
        self._damaged: OrderedDict[tuple[int, int], int] = OrderedDict()
        """Where answers were cut off because the bytes behind are damaged, by stream and generation."""

    async def forgotten(self, request: Request, access: Access) -> Response:
        """Return a page of the sessions that were erased."""
        query = Query(request, {"since", "limit"})
        since, limit, device = query.text("since"), query.limit(), device_id(request)
        ask = partial(
            changes.list_forgotten,
            access=access,
            device=device,
            endpoint=self._endpoint_id,
            since=since,
            limit=limit,
        )
        try:
            return json_response(await self._reader.query(ask))
        except UnknownPageToken as error:
            raise HttpError(410, "unknown-place", str(error)) from error

    async def changes(self, request: Request, access: Access) -> Response:
        """List the user's sessions that changed after a position in the user's sequence of changes."""
        query = Query(request, {"since", "limit", "user"})
        seen = view(request, access, query)
        since, limit = query.text("since"), query.limit()
        ask = partial(changes.list_changes, view=seen, endpoint=self._endpoint_id, since=since, limit=limit)
        try:
            return json_response(await self._reader.query(ask))
        except UnknownPageToken as error:
            raise HttpError(410, "unknown-place", f"since: {error}; start again without it") from error

    async def sessions(self, request: Request, access: Access) -> Response:
        """List the user's sessions."""
        query = Query(request, SESSION_FILTERS)
        seen = view(request, access, query)
        wanted = listing.Filter(
            tool=query.text("tool"),
            machine_id=query.text("machine_id"),
            id=id_prefix(query.text("id")),
            since=query.time("since"),
            until=query.time("until"),
            text=query.text("text"),
            branch=query.text("branch"),
            model=query.text("model"),
            gone=query.choice("gone", ("true",)) is not None,
        )
        order = listing.Order(query.choice("sort", tuple(listing.Order)) or listing.Order.STARTED)
        after, limit = query.text("after"), query.limit()
        try:
            return json_response(
                await self._reader.query(lambda db: listing.list_sessions(db, seen, wanted, after, limit, order))
            )
        except UnknownPageToken as error:
            raise HttpError(400, "invalid", f"after: {error}") from error

    async def unlisted(self, request: Request, access: Access) -> Response:
        """List the user's sessions that have streams but no record."""
        query = Query(request, {"after", "limit", "user"})
        user, after, limit = view(request, access, query).user, query.text("after"), query.limit()
        try:
            return json_response(await self._reader.query(lambda db: list_unlisted(db, user, after, limit)))
        except UnknownPageToken as error:
            raise HttpError(400, "invalid", f"after: {error}") from error

    async def session(self, request: Request, access: Access) -> Response:
        """Return one session."""
        machine, session = session_path(request)
        seen = view(request, access, Query(request, {"user"}))
        found = await self._reader.query(lambda db: records.get_session(db, seen, machine, session))
        if found is None:
            raise await self._missing(seen.user, machine, session)
        return json_response(found)

    async def streams(self, request: Request, access: Access) -> Response:
        """List the streams of a session, a page at a time."""
        machine, session = session_path(request)
        query = Query(request, {"after", "user"})
        user, after = view(request, access, query).user, query.text("after")
        try:
            held = await self._reader.query(lambda db: records.list_streams(db, user, machine, session, after))
        except UnknownPageToken as error:
            raise HttpError(400, "invalid", f"after: {error}") from error
        known = bool(held.streams) or await self._reader.query(
            lambda db: records.revision(db, user, machine, session) is not None
        )
        if not known:
            raise await self._missing(user, machine, session)
        return json_response(held)

    async def stream(self, request: Request, access: Access) -> Response:
        """Return the bytes of a stream, or a range of them."""
        machine, session = session_path(request)
        name = valid_name(request.path_params["name"], "the name of the stream")
        query = Query(request, {"generation", "user"})
        generation = query.number("generation", highest=MAX_GENERATION)
        user = view(request, access, query).user
        stream, row, kind = await self._reader.query(
            lambda db: _find_generation(db, (user, machine, session, name), generation)
        )
        if stream is None or row is None:
            missing = f"stream {name}" if generation is None else f"generation {generation} of stream {name}"
            raise await self._missing(user, machine, session, f"{missing} of ")
        # The stream's number in the store is not used: it counts the streams of all users.
        key = blake2b(msgspec.json.encode([user, machine, session, name]), digest_size=8).hexdigest()
        etag = f'"{self._endpoint_id.hex[:8]}-{key}-{row.generation}-{row.length}"'
        headers = {"Accept-Ranges": "bytes", "ETag": etag, GENERATION_HEADER: str(row.generation)}
        # A browser must not run what a client pushed: an HTML page or an SVG image as a page of this endpoint.
        headers |= {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"}
        span = None if request.headers.get("if-range", etag) != etag else request.headers.get("range")
        start, end, partial_content = ranges.parse_range(span, row.length, headers)
        headers |= {"Content-Length": str(end - start), "Content-Type": kind or RECORDS}
        if partial_content:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{row.length}"
        if request.method == "HEAD":
            end = start
        # The first step is read before the answer begins: a failure is then an answer of its own, such as 503.
        try:
            await self._check(stream, row.generation, start, end)
            first = await self._step(stream, row.generation, start, end)
        except streams.Damaged as error:
            raise HttpError(404, "damaged", f"stream {name} of session {session} is damaged: {error}") from error
        return StreamingResponse(
            self._bytes(stream, row.generation, first, start, end),
            status_code=206 if partial_content else 200,
            headers=headers,
        )

    async def _missing(self, user: str, machine: str, session: str, part: str = "") -> HttpError:
        """Return the error for a session, or a part of it, that is not here."""
        if await self._reader.query(lambda db: expired.is_expired(db, user, machine, session)):
            return HttpError(404, "expired", f"session {session} was let go: it is older than this endpoint keeps")
        return HttpError(404, "not-found", f"no {part}session {session} of machine {machine}")

    async def _bytes(self, stream: int, generation: int, first: bytes, start: int, end: int) -> AsyncIterator[bytes]:
        yield first
        # Stored bytes of a generation never change, so the steps fit together.
        for at in range(start + STEP, end, STEP):
            try:
                step = await self._step(stream, generation, at, end)
            except streams.Damaged:
                # It is too late for a status: the answer is cut off, and the next request learns why.
                self._damaged[stream, generation] = at
                while len(self._damaged) > MAX_DAMAGED:
                    self._damaged.popitem(last=False)
                raise
            yield step

    async def _check(self, stream: int, generation: int, start: int, end: int) -> None:
        """Read the step at which an earlier answer was cut off, if it is asked for. Raises: Damaged."""
        at = self._damaged.get((stream, generation))
        if at is not None and start < at < end:
            await self._step(stream, generation, at, end)

    async def _step(self, stream: int, generation: int, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        return await self._reader.download(stream, generation, start, min(start + STEP, end))


def json_response(answer: msgspec.Struct) -> Response:
    """Return a response with a struct as JSON."""
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _find_generation(
    db: Database, key: tuple[str, str, str, str], generation: int | None
) -> tuple[int | None, streams.GenerationRow | None, str | None]:
    stream = streams.find(db, *key)
    if stream is None:
        return None, None, None
    return stream, streams.find_generation(db, stream, generation), streams.media_type(db, stream)
