"""Opens a unit and iterates over its streams. Sessions are read from the tools' files through this module only.

The capture, `redact scan --all`, `show` and the conformance suite use the module, so all of them see the same streams.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from functools import cached_property
from types import MappingProxyType
from typing import Protocol, cast

import msgspec

from sessiond.database import Database, open_database
from sessiond.errors import ReadError, Torn
from sessiond.ingest.content import Content, Lines, Records
from sessiond.ingest.context import PROMPTS, Location, ReadContext
from sessiond.ingest.file_bytes import open_content
from sessiond.ingest.files import STALE_MS, SessionList, database_stat, list_folder, read_file, with_more_directories
from sessiond.ingest.history_document import DocumentLines, open_history
from sessiond.ingest.inner_paths import inner_path
from sessiond.ingest.prompt_lines import Prompt, PromptLines, read_prompts, session_records
from sessiond.ingest.unit_facts import outer_directory
from sessiond.line_ends import split_lines
from sessiond.reader import check_regular, open_regular, read_document
from sessiond.session import Entry
from sessiond.sources.base import DatabaseSource, DocumentSource, Kind, Projection
from sessiond.sources.damaged import DAMAGED, to_utf8, unread_reason
from sessiond.sources.rows import UNREADABLE, surviving_ids


class Times(Enum):
    """The place of the times of a stream's records."""

    RECORDS = auto()
    """The records have times."""
    FILE = auto()
    """The records have no times: those at which the file was created and last written are used."""
    LAST_WRITE = auto()
    """The last record has no time: the time at which its file was last written is used for it."""


class StreamSource(msgspec.Struct, frozen=True, kw_only=True):
    """One stream of a unit, as its tool has it now."""

    location: Location
    native_id: str | None
    """None: only the content has it; see `first_native_id`."""
    name: str
    thread: bool
    """Whether it belongs to the main thread, whose messages count."""
    parent: str | None
    """Native id of the parent session, where only the path or the projection has it."""
    path: str
    """Its path in the spool: that of the file, or one inside of a container (see `inner_path`)."""
    content: Content
    times: Times
    metadata: Entry | None = None
    """Metadata of the whole session; see Projection."""
    media_type: str | None = None
    """The media type of a side file; None for records."""

    def records(self) -> Iterator[bytes]:
        """Iterate over its records, without newlines. The last one may still be written (rule 8)."""
        pieces, end = list[bytes](), 0
        for chunk in self.content.chunks(0):
            end = chunk.end
            if not chunk.piece:
                yield from split_lines(chunk.data.removesuffix(b"\n"))
                continue
            pieces.append(chunk.data)
            if chunk.last:
                yield b"".join(pieces).removesuffix(b"\n")
                pieces.clear()
        if isinstance(self.content, Lines) and end < self.content.size:
            yield self.content.unfinished(end)


class OpenUnit(Protocol):
    """An open unit."""

    stat: os.stat_result
    """The state of its file, or one stat for all files of a folder or database."""
    cost: int
    """Bytes that had to be read however small the change: all of a document, a folder or a compressed file."""

    def streams(self, session: str | None = None) -> Iterator[StreamSource]:
        """Iterate over the streams, or those of one session, by its native id. Read each before asking for the next.

        Raises: ReadError, Torn in the middle of a rewrite, OSError.
        """
        ...

    def close(self) -> None:
        """Close its files."""
        ...


@contextmanager
def open_unit(location: Location, context: ReadContext) -> Iterator[OpenUnit]:
    """Open a unit for the time of a `with` block. Nothing but its stat is read before its streams are asked for.

    Raises: ReadError, Torn, OSError (FileNotFoundError among them).
    """
    unit: OpenUnit
    match location.unit.kind:
        case Kind.LINES | Kind.FILE:
            unit = _LinesUnit(location, context)
        case Kind.DATABASE:
            unit = DatabaseUnit(location, context)
        case Kind.HISTORY | Kind.TITLES:
            unit = HistoryUnit(location, context)
        case _:
            unit = _DocumentUnit(location, context)
    try:
        yield unit
    finally:
        unit.close()


class _LinesUnit:
    """A file of JSON lines, or a side file: its one stream is the file, decompressed if it is packed."""

    def __init__(self, location: Location, context: ReadContext) -> None:
        self._location, self._context = location, context
        self._descriptor = open_regular(location.root, location.below)
        self.stat, self.cost = os.fstat(self._descriptor), 0

    def streams(self, session: str | None = None) -> Iterator[StreamSource]:
        location, context, unit = self._location, self._context, self._location.unit
        if unit.packed:
            plain = context.compressed.open(self._descriptor, location.path, context.scratch, context.now_ms)
            os.close(self._descriptor)
            self._descriptor = plain
            self.cost = os.fstat(plain).st_size
        yield StreamSource(
            location=location,
            native_id=unit.native_id,
            name=unit.stream,
            thread=unit.thread,
            parent=unit.parent,
            path=location.path,
            content=open_content(unit.kind, self._descriptor, context),
            times=Times.FILE if unit.timeless else Times.RECORDS,
            media_type=unit.media_type,
        )

    def close(self) -> None:
        os.close(self._descriptor)


class HistoryUnit:
    """A history of prompts: the stream of each session is its lines. A list of titles has no stream."""

    def __init__(self, location: Location, context: ReadContext) -> None:
        self._location, self._context, self.cost = location, context, 0
        self._descriptor = open_regular(location.root, location.below)
        self.stat = os.fstat(self._descriptor)

    @cached_property
    def lines(self) -> Lines | DocumentLines:
        """The lines. Raises: Torn, ReadError."""
        return open_history(self._location, self._descriptor, self._context.digest, self._context.now_ms)

    @cached_property
    def directory(self) -> str | None:
        """The working directory of all its sessions, if the lines do not have it."""
        return outer_directory(self._location)

    def streams(self, session: str | None = None) -> Iterator[StreamSource]:
        found: dict[str, list[Prompt]] = {}
        for prompt in read_prompts(self._location.source, self.lines):
            if prompt.native_id is not None and session in (None, prompt.native_id):
                found.setdefault(prompt.native_id, []).append(prompt)
        for native_id, prompts in found.items():
            yield self.stream(native_id, PromptLines(session_records(self._location, prompts), self._context.digest))

    def stream(self, native_id: str, content: PromptLines) -> StreamSource:
        """Return the stream of a session's prompts."""
        metadata = Entry(cwd=self.directory) if self.directory else None
        projection = Projection(native_id=native_id, records=(), stream=PROMPTS, thread=False, metadata=metadata)
        return _projected(self._location, projection, content, native_id)

    def close(self) -> None:
        os.close(self._descriptor)


class _DocumentUnit:
    """A document, or a folder of small files, whose content its source projects."""

    def __init__(self, location: Location, context: ReadContext) -> None:
        self._location, self._context = location, context
        self._descriptor: int | None = None
        self._names: list[str] = []
        if location.unit.kind is Kind.FOLDER:
            self._names, self.stat = list_folder(location)
        else:
            self._descriptor = open_regular(location.root, location.below)
            self.stat = os.fstat(self._descriptor)
        self.cost = 0

    def streams(self, session: str | None = None) -> Iterator[StreamSource]:
        location, source = self._location, cast(DocumentSource, self._location.source)
        if self._descriptor is not None and self.stat.st_size == 0:
            return  # an emptied file is the first half of a rewrite; the other half is a change of its own (rule 8)
        files, self.cost = self._read(), self.stat.st_size
        # Later, no rewrite can be under way: what can't be parsed then is damaged.
        settled = self._context.now_ms - self.stat.st_mtime_ns // 1_000_000 > STALE_MS
        if self._descriptor is None:  # a file that stays empty must not stop the others
            files = {name: data for name, data in files.items() if data or not settled}
        try:
            found = source.project(with_more_directories(location, self._context.now_ms, source, files), location.unit)
            # All records are built first, so that a half-written document is noticed before anything is stored.
            streams = [(each, Records(each.records, self._context.digest)) for each in found]
        except DAMAGED as error:
            raise (ReadError if settled else Torn)(f"it can't be parsed: {error}") from error
        container = len({projection.native_id for projection, _ in streams}) > 1
        for projection, content in streams:
            if session is None or projection.native_id == session:
                yield _projected(location, projection, content, projection.native_id if container else "")

    def _read(self) -> Mapping[str, bytes]:
        files = {name: read_file(self._location, name) for name in self._names}
        return files if self._descriptor is None else {self._location.name: to_utf8(read_document(self._descriptor))}

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


class DatabaseUnit:
    """An SQLite file with many sessions. It is open from the first question to `close`."""

    def __init__(self, location: Location, context: ReadContext) -> None:
        self._location, self._context = location, context
        self._source = cast(DatabaseSource, location.source)
        check_regular(location.root, location.below)
        self.stat, self.cost = database_stat(location.path), 0
        self._database: Database | None = None

    def sessions(self, marks: Mapping[str, str] = MappingProxyType({}), *, thorough: bool = True) -> SessionList:
        """List its sessions, as far as its list can be read. Raises: Torn; ReadError if none can be read.

        `marks` are the watermarks of the last scan. `thorough`: every row may be read.
        """
        assert self._database is None
        self._database = open_database(self._location.path, marks, thorough=thorough)
        found = SessionList({}, [], complete=True)
        try:
            for native_id, mark in self._source.sessions(self._database):
                found.add(native_id, mark)
        except Torn:
            raise
        except (ReadError, *DAMAGED) as error:
            for table, column in self._source.id_columns:
                for native_id in set(surviving_ids(self._database, table, column)) - found.marks.keys():
                    found.add(native_id, UNREADABLE)
            if not found.marks:
                raise ReadError(unread_reason(error)) from error
            found.troubles.append(f"the list of its sessions can't be read to its end: {error}")
            return found._replace(complete=False)
        return found

    def streams(self, session: str | None = None) -> Iterator[StreamSource]:
        """Iterate over its streams. Raises: ReadError, Torn; for one session also what its source raises (DAMAGED)."""
        if session is not None:
            self._database = self._database or open_database(self._location.path)
            for projection in self._source.projections(self._database, session):
                content = Records(projection.records, self._context.digest)
                yield _projected(self._location, projection, content, projection.native_id)
            return
        for native_id in self.sessions().marks:
            try:
                yield from self.streams(native_id)
            except DAMAGED as error:
                raise ReadError(f"session {native_id}: it can't be parsed: {error}") from error

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()


def _projected(location: Location, projection: Projection, content: Content, native_id: str) -> StreamSource:
    times = Times.FILE if location.unit.timeless else Times.LAST_WRITE if projection.timeless else Times.RECORDS
    return StreamSource(
        location=location,
        native_id=projection.native_id,
        name=projection.stream,
        thread=projection.thread,
        parent=projection.parent,
        path=inner_path(location.path, native_id, projection.stream),
        content=content,
        times=times,
        metadata=projection.metadata,
    )
