"""Reads the bytes of streams, from the rows of the store and from objects.

No transaction is open while an object is read: a slow object store must not hold back the database. Stored bytes of a
generation never change, so bytes that are read after the transaction are still those that were found in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from sessiond import zstd
from sessiond.endpoint.server import streams
from sessiond.endpoint.server.blobs import BlobMissing, Blobs
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.stream_state import NotComparable
from sessiond.endpoint.server.streams import Damaged, Location, Piece
from sessiond.errors import StateError

MAX_CHUNK = 64 << 20
"""Decoded bytes of the largest chunk that is read. A segment is far smaller, so a larger chunk is damaged."""
TOGETHER = 4 << 20
"""Bytes of an object that are requested at once, for chunks that follow each other in it."""


def read(store: Store, stream: int, generation: int, start: int, end: int) -> bytes:
    """Return the bytes [start, end) of a generation, which must have them.

    Raises:
        BlobsUnavailable: the object store can't be read now.
        Damaged: these bytes can't be read any more.
        StateError: the store can't be read.
    """
    return b"".join(parts(store, stream, generation, start, end))


def parts(store: Store, stream: int, generation: int, start: int, end: int) -> Iterator[bytes]:
    """Iterate over the bytes [start, end) of a generation, chunk by chunk. Raises: see `read`."""
    for piece, frame in _frames(store, stream, generation, start, end):
        yield decode(piece, frame)


class Comparer:
    """Compares appends with the stored bytes. It keeps the last chunk: a repeated push has many lines of one chunk.

    `meter` is called with the decoded length of each chunk that is decoded: a few bytes may be in a large chunk.
    """

    def __init__(self, store: Store, meter: Callable[[int], None]) -> None:
        self._store, self._meter = store, meter
        self._last: tuple[bytes | Location, bytes] = b"", b""

    def same(self, stream: int, generation: int, start: int, data: bytes) -> bool:
        """Return whether a generation has these bytes from `start` on; damaged bytes are others. Raises: see `read`."""
        with suppress(Damaged):
            try:
                return self._same(stream, generation, start, data)
            except BlobMissing:  # its session may have been erased meanwhile, and then the tables no longer name it
                return self._same(stream, generation, start, data)
        return False

    def _same(self, stream: int, generation: int, start: int, data: bytes) -> bool:
        with self._store.read() as db:
            found = streams.pieces(db, stream, generation, start, start + len(data))
        at = 0
        for piece in found:
            part = self._decoded(piece)[piece.first : piece.stop]
            if data[at : at + len(part)] != part:
                return False
            at += len(part)
        return True

    def _decoded(self, piece: Piece) -> bytes:
        if self._last[0] != piece.stored:
            self._meter(piece.length)
            ((_, frame),) = fetch(self._store.blobs, [piece])
            self._last = piece.stored, unpack(frame, piece.length)
        return self._last[1]


def same_in_rows(db: Database, stream: int, generation: int, start: int, data: bytes) -> bool:
    """Return whether a generation has these bytes from `start` on, in a transaction; damaged bytes are others.

    Raises:
        NotComparable: some of the bytes are in an object.
    """
    at = 0
    try:
        for piece in streams.pieces(db, stream, generation, start, start + len(data)):
            if isinstance(piece.stored, Location):
                raise NotComparable
            part = decode(piece, piece.stored)
            if data[at : at + len(part)] != part:
                return False
            at += len(part)
    except Damaged:
        return False
    return True


def _frames(store: Store, stream: int, generation: int, start: int, end: int) -> Iterator[tuple[Piece, bytes]]:
    """Iterate over the pieces of the bytes [start, end) with their frames.

    If an object is missing, its session may have been erased meanwhile. Then the tables no longer name it.
    """
    for turn in range(2):
        with store.read() as db:
            found = streams.pieces(db, stream, generation, start, end)
        try:
            for piece, frame in fetch(store.blobs, found):
                yield piece, frame
                start += piece.stop - piece.first
            return
        except BlobMissing:
            if turn:
                raise


def fetch(blobs: Blobs | None, found: Iterable[Piece]) -> Iterator[tuple[Piece, bytes]]:
    """Iterate over pieces with their frames. Those that follow each other in an object are read with one request."""
    group: list[tuple[Piece, Location]] = []
    for piece in found:
        if isinstance(piece.stored, Location):
            if group and not _follows(group, piece.stored):
                yield from _fetch_group(blobs, group)
                group = []
            group.append((piece, piece.stored))
            continue
        yield from _fetch_group(blobs, group)
        group = []
        yield piece, piece.stored
    yield from _fetch_group(blobs, group)


def _follows(group: list[tuple[Piece, Location]], then: Location) -> bool:
    first, last = group[0][1], group[-1][1]
    return (then.name, then.at) == (last.name, last.at + last.size) and then.at + then.size - first.at <= TOGETHER


def _fetch_group(blobs: Blobs | None, group: list[tuple[Piece, Location]]) -> Iterator[tuple[Piece, bytes]]:
    if not group:
        return
    if blobs is None:
        raise StateError("the bytes are in an object store", hint="start the endpoint with its --blobs")
    first, last = group[0][1], group[-1][1]
    data = blobs.get(first.name, first.at, last.at + last.size)
    for piece, location in group:
        at = location.at - first.at
        yield piece, data[at : at + location.size]


def decode(piece: Piece, frame: bytes) -> bytes:
    """Return the bytes of a piece. Raises: Damaged."""
    return unpack(frame, piece.length)[piece.first : piece.stop]


def unpack(frame: bytes, length: int) -> bytes:
    """Return the `length` bytes of a stored chunk. Raises: Damaged."""
    try:
        plain = zstd.decompress(frame, MAX_CHUNK)
    except zstd.Undecodable as error:
        raise Damaged(f"a stored chunk can't be decompressed: {error}") from error
    if len(plain) != length:
        raise Damaged(f"a stored chunk has {len(plain)} bytes instead of {length}")
    return plain
