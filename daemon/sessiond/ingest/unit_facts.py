"""Reads what a unit has of its session before it is captured: its native id and its working directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from sessiond.errors import ReadError, Torn
from sessiond.ingest.content import Content
from sessiond.ingest.context import Location
from sessiond.line_ends import split_lines
from sessiond.reader import open_regular, read_document
from sessiond.session import Entry
from sessiond.sources.base import Memory, Source
from sessiond.sources.damaged import DAMAGED, decode_all, to_utf8

MAX_CONTEXT_FILE = 4 << 20
"""Largest file beside a unit that is read, in bytes. A larger one is not the small file that its source expects."""
HEAD = 16 << 20
"""Bytes in which a session's id has to appear, so that a log of gigabytes beside the sessions is not read whole."""


def read_context(location: Location) -> Entry | None:
    """Read the files beside a unit. Missing or half-written ones are ignored until the unit changes again."""
    beside = {}
    for name in location.unit.beside:
        with suppress(FileNotFoundError, ReadError, Torn):
            descriptor = open_regular(*location.resolve(name))
            try:
                beside[name] = to_utf8(read_document(descriptor, MAX_CONTEXT_FILE))
            finally:
                os.close(descriptor)
    with suppress(*DAMAGED):
        return location.source.context(beside, location.unit) if location.unit.beside else None
    return None


def outer_directory(location: Location) -> str | None:
    """Return the working directory according to the files beside the unit, its path or its root."""
    entry = read_context(location) if location.unit.beside else None
    return (entry.cwd if entry is not None else None) or location.unit.directory or location.cwd or None


def first_directory(
    source: Source, content: Content, offset: int = 0, until: int | None = None
) -> tuple[str | None, bool]:
    """Read until the working directory is known, or until it is certain that there will be none.

    A tool that has written a message without a working directory never writes one. Only records that begin at or after
    `offset` and before `until` are read.

    Returns: the directory, and whether the answer is final.
    """
    memory: Memory = {}
    for line in _lines(content, offset, until):
        for entry in decode_all(source.decode, line, memory):
            if entry.cwd or entry.role is not None:
                return entry.cwd, True
    return None, False


def first_native_id(source: Source, content: Content) -> str | None:
    """Return the session id that the first records have; None if there is none within HEAD bytes."""
    memory: Memory = {}
    for line in _lines(content, 0, None, HEAD):
        for entry in decode_all(source.decode, line, memory):
            if entry.native_id:
                return entry.native_id
    return None


def _lines(content: Content, offset: int, until: int | None, head: int | None = None) -> Iterator[bytes]:
    for chunk in content.records(offset, until=until):
        if head is not None and chunk.offset > head:
            return
        if b"\0" in chunk.data:
            yield from filter(None, split_lines(chunk.data))
            continue
        start = 0
        while start < len(chunk.data):
            end = chunk.data.find(b"\n", start)
            end = len(chunk.data) if end < 0 else end
            if end > start:
                yield chunk.data[start:end]
            start = end + 1
