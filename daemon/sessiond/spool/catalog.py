"""What was captured: sessions, their streams, and how far which file was read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec

from sessiond.session import Session
from sessiond.spool.decoding import sound
from sessiond.spool.files import Files
from sessiond.spool.privacy_ops import PrivacyOps
from sessiond.spool.rows import SessionState, StreamState
from sessiond.spool.safety import ARCHIVE_LISTED, ARCHIVE_PROBLEM
from sessiond.spool.streams import Streams

_to_json = msgspec.json.Encoder().encode
_from_json = sound(msgspec.json.Decoder(Session).decode)

_SESSION = "id, uuid, tool, native_id, record, parent, title, active_ms, ongoing, gone_ms, revision, pushed, parked"


class Catalog(Streams, Files, PrivacyOps):
    """Sessions, streams, files and extents. Writing methods run inside `Spool.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._kept: dict[int, StreamState] = {}

    def session(self, identity: UUID) -> SessionState | None:
        """Find a session by its id."""
        row = self._db.execute(f"SELECT {_SESSION} FROM session WHERE uuid = ?", (str(identity),)).fetchone()
        return None if row is None else session_state(row)

    def session_by_row(self, number: int) -> SessionState:
        """Get the session of a stream."""
        return session_state(self._db.execute(f"SELECT {_SESSION} FROM session WHERE id = ?", (number,)).fetchone())

    def count(self) -> int:
        """Count the sessions that have a record."""
        return int(self._db.execute("SELECT coalesce(sum(sessions), 0) FROM tally").fetchone()[0])

    def working_directories(self) -> list[str]:
        """List the working directories of all sessions."""
        found = self._db.execute(
            "SELECT DISTINCT json_extract(CAST(record AS TEXT), '$.working_directory') FROM session"
        )
        return [row[0] for row in found if row[0]]

    def sessions(self) -> Iterator[SessionState]:
        """List all sessions that have a record, newest activity first."""
        for row in self._db.execute(f"SELECT {_SESSION} FROM session WHERE record IS NOT NULL ORDER BY active_ms DESC"):
            yield session_state(row)

    def add_session(self, identity: UUID, tool: str, native_id: str) -> int:
        """Find or make the row of a session, still without a record."""
        made = self._db.execute(
            "INSERT INTO session (uuid, tool, native_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (str(identity), tool, native_id),
        )
        if made.rowcount and made.lastrowid is not None:
            return made.lastrowid
        return int(self._db.execute("SELECT id FROM session WHERE uuid = ?", (str(identity),)).fetchone()[0])

    def put_record(
        self,
        old: SessionState,
        record: Session,
        *,
        parent: UUID | None,
        title: str | None,
        opening: int | None,
        active_ms: int,
        now_ms: int,
        touched: bool,
    ) -> bool:
        """Store a session's record; a new revision where it (or its streams: `touched`) changed.

        A revision grows even after a lost spool, for it is never below the clock (design.md 3). A new
        revision is worth another try at the endpoint, so it is no longer parked.
        """
        if not touched and (old.record, old.parent, old.title) == (record, parent, title):
            return False
        named = None if parent is None else str(parent)
        self._db.execute(
            "UPDATE session SET record = ?, parent = ?, title = ?, opening = ?, active_ms = ?, ongoing = ?,"
            " revision = ?, parked = NULL WHERE id = ?",
            (
                _to_json(record),
                named,
                title,
                opening,
                active_ms,
                record.ended_at is None,
                max(old.revision + 1, now_ms),
                old.id,
            ),
        )
        return True

    def raise_revision(self, number: int, above: int, now_ms: int) -> None:
        """Give a session a revision above one that the endpoint holds from another life of this spool."""
        self._db.execute(
            "UPDATE session SET revision = max(revision + 1, ?, ?) WHERE id = ?", (above + 1, now_ms, number)
        )

    def relatives(self, opening: int, but: int) -> list[SessionState]:
        """Find sessions that begin with the same assistant message: copies of one another."""
        rows = self._db.execute(
            f"SELECT {_SESSION} FROM session WHERE opening = ? AND id != ? AND record IS NOT NULL", (opening, but)
        )
        return [session_state(row) for row in rows]

    def children(self, identity: UUID) -> list[SessionState]:
        """Find sessions that name this one as their parent."""
        rows = self._db.execute(f"SELECT {_SESSION} FROM session WHERE parent = ?", (str(identity),))
        return [session_state(row) for row in rows]

    def idle(self, before_ms: int) -> list[int]:
        """Find ongoing sessions without activity since then."""
        rows = self._db.execute("SELECT id FROM session WHERE ongoing AND active_ms <= ?", (before_ms,))
        return [row[0] for row in rows]

    def next_idle_ms(self) -> int | None:
        """Say when the longest idle of the ongoing sessions was active last."""
        row = self._db.execute("SELECT min(active_ms) FROM session WHERE ongoing").fetchone()
        return None if row[0] is None else int(row[0])

    def set_gone(self, session: int, gone_ms: int | None) -> bool:
        """Note that no file of a session is left (or is there again); tells whether that is news."""
        changed = self._db.execute(
            "UPDATE session SET gone_ms = ? WHERE id = ? AND (gone_ms IS NULL) != (? IS NULL)",
            (gone_ms, session, gone_ms),
        )
        return changed.rowcount > 0

    def change_endpoint(self, old: str | None, new: str | None) -> None:
        """Start over: ask the endpoint `new` where each stream stands, and push every record to it.

        `old` and `new` are ids of endpoints; the same id twice is an endpoint that was restored from a backup, None
        one that has not answered yet. What `old` acknowledged is kept: it counts again when `old` comes back. Of an
        endpoint that never acknowledged a stream nothing is believed until its bytes are compared.
        """
        self._db.execute(
            "UPDATE stream SET known = 0, held = NULL, gap_from = NULL, gap_to = NULL WHERE skipped IS NULL"
        )
        self._db.execute("UPDATE session SET pushed = 0, parked = NULL, dropped = NULL")
        # The archive is listed again for the new endpoint: it may hold more by now, or be the endpoint itself.
        self._db.execute("DELETE FROM archived")
        self._db.execute("DELETE FROM meta WHERE key IN (?, ?)", (ARCHIVE_LISTED, ARCHIVE_PROBLEM))
        if old == new:
            return
        if old is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO acknowledged SELECT ?, id, generation, acked FROM stream"
                " WHERE lost = 0 AND acked > 0",
                (old,),
            )
        self._db.execute(
            "UPDATE stream SET acked = min(folded, coalesce((SELECT length FROM acknowledged WHERE endpoint = ?"
            " AND stream = stream.id AND acknowledged.generation = stream.generation), 0)), unproven ="
            " NOT EXISTS (SELECT 1 FROM acknowledged WHERE endpoint = ? AND stream = stream.id)",
            (new, new),
        )


def session_state(row: tuple[Any, ...]) -> SessionState:
    """Make a SessionState of the columns in `_SESSION`."""
    record, parent = row[4], row[5]
    return SessionState(
        id=row[0],
        uuid=UUID(row[1]),
        tool=row[2],
        native_id=row[3],
        record=None if record is None else _from_json(record),
        parent=None if parent is None else UUID(parent),
        title=row[6],
        active_ms=row[7],
        ongoing=bool(row[8]),
        gone_ms=row[9],
        revision=row[10],
        pushed=row[11],
        parked=row[12],
    )
