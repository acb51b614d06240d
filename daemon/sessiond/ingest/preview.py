"""Reads the streams of a location as they would be captured, without the spool and without storing anything."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import cast

import msgspec

from sessiond.database import open_database
from sessiond.errors import ReadError
from sessiond.ingest.content import decompress_file
from sessiond.ingest.context import Location, inner_path
from sessiond.ingest.files import list_folder, read_file, with_further
from sessiond.ingest.stream_capture import read_context
from sessiond.reader import check_regular, open_regular, read_document
from sessiond.sources.base import DatabaseSource, DocumentSource, Kind, Memory, Projection
from sessiond.sources.damaged import DAMAGED, decode_all

HEAD = 200
"""How many records are searched for the working directory."""


class StreamPreview(msgspec.Struct, frozen=True, kw_only=True):
    """A stream: its file, its name in there, its session's working directory, and its records."""

    path: str
    name: str
    cwd: str | None
    records: Iterable[bytes]


def preview_streams(location: Location, now_ms: int) -> Iterator[StreamPreview]:
    """Iterate over the streams of a location. Read the records of each before asking for the next.

    Raises: ReadError, Torn, OSError.
    """
    outside = location.cwd
    if location.unit.beside and (entry := read_context(location)) is not None:
        outside = entry.cwd or outside
    try:
        if location.unit.kind is Kind.LINES:
            yield from _lines(location, outside)
            return
        for projection in _projections(location, now_ms):
            records = list(projection.records)
            name = inner_path("", projection.native_id, projection.stream).removeprefix("::")
            cwd = outside or _directory(location, records)
            yield StreamPreview(path=location.path, name=name, cwd=cwd, records=records)
    except DAMAGED as error:
        raise ReadError(f"it can't be read: {error}") from error


def _lines(location: Location, outside: str) -> Iterator[StreamPreview]:
    if location.unit.packed and os.path.exists(location.path.removesuffix(".zst")):
        return
    descriptor = open_regular(location.root, location.below)
    if location.unit.packed:
        packed, descriptor = descriptor, decompress_file(descriptor, tempfile.gettempdir())
        os.close(packed)
    with os.fdopen(descriptor, "rb") as file:
        cwd = outside or _directory(location, (line.rstrip(b"\n") for line in islice(file, HEAD)))
        file.seek(0)
        yield StreamPreview(path=location.path, name="", cwd=cwd, records=(line.removesuffix(b"\n") for line in file))


def _projections(location: Location, now_ms: int) -> Iterator[Projection]:
    if location.unit.kind is Kind.DATABASE:
        check_regular(location.root, location.below)
        rows = cast(DatabaseSource, location.source)
        database = open_database(location.path)
        try:
            for native_id, _ in list(rows.sessions(database)):
                yield from rows.projections(database, native_id)
        finally:
            database.close()
        return
    source = cast(DocumentSource, location.source)
    if location.unit.kind is Kind.FOLDER:
        names, _ = list_folder(location)
        files = {name: data for name in names if (data := read_file(location, name))}
    else:
        descriptor = open_regular(location.root, location.below)
        try:
            files = {location.below: read_document(descriptor)} if os.fstat(descriptor).st_size else {}
        finally:
            os.close(descriptor)
    if files:
        yield from source.project(with_further(location, now_ms, source, files), location.unit)


def _directory(location: Location, records: Iterable[bytes]) -> str | None:
    """Return the first working directory in the records."""
    memory: Memory = {}
    for record in islice(records, HEAD):
        for entry in decode_all(location.source.decode, record, memory):
            if entry.cwd or entry.role is not None:
                return entry.cwd
    return None
