"""Opens one stream of a unit in its tool's file, document, folder or database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from sessiond.database import open_database
from sessiond.errors import ReadError
from sessiond.ingest.content import Content, Lines, Records
from sessiond.ingest.context import IngestContext, Location
from sessiond.ingest.files import list_folder, read_file, with_further
from sessiond.reader import open_regular, read_document
from sessiond.sources.base import DatabaseSource, DocumentSource, Kind, Projection
from sessiond.spool.rows import StreamState


@contextmanager
def open_content(context: IngestContext, location: Location, native_id: str, stream: StreamState) -> Iterator[Content]:
    """Open the content of a stream. `native_id` is its session in a container, and "" if there is only one.

    Raises: ReadError where the unit has no such stream or can't be read; Torn in the middle of a rewrite; OSError.
    """
    if location.unit.kind is not Kind.LINES:
        yield _projection(context, location, native_id, stream)
        return
    descriptor = open_regular(location.root, location.below)
    try:
        if location.unit.packed:
            packed = descriptor
            descriptor = context.compressed.open(packed, location.path, context.pins.directory, context.now_ms())
            os.close(packed)
        yield Lines(descriptor, context.digest)
    finally:
        os.close(descriptor)


def _projection(context: IngestContext, location: Location, native_id: str, stream: StreamState) -> Records:
    for projection in _projections(context, location, native_id):
        if (not native_id or projection.native_id == native_id) and projection.stream == stream.name:
            return Records(projection.records, context.digest)
    raise ReadError(f"it no longer has a stream {stream.name}")


def _projections(context: IngestContext, location: Location, native_id: str) -> Iterator[Projection]:
    if location.unit.kind is Kind.DATABASE:
        database = open_database(location.path)
        try:
            yield from cast(DatabaseSource, location.source).projections(database, native_id)
        finally:
            database.close()
        return
    source = cast(DocumentSource, location.source)
    if location.unit.kind is Kind.FOLDER:
        files = {name: read_file(location, name) for name in list_folder(location)[0]}
    else:
        descriptor = open_regular(location.root, location.below)
        try:
            files = {location.below: read_document(descriptor)}
        finally:
            os.close(descriptor)
    yield from source.project(with_further(location, context.now_ms(), source, files), location.unit)
