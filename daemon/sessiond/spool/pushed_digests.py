"""The digests of what the endpoint acknowledged of streams, as states that the next push continues.

A state has the last bytes of its stream, so only the last streams keep theirs. Of the others the digest is left, which
can be compared but not continued: such a stream is pushed without a digest.
"""

from __future__ import annotations

import sqlite3
from hashlib import sha256

from sessiond.endpoint.stream_digest import StreamDigest
from sessiond.endpoint.wire import RemotePosition

KEPT = 4000
"""Streams whose states are kept. Each takes up to a kilobyte, and a digest alone 32 bytes."""
_EACH = 100
"""States that are reduced to their digests at once."""


class PushedDigests:
    """Digests and their states, by stream. Writing methods run inside `Spool.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def find(self, stream: int) -> tuple[int, StreamDigest] | None:
        """Return the generation and the digest of what the endpoint acknowledged of it; None if it has no state."""
        row = self._db.execute(
            "SELECT generation, length, chain, rest FROM pushed_digest WHERE stream = ? AND digest IS NULL", (stream,)
        ).fetchone()
        return None if row is None else (row[0], StreamDigest(*row[1:]))

    def digest(self, stream: int, generation: int, length: int) -> str | None:
        """Return the digest of the first `length` bytes of a generation, in hex; None if it is not known."""
        row = self._db.execute(
            "SELECT chain, rest, digest FROM pushed_digest WHERE stream = ? AND generation = ? AND length = ?",
            (stream, generation, length),
        ).fetchone()
        return None if row is None else (row[2] or _digest(row[0], row[1])).hex()

    def put(self, stream: int, generation: int, digest: StreamDigest) -> None:
        """Store the digest of what the endpoint acknowledged of a generation."""
        number = self._db.execute(
            "INSERT OR REPLACE INTO pushed_digest (stream, generation, length, chain, rest) VALUES (?, ?, ?, ?, ?)",
            (stream, generation, digest.length, digest.chain, digest.rest),
        ).lastrowid
        if number is not None and number % _EACH == 0:
            self._reduce(number - KEPT - _EACH, number - KEPT)

    def learn(self, stream: int, generation: int, digest: StreamDigest) -> None:
        """Store a digest that was read from the endpoint. It takes no state from a stream that was pushed lately."""
        self._db.execute(
            "INSERT OR REPLACE INTO pushed_digest (number, stream, generation, length, chain, rest, digest)"
            " SELECT coalesce(min(number), 0) - 1, ?, ?, ?, x'', x'', ? FROM pushed_digest",
            (stream, generation, digest.length, bytes.fromhex(digest.hexdigest())),
        )

    def contradicts(self, stream: int, held: RemotePosition) -> bool:
        """Return whether an endpoint that has as many bytes states another digest. Drop ours unless it is the same."""
        pushed = self.digest(stream, held.generation or 0, held.length)
        if pushed is None or pushed != held.after:
            self.drop(stream)
        return pushed is not None and held.after is not None and pushed != held.after

    def reduce_all(self) -> None:
        """Remove the bytes of streams that states have; the digests stay."""
        self._reduce(0, 1 << 62)

    def drop(self, stream: int) -> None:
        """Remove the digest of a stream."""
        self._db.execute("DELETE FROM pushed_digest WHERE stream = ?", (stream,))

    def _reduce(self, after: int, until: int) -> None:
        rows = self._db.execute(
            "SELECT chain, rest, number FROM pushed_digest WHERE number > ? AND number <= ? AND digest IS NULL",
            (after, until),
        ).fetchall()
        self._db.executemany(
            "UPDATE pushed_digest SET digest = ?, chain = x'', rest = x'' WHERE number = ?",
            [(_digest(chain, rest), number) for chain, rest, number in rows],
        )


def _digest(chain: bytes, rest: bytes) -> bytes:
    return sha256(chain + rest).digest()
