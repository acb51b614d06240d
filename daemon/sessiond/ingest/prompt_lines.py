"""Reads a tool's history of prompts: one file of JSON lines, each of which names the session that it belongs to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from uuid import UUID

import msgspec

from sessiond.errors import ReadError, Torn
from sessiond.ingest.content import Lines, SearchResult
from sessiond.ingest.history_document import DocumentLines
from sessiond.ingest.location import Index, Location
from sessiond.line_ends import split_lines
from sessiond.reader import Chunk, Digest, Extent, open_regular, read_document
from sessiond.session import Entry, session_id
from sessiond.sources.base import Kind, Root, Source
from sessiond.sources.damaged import DAMAGED, split_records
from sessiond.sources.prompts import pasted_files

MOST_PASTED = 4 << 20
"""Bytes of a text that was pasted."""


class Prompt(msgspec.Struct, frozen=True, gc=False):
    """A record of a history. Only `typed` ones are prompts; the others are commands to the tool itself."""

    record: bytes
    """The record as the tool wrote it, and a newline: mostly a line."""
    end: int
    """The offset after its line."""
    native_id: str | None = None
    time_ms: int = 0
    directory: str | None = None
    typed: bool = False


class PromptLines:
    """The prompts of one session as a stream.

    Lines are found by their digest and not by their position: a tool that trims its history moves all of them.
    """

    raw = False
    search = SearchResult()

    def __init__(self, records: Sequence[bytes], digest: Digest, captured: Sequence[Extent] = ()) -> None:
        """`captured` are the extents of the stream. Records that are not among them follow them, each once."""
        self._known = {digest(record): record for record in records}
        before = {extent.digest for extent in captured}
        self._new = [record for key, record in self._known.items() if key not in before]
        self._start = captured[-1].end if captured else 0
        self.size = self._start + sum(map(len, self._new))

    @property
    def has_news(self) -> bool:
        """Whether there are records that were not captured yet."""
        return bool(self._new)

    def chunks(self, offset: int) -> Iterator[Chunk]:
        """Iterate over the records that were not captured yet, a chunk each."""
        position = self._start
        for record in self._new:
            if position >= offset:
                yield Chunk(offset=position, data=record)
            position += len(record)

    def records(self, offset: int, end: int | None = None, until: int | None = None) -> Iterator[Chunk]:
        """Iterate over the records that were not captured yet; `until` saves nothing, they are in memory."""
        return (chunk for chunk in self.chunks(offset) if end is None or chunk.end <= end)

    def following(self, offset: int) -> bytes:
        """Return nothing: no extent ends inside a record."""
        return b""

    def unchanged_prefix(self, extents: Sequence[Extent]) -> int:
        """Return how many bytes at the start are still in the history."""
        kept = 0
        for extent in extents:
            if extent.digest not in self._known:
                break
            kept = extent.end
        return kept

    def slice(self, extent: Extent) -> bytes | None:
        """Return the record of an extent; None if the tool has trimmed it from its history."""
        return self._known.get(extent.digest)


def read_prompts(source: Source, content: Lines | DocumentLines, start: int = 0) -> Iterator[Prompt]:
    """Iterate over the records of a history from an offset on. A line that is too long to be decoded is left out."""
    for chunk in content.chunks(start):
        data, position = chunk.decodable, chunk.offset
        if not data:
            continue
        if chunk.piece:
            position = chunk.end - len(data)
        for line in split_lines(data.removesuffix(b"\n")):
            position += len(line) + 1
            if line.strip():
                yield from _decode(source, line, position)


def _decode(source: Source, line: bytes, end: int) -> Iterator[Prompt]:
    """Iterate over the prompts on a line: mostly one.

    After a crash there may be several, of different sessions. Each session gets its own ones only, because another may
    be of a project that is excluded. What is lost of a damaged line counts as a prompt without a session.
    """
    try:
        yield _prompt(source.decode(line, {}), line, end)
    except DAMAGED:
        records, complete = split_records(line)
        for record in records:
            try:
                yield _prompt(source.decode(record, {}), record, end)
            except DAMAGED:
                complete = False
        if not complete:
            yield Prompt(line + b"\n", end, typed=True)


def _prompt(entry: Entry | None, record: bytes, end: int) -> Prompt:
    if entry is None:
        return Prompt(record + b"\n", end)
    return Prompt(record + b"\n", end, entry.native_id, entry.time_ms or 0, entry.cwd, entry.role is not None)


def session_records(location: Location, prompts: Iterable[Prompt]) -> list[bytes]:
    """Return the records of a session's prompts: each line, followed by the texts in files that were pasted into it."""
    records = []
    for prompt in prompts:
        records.append(prompt.record)
        with suppress(*DAMAGED):
            for name in pasted_files(prompt.record):
                text = _read_pasted(location, name)
                records += [] if text is None else [msgspec.json.encode({"pasted": name, "content": text}) + b"\n"]
    return records


def _read_pasted(location: Location, name: str) -> str | None:
    """Return the text of a file; None if it is missing, or too large."""
    with suppress(OSError, ReadError, Torn):
        descriptor = open_regular(location.root, name)
        try:
            return read_document(descriptor, MOST_PASTED).decode("utf-8", "replace")
        finally:
            os.close(descriptor)
    return None


class Transcripts(msgspec.Struct, frozen=True):
    """The sessions of a tool that have a transcript, whether or not it is captured."""

    identities: frozenset[UUID]
    prefixes: tuple[str, ...]
    """The beginnings of native ids, for transcripts whose path has no more of the id."""

    def has(self, identity: UUID, native_id: str) -> bool:
        """Return whether a session has a transcript, or may have one because its id begins with one of `prefixes`."""
        return identity in self.identities or native_id.startswith(self.prefixes)


def find_transcripts(roots: Iterable[tuple[Source, Root]], tool: str, scope: str) -> Transcripts:
    """Return the sessions of a tool that have a transcript below its roots.

    Only directories are read. `scope` is that of the tool's native ids; see `session_id`.
    """
    own = [(source, root) for source, root in roots if source.tool == tool and not (root.only or root.side)]
    index, found, prefixes = Index(own), set[UUID](), set[str]()
    for _, root in own:
        base = root.path.rstrip("/")
        for folder, directories, names in os.walk(base):
            level = folder.count("/") - base.count("/")
            directories[:] = [] if level >= root.depth else [name for name in directories if name not in root.skip]
            for name in names:
                for _, _, _, unit in index.units(f"{folder}/{name}"):
                    records = unit.media_type is None and unit.kind is not Kind.HISTORY
                    if records and unit.thread and unit.native_id:
                        found.add(session_id(tool, unit.native_id, scope))
                    elif records and unit.id_prefix:
                        prefixes.add(unit.id_prefix)
    return Transcripts(frozenset(found), tuple(prefixes))
