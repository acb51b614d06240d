"""Moves the chunks of sessions from the database to the object store.

An object has chunks of one session only, so that erasing a session deletes whole objects. It is written first, and the
rows that refer to it are committed second. Whatever fails in between, the chunks are still in the database.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sessiond import zstd
from sessiond.clock import now_ms
from sessiond.endpoint.server import objects
from sessiond.endpoint.server.blobs import Blobs
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.packer import CHUNK
from sessiond.endpoint.server.reading import unpack
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.stream_state import SessionKey
from sessiond.endpoint.server.streams import Damaged

SMALLEST = 16 << 10
"""Bytes of frames in the database from which on they are worth an object. The index `generations_waiting` has it."""
LARGE = 1 << 20
"""Bytes of frames that are moved soon."""
OBJECT = 8 << 20
"""Bytes of frames in an object, as stored before. The memory that the packer uses depends on it."""
PART = 1 << 20
"""Decoded bytes of a chunk in an object."""
ROWS = 256
"""Chunks that one transaction reads."""


class Run(msgspec.Struct):
    """Chunks of a generation that follow each other, from `start` to `end`, and will be moved."""

    stream: int
    generation: int
    start: int
    end: int
    rows: int = 0
    stored: int = 0
    """The number of chunks, and the bytes of their frames."""


class Part(msgspec.Struct, frozen=True):
    """A chunk in the new object."""

    stream: int
    generation: int
    start: int
    length: int
    at: int
    size: int


class Draft:
    """An object that is being made."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.parts: list[Part] = []
        self.stored = 0
        self._body: list[bytes] = []
        self._size = 0
        self._plain = bytearray()
        self._from = 0

    def add(self, stream: int, generation: int, start: int, length: int, frame: bytes) -> None:
        """Add a chunk. Chunks of a generation are added in order."""
        run = self.runs[-1] if self.runs else None
        if run is None or (run.stream, run.generation, run.end) != (stream, generation, start):
            self._finish()
            run = Run(stream, generation, start, start)
            self.runs.append(run)
            self._from = start
        try:
            self._plain += unpack(frame, length)
        except Damaged:  # it is moved as it is, and does not hold up other sessions
            self._finish()
            self._append(length, frame)
        run.end += length
        run.rows += 1
        run.stored += len(frame)
        self.stored += len(frame)
        while len(self._plain) >= PART:
            self._cut(PART)

    def body(self) -> bytes:
        """Return the bytes of the object."""
        self._finish()
        return b"".join(self._body)

    def _finish(self) -> None:
        if self._plain:
            self._cut(len(self._plain))

    def _cut(self, length: int) -> None:
        frame = zstd.compress(bytes(self._plain[:length]))
        del self._plain[:length]
        self._append(length, frame)

    def _append(self, length: int, frame: bytes) -> None:
        run = self.runs[-1]
        self.parts.append(Part(run.stream, run.generation, self._from, length, self._size, len(frame)))
        self._body.append(frame)
        self._size += len(frame)
        self._from += length


def offload(store: Store, least: int = SMALLEST) -> bool:
    """Move chunks of a session that has a generation with `least` bytes of frames. Return whether any were moved.

    Raises:
        BlobsUnavailable: the object store does not answer. The chunks stay in the database.
        StateError: the store can't be read or written, or the object store is full. The chunks stay as well.
    """
    blobs = store.blobs
    assert blobs is not None
    with store.read() as db:
        key = _candidate(db, least)
    if key is None:
        return False
    draft = Draft()
    for row in _rows(store, key):
        draft.add(*row)
    return bool(draft.runs) and _move(store, blobs, key, draft)


def _candidate(db: Database, least: int) -> SessionKey | None:
    row = db.execute(
        "SELECT user, machine, session FROM generations JOIN streams ON streams.stream = generations.stream"
        f" WHERE waiting >= {SMALLEST} AND waiting >= ? AND NOT EXISTS (SELECT 1 FROM objects"
        " WHERE objects.user = streams.user AND objects.machine = streams.machine"
        " AND objects.session = streams.session AND objects.state = 0) ORDER BY waiting DESC LIMIT 1",
        (least,),
    ).fetchone()
    return None if row is None else tuple(row)


def _rows(store: Store, key: SessionKey) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Iterate over the chunks of a session that are in the database, up to OBJECT bytes of frames."""
    with store.read() as db:
        generations = db.execute(
            "SELECT streams.stream, generation FROM streams JOIN generations ON generations.stream = streams.stream"
            " WHERE user = ? AND machine = ? AND session = ? AND waiting > 0 ORDER BY streams.stream, generation",
            key,
        ).fetchall()
    total = 0
    for stream, generation in generations:
        after = -1
        while True:
            with store.read() as db:
                rows = db.execute(
                    "SELECT start, length, frame FROM chunks WHERE stream = ? AND generation = ? AND start > ?"
                    " AND object IS NULL ORDER BY start LIMIT ?",
                    (stream, generation, after, ROWS),
                ).fetchall()
            for start, length, frame in rows:
                yield stream, generation, start, length, bytes(frame)
                total += len(frame)
                if total >= OBJECT:
                    return
                after = start
            if len(rows) < ROWS:
                break


def _move(store: Store, blobs: Blobs, key: SessionKey, draft: Draft) -> bool:
    body = draft.body()
    name = objects.new_name(key[0], body)
    with store.write() as db:
        store.lock_chunks(db)
        # An erasure from here on finds the object and deletes it. If the session was erased before, nothing is written.
        if not _is_unchanged(db, draft) or not objects.begin(db, key, name, len(body), now_ms()):
            return False  # or another process packs or moves this session
    moved = False
    try:
        blobs.put(name, body)
        with store.write() as db:
            store.lock_chunks(db)
            moved = _commit(db, name, draft)
    finally:
        if not moved:  # the process may also be killed here: then the object stays PENDING until its lease ends
            with store.write() as db:
                objects.abandon(db, name)
    return moved


def _commit(db: Database, name: str, draft: Draft) -> bool:
    """Replace the chunks by references to the object. Return False if they changed, and change nothing then."""
    if not _is_unchanged(db, draft):
        return False
    number = objects.commit(db, name)
    if number is None:
        return False  # the session was erased, and with it this object
    for run in draft.runs:
        _remove(db, run)
    db.executemany(
        "INSERT INTO chunks (stream, generation, start, length, frame, object, at, size)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (part.stream, part.generation, part.start, part.length, b"", number, part.at, part.size)
            for part in draft.parts
        ],
    )
    return True


def _is_unchanged(db: Database, draft: Draft) -> bool:
    """Return whether the chunks are still there. Until the transaction ends, only it replaces or erases chunks."""
    for run in draft.runs:
        found = db.execute(
            "SELECT count(*), coalesce(sum(length), 0) FROM chunks WHERE stream = ? AND generation = ? AND start >= ?"
            " AND start < ? AND object IS NULL",
            (run.stream, run.generation, run.start, run.end),
        ).fetchone()
        if tuple(found) != (run.rows, run.end - run.start):
            return False  # the session was erased, or another process has packed it
    return True


def _remove(db: Database, run: Run) -> None:
    """Remove the rows of chunks that are in the object now. They need no packing any more."""
    (packed,) = db.execute(
        "SELECT packed FROM generations WHERE stream = ? AND generation = ?", (run.stream, run.generation)
    ).fetchone()
    removed = db.execute(
        "DELETE FROM chunks WHERE stream = ? AND generation = ? AND start >= ? AND start < ? AND object IS NULL"
        " RETURNING start, length",
        (run.stream, run.generation, run.start, run.end),
    ).fetchall()
    small = sum(start >= packed and length < CHUNK for start, length in removed)
    db.execute(
        "UPDATE generations SET waiting = waiting - ?, tails = tails - ?, packed = ?"
        " WHERE stream = ? AND generation = ?",
        (run.stored, small, max(packed, run.end), run.stream, run.generation),
    )
