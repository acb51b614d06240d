"""Splits a file into chunks of whole records, and records that are longer than a few megabytes into pieces.

A piece carries the bytes around it in its record. So it can be masked by itself, and reading may stop after any piece
and continue there after a restart: no state has to survive besides the offset. The byte before the offset shows whether
it lies inside a record.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Iterator

from sessiond.line_ends import find_end, find_last_end, is_end
from sessiond.reader import CHUNK, Chunk, pread

MAX_RECORD = 64 << 20
"""A longer record is captured but not decoded, so that memory use stays bounded."""
LONG_RECORD = 4 << 20
"""A longer record is captured in pieces of CHUNK bytes: memory and transactions don't grow with it."""
MAX_PARTS = 200_000
"""Objects and arrays in a long record that is decoded, at most. No other thread runs while a record is decoded, and
millions of objects take a second and hundreds of megabytes. A message has a few, however long its text is."""
CONTEXT = 1 << 16
"""Bytes on each side of a piece that are searched for secrets with it: twice the length of the longest secret."""


class Newlines:
    """Finds the end of a record that is longer than a chunk. This one remembers nothing; see ingest/endings.py."""

    def known(self, offset: int) -> int | None:
        """Return the offset up to which the record at `offset` has no newline; None if that is unknown."""
        return None

    def begin(self, start: int, data: bytes) -> None:
        """Begin the search for the end of the record at `start`, whose first bytes are `data`, without a newline."""

    def find(self, descriptor: int, start: int, offset: int, size: int) -> int | None:
        """Return the offset after the first newline of the record at `start`, searched from `offset` on.

        None if there is none before `size`, or if the search will go on later.
        """
        while offset < size:
            offset = skip_hole(descriptor, offset, size)
            data = pread(descriptor, min(CHUNK, size - offset), offset)
            end = find_end(descriptor, offset, data)
            if end:
                return offset + end
            offset += len(data)
        return None


def is_decodable(records: bytes) -> bool:
    """Return whether decoding some records, or a long one, takes a bounded time and memory."""
    if len(records) <= LONG_RECORD:
        return True
    return len(records) <= MAX_RECORD and records.count(b"{") + records.count(b"[") <= MAX_PARTS


def skip_hole(descriptor: int, offset: int, size: int) -> int:
    """Return the offset of the next data at or after `offset`, at most `size`. Holes of sparse files read as zeros."""
    try:
        return min(size, os.lseek(descriptor, offset, os.SEEK_DATA))
    except OSError as error:
        return size if error.errno == errno.ENXIO else offset  # ENXIO: no more data; else: holes are not supported


def read_lines(descriptor: int, offset: int, size: int, newlines: Newlines | None = None) -> Iterator[Chunk]:
    """Iterate over all bytes from `offset` on, up to the last newline before `size`: whole records, or pieces of one.

    The bytes after the last newline are a record that is still being written; they are left for later (rule 8).
    `newlines` may remember how far such a record was searched, so that it is not read again from its start.

    `offset` may be the end of a piece. The end of that record was found before its first piece was read, so it is not
    searched again, however far it is.
    """
    if _is_inside_record(descriptor, offset):
        end = yield from _read_pieces(descriptor, offset, size)
        if end is None:
            return
        offset = end
    for start, end, data in _find_records(descriptor, offset, size, newlines or Newlines()):
        if end - start <= LONG_RECORD:
            yield Chunk(offset=start, data=data or pread(descriptor, end - start, start))
        elif (yield from _read_pieces(descriptor, start, end)) is None:
            return


def read_records(
    descriptor: int, offset: int, size: int, newlines: Newlines | None = None, until: int | None = None
) -> Iterator[Chunk]:
    """Iterate over the records that begin at or after `offset` and are short enough to be decoded, as whole ones.

    Longer ones are skipped without being read. Records that begin at or after `until` may be left out.
    """
    until = size if until is None else min(until, size)
    if _is_inside_record(descriptor, offset):
        end = Newlines().find(descriptor, offset, offset, until)
        if end is None:
            return
        offset = end
    for start, end, data in _find_records(descriptor, offset, size, newlines or Newlines()):
        if start >= until:
            return
        if end - start <= MAX_RECORD:
            records = data or pread(descriptor, end - start, start)
            if is_decodable(records):
                yield Chunk(offset=start, data=records)


def _find_records(
    descriptor: int, offset: int, size: int, newlines: Newlines
) -> Iterator[tuple[int, int, bytes | None]]:
    """Iterate over (start, end, data): as many records as fit into a chunk, or a longer one, which is not read."""
    while offset < size:
        searched = newlines.known(offset)
        if searched is None:
            data = pread(descriptor, min(CHUNK, size - offset), offset)
            cut = find_last_end(descriptor, offset, data)
            if cut:
                yield offset, offset + cut, data[:cut]
                offset += cut
                continue
            newlines.begin(offset, data)
            searched = offset + len(data)
        end = newlines.find(descriptor, offset, searched, size)
        if end is None:
            return
        yield offset, end, None
        offset = end


def _is_inside_record(descriptor: int, offset: int) -> bool:
    return offset > 0 and not is_end(descriptor, offset)


def _read_pieces(descriptor: int, offset: int, size: int) -> Generator[Chunk, None, int | None]:
    """Iterate over the pieces of a long record from `offset` on. Returns: its end, or None if it has none any more."""
    while offset < size:
        begin = max(0, offset - CONTEXT)
        # In one read, so that the piece and its context are of the same moment.
        window = pread(descriptor, min(size, offset + CHUNK + CONTEXT) - begin, begin)
        before, rest = window[: offset - begin], window[offset - begin :]
        end = find_end(descriptor, offset, rest)
        if not end and len(rest) < CHUNK + CONTEXT:
            return None  # the tool has changed the record: now it has no end, as one that is still being written
        last = 0 < end <= CHUNK
        data = rest[:end] if last else rest[:CHUNK]
        yield Chunk(
            offset=offset,
            data=data,
            piece=True,
            last=last,
            before=before[find_last_end(descriptor, begin, before) :],
            after=b"" if last else rest[CHUNK : end or None],
            record=_read_record(descriptor, offset + len(data)) if last else None,
        )
        offset += len(data)
        if last:
            return offset
    return None


def _read_record(descriptor: int, end: int) -> bytes | None:
    """Return the record that ends at `end`; None if it is not decodable."""
    start = _find_start(descriptor, end)
    record = None if start is None else pread(descriptor, end - start, start)
    return record if record is not None and is_decodable(record) else None


def _find_start(descriptor: int, end: int) -> int | None:
    """Return the start of the record that ends at `end`; None if the record is too long to be decoded."""
    low, position = max(0, end - MAX_RECORD), end - 1  # without the newline that ends the record itself
    while position > low:
        start = max(low, position - CHUNK)
        previous = find_last_end(descriptor, start, pread(descriptor, position - start, start))
        if previous:
            return start + previous
        position = start
    return None if low and not is_end(descriptor, low) else low
