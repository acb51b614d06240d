"""The digests of what the endpoint acknowledged of streams, as states that the next push continues.

Only the last streams are kept: a stream whose state is missing is pushed without a digest.
"""

from __future__ import annotations

import sqlite3

from sessiond.endpoint.stream_digest import StreamDigest

KEPT = 4000
"""Streams whose states are kept. Each takes up to a kilobyte."""


class PushedDigests:
    """Digest states by stream. Writing methods run inside `Spool.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def find(self, stream: int) -> tuple[int, StreamDigest] | None:
        """Return the generation and the digest of what the endpoint acknowledged of it; None if it is not known."""
        row = self._db.execute(
            "SELECT generation, length, chain, rest FROM pushed_digest WHERE stream = ?", (stream,)
        ).fetchone()
        return None if row is None else (row[0], StreamDigest(*row[1:]))

    def put(self, stream: int, generation: int, digest: StreamDigest) -> None:
        """Store the digest of what the endpoint acknowledged of a generation."""
        number = self._db.execute(
            "INSERT OR REPLACE INTO pushed_digest (stream, generation, length, chain, rest) VALUES (?, ?, ?, ?, ?)",
            (stream, generation, digest.length, digest.chain, digest.rest),
        ).lastrowid
        if number is not None and number % 100 == 0:
            self._db.execute("DELETE FROM pushed_digest WHERE number <= ?", (number - KEPT,))
