"""Streams of which the endpoint may have bytes that this spool never pushed there, and whose files are gone.

Their numbers and lengths prove nothing, so they count as waiting until the endpoint's bytes were compared.
"""

from __future__ import annotations

import sqlite3
from uuid import UUID

import msgspec

from sessiond.reader import Extent

UNCERTAIN = b""
"""The digest of an extent that an earlier version queued, which did not store whether something in it was masked."""


class Unconfirmed(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of a stream that are to be compared."""

    stream: int
    session: UUID
    name: str
    generation: int
    length: int
    """The first bytes of the generation that the endpoint may have."""


class Confirmations:
    """Finds unconfirmed streams, and stores what the comparison shows."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def next(self) -> Unconfirmed | None:
        """Return the stream that is compared next, the newest first; None if there is none."""
        row = self._db.execute(
            "SELECT stream.id, uuid, name, generation, unconfirmed FROM stream JOIN session"
            " ON session.id = stream.session WHERE unconfirmed > 0 AND known AND held IS NULL AND skipped IS NULL"
            " AND expired_ms IS NULL"
            " ORDER BY rank DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        return Unconfirmed(stream=row[0], session=UUID(row[1]), name=row[2], generation=row[3], length=row[4])

    def queued(self, stream: int, start: int = 0, *, uncertain: bool = False) -> list[Extent]:
        """Return the extents of a stream from `start` with the digests of what was queued of them, in their order.

        `uncertain`: where it is not known whether something was masked, the digest is UNCERTAIN. Otherwise it is that
        of the unmasked bytes.
        """
        rows = self._db.execute(
            "SELECT start, length, iif(masked = ? AND NOT ?, digest, coalesce(masked, digest)) FROM extent"
            " WHERE stream = ? AND start >= ? ORDER BY start",
            (UNCERTAIN, uncertain, stream, start),
        )
        return [Extent(start=row[0], length=row[1], digest=row[2]) for row in rows]

    def only_copies(self) -> set[int]:
        """Return the streams that were captured and whose files are all gone."""
        rows = self._db.execute(
            "SELECT stream FROM file WHERE stream IS NOT NULL GROUP BY stream HAVING count(gone_ms) = count(*)"
        )
        return {row[0] for row in rows}

    def settle(self, compared: Unconfirmed, equal: int) -> None:
        """Store that the endpoint has the first `equal` bytes. Runs inside `Spool.transaction`.

        What it lacks counts as lost. A stream that changed meanwhile is left alone: it is asked about again.
        """
        self._db.execute(
            # Where bytes differ, the numbers go on proving nothing: what is queued later is not appended to them.
            "UPDATE stream SET unconfirmed = 0, acked = ?, unproven = ? WHERE id = ? AND generation = ?"
            " AND unconfirmed = ? AND known AND held IS NULL AND session = (SELECT id FROM session WHERE uuid = ?)",
            (
                equal,
                equal < compared.length,
                compared.stream,
                compared.generation,
                compared.length,
                str(compared.session),
            ),
        )
