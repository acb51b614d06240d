"""The bytes of a stream as its tool has them now: a file of lines or the records of a projection."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple, Protocol

from sessiond.ingest.endings import FileEndings
from sessiond.ingest.line_reader import (
    CONTEXT,
    LONG_RECORD,
    MAX_RECORD,
    Newlines,
    is_decodable,
    read_lines,
    read_records,
)
from sessiond.line_ends import find_end
from sessiond.reader import CHUNK, PROBE, Checkpoint, Chunk, Digest, Extent, pread, probe, unchanged_prefix


class Content(Protocol):
    """The bytes of one stream."""

    raw: bool
    """Whether they are no records, so that a newline ends nothing."""
    size: int
    """Number of bytes. The last ones of a file of lines may be a record that is still being written."""

    @property
    def search(self) -> SearchResult:
        """The search for the end of the last record, so far."""
        ...

    def chunks(self, offset: int) -> Iterator[Chunk]:
        """Iterate over all bytes from `offset` on, which must be the end of an extent: whole records, or pieces."""
        ...

    def records(self, offset: int, end: int | None = None, until: int | None = None) -> Iterator[Chunk]:
        """Iterate over what can be decoded from `offset` to `end` or to the end. Both must be ends of extents.

        Chunks have whole records. A record that is too long is skipped, and so is the rest of one around `offset`.
        Records that begin at or after `until` may be left out.
        """
        ...

    def following(self, offset: int) -> bytes:
        """Return up to CONTEXT bytes after the end of an extent inside a record, at most to the end of the record."""
        ...

    def unchanged_prefix(self, extents: Sequence[Extent]) -> int:
        """Return how many bytes at the start are still those that were captured."""
        ...

    def slice(self, extent: Extent) -> bytes | None:
        """Return the bytes of an extent; None if they have changed since they were captured."""
        ...


class SearchResult(NamedTuple):
    """How far the search for the end of a long record went in this scan."""

    more: bool = False
    """Whether to go on after other files had their turn."""
    later: bool = False
    """Whether to try again after a while."""
    read: int = 0
    """Bytes read by this scan."""
    unended: int = 0
    """Bytes searched without finding a newline."""

    @property
    def done(self) -> bool:
        """Whether all bytes of the file were searched."""
        return not (self.more or self.later)


class _ReadBytes:
    """Keeps the bytes that reader.probe() hashes, from what was read.

    A tool may rewrite its file between two reads. A probe of the file afterwards would then match content that was
    never captured, and it would never be read. A probe of the bytes that were read differs in the next scan.
    """

    def __init__(self) -> None:
        self._front, self._back, self._end = b"", b"", 0

    def start(self, front: bytes, back: bytes, end: int) -> None:
        """Begin at `end`, after bytes of which the first and the last are given."""
        self._front, self._back, self._end = front, back, end

    def add(self, offset: int, data: bytes) -> None:
        """Add what was read next. Offset 0 starts again."""
        if offset == 0:
            self.start(b"", b"", 0)
        if offset != self._end:
            self._end = -1
            return
        if offset < 2 * PROBE:
            self._front = (self._front + data[: 2 * PROBE])[: 2 * PROBE]
        self._back = data[-PROBE:] if len(data) >= PROBE else (self._back + data)[-PROBE:]
        self._end = offset + len(data)

    def probe(self, offset: int, digest: Digest) -> bytes | None:
        """Return the hash of reader.probe(); None if the bytes before the offset are not those that were read."""
        if offset != self._end:
            return None
        if offset <= 2 * PROBE:
            return digest(self._front[:offset])
        return digest(self._front[:PROBE], self._back)


_Read = Callable[[int, int, int, Newlines | None], Iterator[Chunk]]


class Lines:
    """A file of JSON lines: the stream is the file."""

    raw = False

    def __init__(self, descriptor: int, digest: Digest, endings: FileEndings | None = None) -> None:
        self._descriptor = descriptor
        self._digest = digest
        self._head: Chunk | None = None
        self._read_bytes = _ReadBytes()
        self._endings = endings
        self.size = os.fstat(descriptor).st_size

    @property
    def search(self) -> SearchResult:
        """The search for the end of the last record, so far."""
        endings = self._endings
        if endings is None:
            return SearchResult()
        return SearchResult(endings.more, endings.later, endings.read, endings.unended)

    def chunks(self, offset: int) -> Iterator[Chunk]:
        """Iterate over all bytes. If a reader stopped after the first chunk, the next one gets the same chunk."""
        for chunk in self._read(read_lines, offset, self.size, self._endings):
            self._read_bytes.add(chunk.offset, chunk.data)
            yield chunk

    def records(self, offset: int, end: int | None = None, until: int | None = None) -> Iterator[Chunk]:
        """Iterate over whole records."""
        size, endings = (self.size, self._endings) if end is None else (end, None)
        return self._read(partial(read_records, until=until), offset, size, endings)

    def _read(self, read: _Read, offset: int, size: int, endings: FileEndings | None) -> Iterator[Chunk]:
        head = self._head
        if head is not None and head.offset == offset and head.end <= size:
            yield head
            offset = head.end
        self._head = None
        for chunk in read(self._descriptor, offset, size, endings):
            # The session id and the working directory are read from the first chunk before the file is captured. Keep
            # that chunk, which is the whole of most files, so that it is not read twice.
            self._head = chunk if head is None and len(chunk.data) <= CHUNK and not chunk.piece else None
            head = head or chunk
            yield chunk
            self._head = None

    def unfinished(self, offset: int) -> bytes:
        """Return the record at `offset`, which has no newline yet: up to MAX_RECORD bytes of it."""
        return pread(self._descriptor, min(MAX_RECORD, self.size - offset), offset)

    def following(self, offset: int) -> bytes:
        """Return the bytes of a record after one of its pieces."""
        data = pread(self._descriptor, min(CONTEXT, self.size - offset), offset)
        return data[: find_end(self._descriptor, offset, data) or None]

    def unchanged_prefix(self, extents: Sequence[Extent]) -> int:
        """Return how many bytes are unchanged: read everything that was captured and compare the digests."""
        return unchanged_prefix(self._descriptor, self.size, extents, self._digest, self._read_bytes.add)

    def slice(self, extent: Extent) -> bytes | None:
        """Return the bytes of an extent; None if they have changed."""
        if extent.end > self.size:
            return None
        data = pread(self._descriptor, extent.length, extent.start)
        return data if self._digest(data) == extent.digest else None

    def grew(self, checkpoint: Checkpoint, now: os.stat_result) -> bool:
        """Return whether the file is unchanged up to the checkpoint, judged by a few kilobytes.

        A file that changed without growing was edited in place. Then the answer is False, and all of it is compared.
        """
        if self.size < checkpoint.offset or checkpoint.edited(now):
            return False
        front = pread(self._descriptor, min(checkpoint.offset, 2 * PROBE), 0)
        back = pread(self._descriptor, min(checkpoint.offset, PROBE), max(checkpoint.offset - PROBE, 0))
        self._read_bytes.start(front, back, checkpoint.offset)
        return self._read_bytes.probe(checkpoint.offset, self._digest) == checkpoint.probe

    def ctime_ns(self) -> int:
        """Return the file's ctime now: our own hard link to it changes it."""
        return os.fstat(self._descriptor).st_ctime_ns

    def probe(self, offset: int) -> bytes:
        """Return the probe at `offset` (see reader.probe()), of the bytes that were read if possible."""
        return self._read_bytes.probe(offset, self._digest) or probe(self._descriptor, offset, self._digest)


class Records:
    """A projection: the stream is its records, one per line."""

    raw = False
    search = SearchResult()

    def __init__(self, records: Iterable[bytes], digest: Digest) -> None:
        self._records = [record + b"\n" for record in records]
        self._starts = [0, *accumulate(map(len, self._records))]
        self._digest = digest
        self.size = self._starts[-1]

    def chunks(self, offset: int) -> Iterator[Chunk]:
        """Iterate over the records, a chunk each. Long ones come in pieces, as with lines."""
        first = bisect_right(self._starts, offset) - 1
        for position, record in zip(self._starts[first:], self._records[first:], strict=False):
            if position == offset and len(record) <= LONG_RECORD:
                yield Chunk(offset=position, data=record)
            else:
                yield from self._pieces(position, record, offset - position)
            offset = position + len(record)

    def _pieces(self, position: int, record: bytes, start: int) -> Iterator[Chunk]:
        whole = record if is_decodable(record) else None
        for begin in range(start, len(record), CHUNK):
            end = begin + CHUNK
            last = end >= len(record)
            yield Chunk(
                offset=position + begin,
                data=record[begin:end],
                piece=True,
                last=last,
                before=record[max(0, begin - CONTEXT) : begin],
                after=record[end : end + CONTEXT],
                record=whole if last else None,
            )

    def records(self, offset: int, end: int | None = None, until: int | None = None) -> Iterator[Chunk]:
        """Iterate over the records, a chunk each. They are in memory, so `until` saves nothing."""
        first = bisect_left(self._starts, offset)
        for position, record in zip(self._starts[first:], self._records[first:], strict=False):
            if end is not None and position >= end:
                return
            if is_decodable(record):
                yield Chunk(offset=position, data=record)

    def following(self, offset: int) -> bytes:
        """Return the bytes of a record after one of its pieces."""
        index = bisect_right(self._starts, offset) - 1
        start = offset - self._starts[index]
        return self._records[index][start : start + CONTEXT] if index < len(self._records) else b""

    def unchanged_prefix(self, extents: Sequence[Extent]) -> int:
        """Return how many bytes are unchanged: compare the digests extent by extent."""
        kept = matched = 0
        for extent in extents:
            data = self.slice(extent)
            if data is None:
                return kept
            matched = extent.end
            if data.endswith(b"\n"):  # a new generation never begins between two pieces of a record
                kept = matched
        return matched

    def slice(self, extent: Extent) -> bytes | None:
        """Return the record of an extent, or the piece of one; None if it has changed."""
        index = bisect_right(self._starts, extent.start) - 1
        if index >= len(self._records):
            return None
        start = extent.start - self._starts[index]
        data = self._records[index][start : start + extent.length]
        return data if self._digest(data) == extent.digest else None
