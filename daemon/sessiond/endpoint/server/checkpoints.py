"""Stored states of stream digests, so that the digest of a long stream costs no more than that of its last bytes.

A checkpoint is the chain of a stream digest after some bytes of a generation. It belongs to the generation that has
the last of these bytes as its own, so generations that share it find it too. The endpoint computes all of them from
bytes that it has; none is what a client claimed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from sessiond.endpoint.server import streams
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.digests import APART, Checkpoint, Digests, Owner
from sessiond.endpoint.server.reading import decode
from sessiond.endpoint.server.streams import Damaged, Location
from sessiond.endpoint.stream_digest import StreamDigest

RECALLED = 1 << 20
"""Bytes behind the last checkpoint that are read in a transaction, at most."""
RECALL_SECONDS = 0.01
"""CPU seconds of a transaction in which digests are read that are not in memory, for all of its pushes."""


def add(db: Database, stream: int, generation: int, passed: Iterable[Checkpoint]) -> None:
    """Store checkpoints of bytes that a generation has as its own."""
    db.executemany(
        "INSERT INTO checkpoints (stream, generation, length, chain) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(stream, generation, length, chain) for length, chain in passed],
    )


def nearest(db: Database, stream: int, owners: Sequence[Owner]) -> StreamDigest:
    """Return the digest of the longest prefix with a checkpoint among these owners (`streams.owners`).

    Each owner shares fewer bytes than the one before, and its own bytes are before those of that one.
    """
    for generation, shared in owners:
        if shared < APART:
            break
        row = db.execute(
            "SELECT length, chain FROM checkpoints WHERE stream = ? AND generation = ? AND length <= ?"
            " ORDER BY length DESC LIMIT 1",
            (stream, generation, shared),
        ).fetchone()
        if row is not None:
            return StreamDigest(int(row[0]), bytes(row[1]))
    return StreamDigest()


class Recall:
    """Finds the digests of generations during one transaction: in memory, or else from the last checkpoint on."""

    def __init__(self, db: Database, known: Digests[StreamDigest]) -> None:
        self._db, self._known = db, known
        self._left = RECALL_SECONDS

    def digest(self, stream: int, generation: int, length: int) -> StreamDigest | None:
        """Return the digest of a generation of this length; None if it would take long to find."""
        found = self._known.at(stream, generation, length)
        if found is not None or self._left <= 0:
            return found
        begun = time.thread_time()
        try:
            return self._read(stream, generation, length)
        finally:
            self._left -= time.thread_time() - begun

    def _read(self, stream: int, generation: int, length: int) -> StreamDigest | None:
        owners = streams.owners(self._db, stream, generation, length)
        _, running = self._known.nearest(stream, owners)
        stored = nearest(self._db, stream, owners)
        if stored.length > running.length:
            running = stored
        if length - running.length > RECALLED:
            return None
        try:
            pieces = streams.pieces(self._db, stream, generation, running.length, length)
            for piece in pieces if running.length < length else ():
                if isinstance(piece.stored, Location):
                    return None  # an object is not read in a transaction
                running.update(decode(piece, piece.stored))
        except Damaged:
            return None  # the digester answers
        return running
