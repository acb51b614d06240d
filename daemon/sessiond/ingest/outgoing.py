"""What would be sent of a place: its streams as they stand at the source, with no spool asked and nothing stored."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import cast

import msgspec

from sessiond.database import open_database
from sessiond.errors import ReadError
from sessiond.ingest.advance import read_context
from sessiond.ingest.capture import DAMAGED
from sessiond.ingest.content import unpack
from sessiond.ingest.files import list_folder, read_file, with_further
from sessiond.ingest.setting import Place, inner_path
from sessiond.reader import check_regular, open_regular, read_document
from sessiond.sources.base import DatabaseSource, DocumentSource, Kind, Memory, Projection

HEAD = 200
"""Records in which the working directory is looked for."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """One stream: the file it lies in, what it is called in there, where its session works, and its records."""

    path: str
    name: str
    cwd: str | None
    records: Iterable[bytes]


def list_outgoing(place: Place, now_ms: int) -> Iterator[Outgoing]:
    """List the streams of a place; each one's records are read before the next is asked for.

    Raises: ReadError, Torn, OSError.
    """
    outside = place.cwd
    if place.unit.beside and (entry := read_context(place)) is not None:
        outside = entry.cwd or outside
    try:
        if place.unit.kind is Kind.LINES:
            yield from _lines(place, outside)
            return
        for projection in _projections(place, now_ms):
            records = list(projection.records)
            name = inner_path("", projection.native_id, projection.stream).removeprefix("::")
            cwd = outside or _directory(place, records)
            yield Outgoing(path=place.path, name=name, cwd=cwd, records=records)
    except DAMAGED as error:
        raise ReadError(f"it can't be read: {error}") from error


def _lines(place: Place, outside: str) -> Iterator[Outgoing]:
    if place.unit.packed and os.path.exists(place.path.removesuffix(".zst")):
        return
    descriptor = open_regular(place.root, place.below)
    if place.unit.packed:
        packed, descriptor = descriptor, unpack(descriptor, tempfile.gettempdir())
        os.close(packed)
    with os.fdopen(descriptor, "rb") as file:
        cwd = outside or _directory(place, (line.rstrip(b"\n") for line in islice(file, HEAD)))
        file.seek(0)
        yield Outgoing(path=place.path, name="", cwd=cwd, records=(line.removesuffix(b"\n") for line in file))


def _projections(place: Place, now_ms: int) -> Iterator[Projection]:
    if place.unit.kind is Kind.DATABASE:
        check_regular(place.root, place.below)
        rows = cast(DatabaseSource, place.source)
        database = open_database(place.path)
        try:
            for native_id, _ in list(rows.sessions(database)):
                yield from rows.projections(database, native_id)
        finally:
            database.close()
        return
    source = cast(DocumentSource, place.source)
    if place.unit.kind is Kind.FOLDER:
        names, _ = list_folder(place)
        files = {name: data for name in names if (data := read_file(place, name))}
    else:
        descriptor = open_regular(place.root, place.below)
        try:
            files = {place.below: read_document(descriptor)} if os.fstat(descriptor).st_size else {}
        finally:
            os.close(descriptor)
    if files:
        yield from source.project(with_further(place, now_ms, source, files), place.unit)


def _directory(place: Place, records: Iterable[bytes]) -> str | None:
    """Find the first working directory that the records name."""
    memory: Memory = {}
    for record in islice(records, HEAD):
        with suppress(*DAMAGED):
            entry = place.source.decode(record, memory) if record else None
            if entry is not None and (entry.cwd or entry.role is not None):
                return entry.cwd
    return None
