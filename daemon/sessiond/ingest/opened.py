"""Opens one stream of a unit as it is at its tool now, whatever keeps it: a file of lines, a document, a database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from sessiond.database import open_database
from sessiond.errors import ReadError
from sessiond.ingest.content import Content, Lines, Records
from sessiond.ingest.files import list_folder, read_file, with_further
from sessiond.ingest.setting import Place, Setting
from sessiond.reader import open_regular, read_document
from sessiond.sources.base import DatabaseSource, DocumentSource, Kind, Projection
from sessiond.spool.rows import StreamState


@contextmanager
def open_content(setting: Setting, place: Place, native_id: str, stream: StreamState) -> Iterator[Content]:
    """Open the content of a stream. `native_id` names its session in a container; it is "" where there is one only.

    Raises: ReadError where the unit has no such stream, or can't be read; Torn in the middle of a rewrite; OSError.
    """
    if place.unit.kind is not Kind.LINES:
        yield _projection(setting, place, native_id, stream)
        return
    descriptor = open_regular(place.root, place.below)
    try:
        if place.unit.packed:
            packed = descriptor
            descriptor = setting.packed.open(packed, place.path, setting.pins.directory, setting.now_ms())
            os.close(packed)
        yield Lines(descriptor, setting.digest)
    finally:
        os.close(descriptor)


def _projection(setting: Setting, place: Place, native_id: str, stream: StreamState) -> Records:
    for projection in _projections(setting, place, native_id):
        if (not native_id or projection.native_id == native_id) and projection.stream == stream.name:
            return Records(projection.records, setting.digest)
    raise ReadError(f"it has no stream {stream.name} any more")


def _projections(setting: Setting, place: Place, native_id: str) -> Iterator[Projection]:
    if place.unit.kind is Kind.DATABASE:
        database = open_database(place.path)
        try:
            yield from cast(DatabaseSource, place.source).projections(database, native_id)
        finally:
            database.close()
        return
    source = cast(DocumentSource, place.source)
    if place.unit.kind is Kind.FOLDER:
        files = {name: read_file(place, name) for name in list_folder(place)[0]}
    else:
        descriptor = open_regular(place.root, place.below)
        try:
            files = {place.below: read_document(descriptor)}
        finally:
            os.close(descriptor)
    yield from source.project(with_further(place, setting.now_ms(), source, files), place.unit)
