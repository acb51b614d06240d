"""Read the bytes of a stream from the tool's own file, or from the endpoint if the file is gone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import IO, cast

from sessiond.config import Config, read_token, state_dir
from sessiond.daemon.archive import open_archive
from sessiond.database import open_database
from sessiond.device import identify
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import EndpointError, NotFound, ReadError
from sessiond.ingest import Location, locate
from sessiond.ingest.content import decompress_file
from sessiond.reader import open_regular, read_document
from sessiond.sources import find_roots
from sessiond.sources.base import DatabaseSource, DocumentSource, Kind, Projection
from sessiond.spool import Spool
from sessiond.spool.health import read_endpoint
from sessiond.spool.rows import FileState, SessionState, StreamState
from sessiond.state import has_archive, running

PIECE = 1 << 20
DAMAGED = (ValueError, RecursionError)


def pieces(
    spool: Spool, config: Config, environ: Mapping[str, str], session: SessionState, stream: StreamState
) -> Iterator[bytes]:
    """Iterate the captured bytes of a stream.

    Raises: EndpointError, NotFound if neither the tool nor the endpoint has the stream.
    """
    for file in spool.catalog.files(stream.id):
        try:
            found = _from_tool(file, config, environ, session, stream)
        except (ReadError, FileNotFoundError, *DAMAGED):
            continue
        if found is not None:
            yield from found
            return
    yield from _from_endpoint(spool, config, environ, session, stream)


def lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Iterate the lines in a sequence of bytes."""
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _from_tool(
    file: FileState, config: Config, environ: Mapping[str, str], session: SessionState, stream: StreamState
) -> Iterator[bytes] | None:
    path = file.path.partition("::")[0]
    for place in locate(find_roots(config, environ), path):
        if place.source.tool != session.tool:
            continue
        if place.unit.kind is Kind.LINES:
            descriptor = open_regular(place.root, place.below)
            if place.unit.packed:
                packed, descriptor = descriptor, decompress_file(descriptor, state_dir(config))
                os.close(packed)
                os.lseek(descriptor, 0, os.SEEK_SET)
            return _read(os.fdopen(descriptor, "rb"), stream.folded)
        for projection in _projections(place, session.native_id):
            if (projection.native_id, projection.stream) == (session.native_id, stream.name):
                return (record + b"\n" for record in projection.records)
    return None


def _read(file: IO[bytes], length: int) -> Iterator[bytes]:
    with file:
        while length > 0 and (data := file.read(min(PIECE, length))):
            length -= len(data)
            yield data


def _projections(place: Location, native_id: str) -> list[Projection]:
    if place.unit.kind is Kind.DATABASE:
        database = open_database(place.path)
        try:
            found = cast(DatabaseSource, place.source).projections(database, native_id)
            return [_kept(projection) for projection in found]
        finally:
            database.close()
    if place.unit.kind is Kind.FOLDER:
        return []  # many small files that change one by one; the endpoint has a consistent state of them
    descriptor = open_regular(place.root, place.below)
    try:
        content = read_document(descriptor)
    finally:
        os.close(descriptor)
    return [
        _kept(projection)
        for projection in cast(DocumentSource, place.source).project({place.below: content}, place.unit)
    ]


def _kept(projection: Projection) -> Projection:
    """Return the projection with its records read, while the file is open."""
    return Projection(native_id=projection.native_id, records=list(projection.records), stream=projection.stream)


def _from_endpoint(
    spool: Spool, config: Config, environ: Mapping[str, str], session: SessionState, stream: StreamState
) -> Iterator[bytes]:
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
            with _client(spool, config, environ) as client:
                yield from client.stream(machine, session.uuid, stream.name)
            return
        except (NotFound, EndpointError):
            if not also_archive:
                raise
    # The endpoint was configured before the archive was copied there completely, so the archive may still have it.
    try:
        with closing(open_archive(state_dir(config), identify(state_dir(config)).device_id)) as archive:
            yield from archive.stream(machine, session.uuid, stream.name)
    except NotFound as error:
        raise nowhere from error


@contextmanager
def _client(spool: Spool, config: Config, environ: Mapping[str, str]) -> Iterator[ReadClient]:
    """Open a client for the daemon's endpoint. If that is the archive and no daemon runs, serve it in this process."""
    with ExitStack() as stack:
        url, token = config.endpoint.url, None
        if url:
            read = read_token(config, environ)
            token = None if read is None else read.reveal()
        else:
            directory = os.path.join(state_dir(config), "archive")
            if running(state_dir(config)) is not None:
                url = read_endpoint(spool).url
                with open(os.path.join(directory, "token")) as file:
                    token = file.read().strip()
            elif os.path.isdir(directory):
                from sessiond.endpoint.server import running as serving

                # Without the lock of the store, so that a daemon that starts now can take it. This client only reads.
                served = stack.enter_context(serving(directory, exclusive=False))
                url, token = served.url, served.token
            else:
                raise EndpointError("there is no archive on this machine yet", hint="start sessiond: sessiond run")
        endpoint = config.endpoint
        client = ReadClient(
            url,
            token,
            device_id=identify(state_dir(config)).device_id,
            timeout=endpoint.timeout,
            ca_file=endpoint.ca_file or None,
        )
        stack.callback(client.close)
        yield client
