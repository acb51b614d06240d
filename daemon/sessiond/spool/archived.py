"""The sessions of the built-in archive, while another endpoint is configured and they are copied there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from uuid import UUID

import msgspec

from sessiond.spool.archive_counts import ARCHIVE_FILES, ARCHIVE_LISTED, ARCHIVE_POSITION, ARCHIVE_PROBLEM

_PENDING = "NOT copied AND problem IS NULL"


class ArchivedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session in the archive: the bytes of its streams, and when it was last active."""

    session: UUID
    machine_id: str
    bytes: int
    active_ms: int


class CopiedStream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that was copied: how long the archive's generations are, and by how much its numbers are higher now."""

    name: str
    lengths: dict[int, int]
    shift: int


class Archived:
    """The archived sessions. Writing methods run inside `Spool.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def add(self, found: Iterable[ArchivedSession]) -> None:
        """Add sessions that the archive holds. One that was added before is copied again."""
        self._db.executemany(
            "INSERT OR REPLACE INTO archived (session, machine, bytes, active_ms) VALUES (?, ?, ?, ?)",
            [(str(each.session), each.machine_id, each.bytes, each.active_ms) for each in found],
        )

    def add_unlisted(self, found: Iterable[ArchivedSession]) -> None:
        """Add sessions that the archive has without a record. One that was added before is copied again if it grew."""
        self._db.executemany(
            "INSERT INTO archived (session, machine, bytes, active_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET bytes = excluded.bytes, copied = 0, problem = NULL WHERE bytes != excluded.bytes",
            [(str(each.session), each.machine_id, each.bytes, each.active_ms) for each in found],
        )

    def clear(self) -> None:
        """Remove all of them: the archive will be listed again, or no longer exists."""
        self._db.execute("DELETE FROM archived")
        keys = (ARCHIVE_LISTED, ARCHIVE_PROBLEM, ARCHIVE_POSITION, ARCHIVE_FILES)
        self._db.executemany("DELETE FROM meta WHERE key = ?", [(key,) for key in keys])

    def pending(self, limit: int, since_ms: int = 0) -> list[ArchivedSession]:
        """Return the sessions to be copied that were active at or after `since_ms`, most recently active first.

        Activity that the spool knows of counts too: the session may have continued since the archive was replaced.
        """
        rows = self._db.execute(
            "SELECT archived.session, machine, bytes, max(archived.active_ms, coalesce(session.active_ms, 0)) AS at"
            f" FROM archived LEFT JOIN session ON session.uuid = archived.session WHERE {_PENDING}"
            " AND at >= ? ORDER BY at DESC LIMIT ?",
            (since_ms, limit),
        )
        return [
            ArchivedSession(session=UUID(row[0]), machine_id=row[1], bytes=row[2], active_ms=row[3]) for row in rows
        ]

    def has_pending(self) -> bool:
        """Return whether there is a session to be copied."""
        return self._db.execute(f"SELECT 1 FROM archived WHERE {_PENDING} LIMIT 1").fetchone() is not None

    def mark_copied(self, each: ArchivedSession, archive: str, streams: Iterable[CopiedStream]) -> None:
        """Store that the endpoint has everything that the archive has of a session; the digests were compared.

        `archive` is the archive's id as an endpoint. Bytes of a stream's current generation that the archive has
        acknowledged, and still holds, count as acknowledged by the endpoint. An archive that was restored from an older
        copy may hold less than it acknowledged: the rest is not called safe.
        """
        session = str(each.session)
        self._db.execute("UPDATE archived SET copied = 1 WHERE session = ? AND machine = ?", (session, each.machine_id))
        for copied in streams:
            row = self._db.execute(
                "SELECT stream.id, stream.generation, min(folded, length), EXISTS (SELECT 1 FROM segment"
                " WHERE segment.stream = stream.id) FROM stream JOIN acknowledged ON acknowledged.stream = stream.id"
                " AND acknowledged.generation = stream.generation WHERE name = ? AND endpoint = ?"
                " AND session = (SELECT id FROM session WHERE uuid = ?)",
                (copied.name, archive, session),
            ).fetchone()
            # What is queued has the old number: then the stream is compared with the endpoint, like any other.
            if row is None or row[1] not in copied.lengths or (copied.shift and row[3]):
                continue
            number, generation, length = row[:3]
            self._db.execute(
                "UPDATE stream SET unproven = 0, unconfirmed = 0, acked = max(acked, ?), generation = ? WHERE id = ?",
                (min(length, copied.lengths[generation]), generation + copied.shift, number),
            )

    def old(self, before_ms: int, limit: int) -> list[ArchivedSession]:
        """Return sessions that were copied and were last active before `before_ms`, here and in the archive."""
        rows = self._db.execute(
            "SELECT session, machine, bytes, active_ms FROM archived WHERE copied AND active_ms < ?1 AND NOT EXISTS"
            " (SELECT 1 FROM session WHERE uuid = archived.session AND session.active_ms >= ?1) LIMIT ?2",
            (before_ms, limit),
        )
        return [
            ArchivedSession(session=UUID(row[0]), machine_id=row[1], bytes=row[2], active_ms=row[3]) for row in rows
        ]

    def copy_again(self, each: ArchivedSession) -> None:
        """Store that the endpoint lacks something of a session after all."""
        self._db.execute(
            "UPDATE archived SET copied = 0 WHERE session = ? AND machine = ?", (str(each.session), each.machine_id)
        )

    def mark_dropped(self, each: ArchivedSession, archive: str) -> None:
        """Store that the archive no longer has a session. `archive` is its id as an endpoint.

        What it acknowledged no longer counts: otherwise the session would be called safe if the archive were the
        endpoint again.
        """
        self.remove(each)
        self._db.execute(
            "DELETE FROM acknowledged WHERE endpoint = ? AND stream IN (SELECT stream.id FROM stream"
            " JOIN session ON session.id = stream.session WHERE uuid = ?)",
            (archive, str(each.session)),
        )

    def remove(self, each: ArchivedSession) -> None:
        """Remove a session that is not to be copied: the user erased it, or the archive no longer has it."""
        self._db.execute("DELETE FROM archived WHERE session = ? AND machine = ?", (str(each.session), each.machine_id))

    def refuse(self, each: ArchivedSession, reason: str) -> None:
        """Store why the endpoint rejects a session. It stays in the archive."""
        self._db.execute(
            "UPDATE archived SET problem = ? WHERE session = ? AND machine = ?",
            (reason, str(each.session), each.machine_id),
        )

    def fail(self, reason: str) -> None:
        """Store why the archive can't be read, for `status`. Pending sessions no longer wait for it."""
        self._db.execute("UPDATE archived SET problem = ? WHERE NOT copied", (reason,))
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (ARCHIVE_PROBLEM, reason))

    def retry(self) -> int:
        """Try rejected sessions and the archive again; return how many sessions are concerned."""
        self._db.execute("DELETE FROM meta WHERE key = ?", (ARCHIVE_PROBLEM,))
        return self._db.execute("UPDATE archived SET problem = NULL WHERE problem IS NOT NULL").rowcount
