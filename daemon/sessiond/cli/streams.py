"""Read the bytes of a stream from the tool's own file; if it is gone, from the outbox or the endpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from uuid import UUID

import msgspec

from sessiond import zstd
from sessiond.clock import now_ms
from sessiond.config import Config, read_token, state_dir
from sessiond.daemon.archive import open_archive
from sessiond.device import identify, reader_id
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import EndpointError, NotFound, ReadError, SpoolDamaged
from sessiond.ingest import Index, Location, locate
from sessiond.ingest.content import Content
from sessiond.ingest.context import ReadContext
from sessiond.ingest.units import open_unit
from sessiond.reader import Digest
from sessiond.sources import find_roots
from sessiond.sources.base import Kind
from sessiond.sources.damaged import DAMAGED
from sessiond.spool import Spool
from sessiond.spool.health import read_endpoint
from sessiond.spool.rows import FileState, Frame, SessionState, StreamState
from sessiond.state import ARCHIVE, has_archive, running

PIECE = 1 << 20
"""Bytes that are read at once."""


class LocalSession(msgspec.Struct, frozen=True):
    """A session of this machine, and the sources of its bytes."""

    spool: Spool
    config: Config
    environ: Mapping[str, str]
    session: SessionState
    index: Index | None = None
    """Maps a file to its sources. Building an index takes milliseconds, so a command for many sessions shares one."""

    def locate(self, path: str) -> list[Location]:
        """Return which sources read a file, and as what."""
        index = self.index or Index(find_roots(self.config, self.environ))
        return list(index(path))

    def is_verbatim(self, stream: StreamState) -> bool:
        """Return whether the stream is the tool's file as it is, so that what was appended can be read alone."""
        files = self.spool.catalog.files(stream.id)
        found = [place for file in files for place in self.locate(file.path.partition("::")[0])]
        return bool(found) and all(place.unit.kind.verbatim for place in found)


def pieces(local: LocalSession, stream: StreamState, start: int = 0) -> Iterator[bytes]:
    """Iterate the captured bytes of a stream. `start` may be the end of a line of a verbatim stream.

    Raises: EndpointError, NotFound if neither the tool nor the endpoint has the stream.
    """
    found = tool_file_bytes(local, stream, start)
    if found is None and start == 0 and not stream.acked:
        found = outbox_bytes(local.spool, stream)
    if found is not None:
        yield from found
        return
    yield from _from_endpoint(local, stream, start)


def tool_file_bytes(local: LocalSession, stream: StreamState, start: int = 0) -> Iterator[bytes] | None:
    """Return the captured bytes of a stream in a file of its tool; None if there is no such file."""
    for file in local.spool.catalog.files(stream.id):
        try:
            found = _from_tool(local, file, stream, start)
        except (ReadError, FileNotFoundError, *DAMAGED):
            continue
        if found is not None:
            return found
    return None


def outbox_bytes(spool: Spool, stream: StreamState) -> Iterator[bytes] | None:
    """Return the captured bytes of a stream, masked, if all of them wait in the outbox; None otherwise."""
    frames = [each for each in spool.catalog.queued_frames(stream.id) if each.generation == stream.generation]
    position = 0
    for frame in frames:
        if frame.offset != position:
            return None
        position += frame.length
    return _decompressed(spool, frames) if position == stream.folded else None


def _decompressed(spool: Spool, frames: list[Frame]) -> Iterator[bytes]:
    """Iterate the bytes of frames. Raises: NotFound for one that is acknowledged now, SpoolDamaged."""
    for frame in frames:
        data = spool.catalog.load_frame(frame.id)
        if data is None:
            raise NotFound("the endpoint has just taken a part of the stream", hint="try again")
        try:
            yield zstd.decompress(data, frame.length)
        except zstd.Undecodable as error:
            raise SpoolDamaged(f"the spool is damaged: a segment in it can't be decompressed: {error}") from error


def tool_bytes(config: Config, environ: Mapping[str, str], path: str) -> Iterator[bytes]:
    """Iterate the bytes of a tool's file.

    Raises: ReadError for a database. Its file lacks what is in the write-ahead log, and closing the file here would
    release the locks of other connections in this process.
    """
    if any(place.unit.kind is Kind.DATABASE for place in locate(find_roots(config, environ), path)):
        raise ReadError(
            f"{path} is a database that its tool may be writing", hint=f"copy it: sqlite3 {path} .backup COPY"
        )
    try:
        with open(path, "rb") as file:
            while piece := file.read(PIECE):
                yield piece
    except OSError as error:
        raise ReadError(f"{path}: {(error.strerror or 'unreadable').lower()}") from error


def _from_tool(local: LocalSession, file: FileState, stream: StreamState, start: int) -> Iterator[bytes] | None:
    config, session = local.config, local.session
    path = file.path.partition("::")[0]
    context = ReadContext(digest=Digest(0), now_ms=now_ms(), scratch=state_dir(config))
    for place in local.locate(path):
        # A folder has many small files that change one by one. The endpoint has a consistent state of them.
        if place.source.tool != session.tool or place.unit.kind is Kind.FOLDER:
            continue
        lines = place.unit.kind.verbatim
        with ExitStack() as stack:
            unit = stack.enter_context(open_unit(place, context))
            for source in unit.streams(session.native_id):
                if lines or source.name == stream.name:
                    end = stream.folded if lines else source.content.size
                    return _read(source.content, start, end, stack.pop_all())
    return None


def _read(content: Content, start: int, end: int, opened: ExitStack) -> Iterator[bytes]:
    """Iterate over bytes of a stream, and close its unit at the end."""
    with opened:
        left = end - start
        for chunk in content.chunks(start) if left > 0 else ():
            yield chunk.data[:left]
            left -= len(chunk.data)
            if left <= 0:
                return


def _from_endpoint(local: LocalSession, stream: StreamState, start: int) -> Iterator[bytes]:
    spool, config, environ, session = local.spool, local.config, local.environ, local.session
    record = session.record
    assert record is not None
    machine = record.machine_id or ""
    also_archive = bool(config.endpoint.url) and has_archive(state_dir(config))
    nowhere = NotFound(
        f"stream {stream.name} is neither in the tool's file nor at the endpoint",
        hint="`sessiond status` shows whether something is waiting",
    )
    if stream.acked or not also_archive:
        try:
            if not stream.acked:
                raise nowhere
            with open_client(spool, config, environ) as client:
                yield from client.stream(machine, session.uuid, stream.name, start=start)
            return
        except (NotFound, EndpointError):
            if not also_archive:
                raise
    # The endpoint was configured before the archive was copied there completely, so the archive may still have it.
    try:
        with closing(open_archive(state_dir(config), identify(state_dir(config)).device_id)) as archive:
            yield from archive.stream(machine, session.uuid, stream.name, start=start)
    except NotFound as error:
        raise nowhere from error


@contextmanager
def read_archive(directory: str) -> Iterator[ReadClient]:
    """Open a client for the built-in archive of a state directory, whether or not a daemon uses it meanwhile.

    Raises: StateError.
    """
    from sessiond.endpoint.server import running as serving

    # Without the lock of the store, so that a daemon that starts now can take it. This client only reads.
    with serving(os.path.join(directory, ARCHIVE), exclusive=False) as served:
        client = ReadClient(served.url, served.token, device_id=identify(directory).device_id)
        with closing(client):
            yield client


@contextmanager
def open_client(
    spool: Spool | None, config: Config, environ: Mapping[str, str], device_id: UUID | None = None
) -> Iterator[ReadClient]:
    """Open a client for the daemon's endpoint. If that is the archive and no daemon runs, serve it in this process.

    `device_id` is sent instead of that of a reader; a token that only pushes is shown what this device pushed.
    """
    with ExitStack() as stack:
        url, token = config.endpoint.url, None
        if url:
            read = read_token(config, environ)
            token = None if read is None else read.reveal()
        else:
            directory = os.path.join(state_dir(config), ARCHIVE)
            if spool is not None and running(state_dir(config)) is not None:
                url = read_endpoint(spool).url
                with open(os.path.join(directory, "token")) as file:
                    token = file.read().strip()
            elif os.path.isdir(directory):
                yield stack.enter_context(read_archive(state_dir(config)))
                return
            else:
                raise EndpointError("there is no archive on this machine yet", hint="`sessiond run` makes one")
        endpoint = config.endpoint
        client = ReadClient(
            url,
            token,
            device_id=device_id or reader_id(state_dir(config)),
            timeout=endpoint.timeout,
            ca_file=endpoint.ca_file or None,
        )
        stack.callback(client.close)
        yield client
