"""A stream's bytes as they stand at the source now, whatever keeps them: JSON lines or a projection."""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from sessiond import zstd
from sessiond.errors import ReadError, Torn
from sessiond.ingest.endings import FileEndings
from sessiond.reader import (
    CHUNK,
    MAX_RECORD,
    PROBE,
    Checkpoint,
    Chunk,
    Digest,
    Extent,
    pread,
    probe,
    read_lines,
    standing_prefix,
)

LARGEST = 8 << 30
"""Bytes that a packed file may unpack to, four times the longest session that was met; they go to the disk."""


class Content(Protocol):
    """The bytes of one stream."""

    size: int
    """Bytes there are; of lines, the last ones may be a record that is still being written."""

    @property
    def search(self) -> SearchResult:
        """How the search for the end of the last record went, so far."""
        ...

    def chunks(self, offset: int, end: int | None = None) -> Iterator[Chunk]:
        """Read from an offset on, at which an extent ended, to the end or to another such offset."""
        ...

    def standing(self, extents: Sequence[Extent]) -> int:
        """Count the bytes at the head that are still those that were captured."""
        ...

    def slice(self, extent: Extent) -> bytes | None:
        """Read what was captured as an extent again; None where other bytes stand there now."""
        ...


class SearchResult(NamedTuple):
    """How far the end of an unended record was searched. `more`: go on after other files had their turn; `later`:
    come back after a while; `read`: bytes that this look has read; `unended`: bytes searched without a newline."""

    more: bool = False
    later: bool = False
    read: int = 0
    unended: int = 0

    @property
    def done(self) -> bool:
        """Whether all bytes of the file were searched."""
        return not (self.more or self.later)


class _Seen:
    """What reader.probe() hashes, kept from the bytes that were read.

    A tool may rewrite its file between two reads. A probe of the file as it stands afterwards would vouch for bytes
    that nobody has captured, for ever; one of the bytes that were read differs at the next look.
    """

    def __init__(self) -> None:
        self._front, self._back, self._end = b"", b"", 0

    def start(self, front: bytes, back: bytes, end: int) -> None:
        """Begin behind bytes of which the first and the last are known."""
        self._front, self._back, self._end = front, back, end

    def add(self, offset: int, data: bytes) -> None:
        """Take in what was read next; at offset 0 it begins anew."""
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
        """Hash what reader.probe() would; None where something else was read than what lies before the offset."""
        if offset != self._end:
            return None
        if offset <= 2 * PROBE:
            return digest(self._front[:offset])
        return digest(self._front[:PROBE], self._back)


class Lines:
    """A file of JSON lines: the stream is the file."""

    def __init__(self, descriptor: int, digest: Digest, endings: FileEndings | None = None) -> None:
        self._descriptor = descriptor
        self._digest = digest
        self._head: Chunk | None = None
        self._seen = _Seen()
        self._endings = endings
        self.size = os.fstat(descriptor).st_size

    @property
    def search(self) -> SearchResult:
        """How the search for the end of the last record went, so far."""
        endings = self._endings
        if endings is None:
            return SearchResult()
        return SearchResult(endings.more, endings.later, endings.read, endings.unended)

    def chunks(self, offset: int, end: int | None = None) -> Iterator[Chunk]:
        """Read whole records. Where a look ended with its first chunk, the next look begins with the same one."""
        for chunk in self._chunks(offset, self.size if end is None else end, self._endings if end is None else None):
            if end is None:
                self._seen.add(chunk.offset, chunk.data)
            yield chunk

    def _chunks(self, offset: int, size: int, endings: FileEndings | None) -> Iterator[Chunk]:
        head = self._head
        if head is not None and head.offset == offset and head.end <= size:
            yield head
            offset = head.end
        self._head = None
        for chunk in read_lines(self._descriptor, offset, size, endings):
            # Whose session it is and where it works is asked before it is read: of most files that is all there is.
            self._head = chunk if head is None and len(chunk.data) <= CHUNK and not chunk.piece else None
            head = head or chunk
            yield chunk
            self._head = None

    def standing(self, extents: Sequence[Extent]) -> int:
        """Read all that was captured again and compare."""
        return standing_prefix(self._descriptor, self.size, extents, self._digest, self._seen.add)

    def slice(self, extent: Extent) -> bytes | None:
        """Read an extent again."""
        if extent.end > self.size:
            return None
        data = pread(self._descriptor, extent.length, extent.start)
        return data if self._digest(data) == extent.digest else None

    def grew(self, checkpoint: Checkpoint, now: os.stat_result) -> bool:
        """Tell from a few kilobytes whether the file is what it was, or that with more at its end.

        One that changed without growing was edited in location: only reading it all tells what.
        """
        if self.size < checkpoint.offset or checkpoint.edited(now):
            return False
        front = pread(self._descriptor, min(checkpoint.offset, 2 * PROBE), 0)
        back = pread(self._descriptor, min(checkpoint.offset, PROBE), max(checkpoint.offset - PROBE, 0))
        self._seen.start(front, back, checkpoint.offset)
        return self._seen.probe(checkpoint.offset, self._digest) == checkpoint.probe

    def ctime_ns(self) -> int:
        """Tell the file's ctime now: our own hard link to it moves it."""
        return os.fstat(self._descriptor).st_ctime_ns

    def probe(self, offset: int) -> bytes:
        """Hash what tells the file from another up to an offset: what was read of it, if it was just read."""
        return self._seen.probe(offset, self._digest) or probe(self._descriptor, offset, self._digest)


class Records:
    """A projection: the stream is its records, a line each."""

    search = SearchResult()

    def __init__(self, records: Iterable[bytes], digest: Digest) -> None:
        self._records = [record + b"\n" for record in records]
        self._starts = [0, *accumulate(map(len, self._records))]
        self._digest = digest
        self.size = self._starts[-1]

    def chunks(self, offset: int, end: int | None = None) -> Iterator[Chunk]:
        """Go through the records, one each; one that is larger than MAX_RECORD in pieces, as it is of lines."""
        first = bisect_left(self._starts, offset)
        for position, record in zip(self._starts[first:], self._records[first:], strict=False):
            if end is not None and position >= end:
                return
            pieces = range(0, len(record), CHUNK) if len(record) > MAX_RECORD else range(1)
            if len(pieces) == 1:
                yield Chunk(offset=position, data=record)
            else:
                for start in pieces:
                    last = start == pieces[-1]
                    yield Chunk(offset=position + start, data=record[start : start + CHUNK], piece=True, last=last)

    def standing(self, extents: Sequence[Extent]) -> int:
        """Compare digests, record by record."""
        kept = 0
        for extent, chunk in zip(extents, self.chunks(0), strict=False):
            if self._digest(chunk.data) != extent.digest:
                break
            if chunk.last:  # not between two pieces of a long record
                kept = extent.end
        return kept

    def slice(self, extent: Extent) -> bytes | None:
        """Find the record of an extent, or the piece of one."""
        index = bisect_right(self._starts, extent.start) - 1
        if index >= len(self._records):
            return None
        start = extent.start - self._starts[index]
        data = self._records[index][start : start + extent.length]
        return data if self._digest(data) == extent.digest else None


def unpack(descriptor: int, directory: str, largest: int = LARGEST) -> int:
    """Unpack a zstd file of a tool's into an unnamed file of ours (it may be gigabytes); return its descriptor.

    Raises: Torn where the frame is not whole yet, ReadError where more than `largest` bytes would come out, or
        more than half of what is free on the disk: the spool is on it, too.
    """
    disk = os.statvfs(directory)
    most = min(largest, disk.f_bavail * disk.f_frsize // 2)
    if zstd.declared(os.pread(descriptor, zstd.HEAD, 0)) > most:
        raise ReadError(f"not read: it unpacks to more than {most} bytes")
    with tempfile.TemporaryFile(dir=directory) as plain:
        source = os.fdopen(os.dup(descriptor), "rb")
        with source:
            try:
                for block in zstd.decompress_stream(iter(lambda: source.read(CHUNK), b""), most):
                    plain.write(block)
            except zstd.Oversized as error:
                raise ReadError(f"not read: it unpacks to more than {most} bytes") from error
            except zstd.Undecodable as error:
                raise Torn(f"the file can't be unpacked: {error}") from error
        plain.flush()
        return os.dup(plain.fileno())
