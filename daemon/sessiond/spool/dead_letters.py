"""Parked items of the outbox: the endpoint will never accept them, so they wait for a decision of the user."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from typing import Any
from uuid import UUID

from sessiond.errors import NotFound
from sessiond.spool.catalog import SESSION, session_state
from sessiond.spool.rows import Segment, SessionState
from sessiond.spool.safety import MISSING, UNSAFE

SEGMENT = (
    "segment.id, session.uuid, segment.stream, stream.name, segment.generation, offset, length, data, previous,"
    " keep, segment.parked, media_type"
)
JOINED = "FROM segment JOIN stream ON stream.id = segment.stream JOIN session ON session.id = stream.session"


class DeadLetters(ABC):
    """Parked revisions and segments. Writing methods run inside `Spool.transaction`."""

    _db: sqlite3.Connection

    @abstractmethod
    def _count(self, stream: int, segments: int, size: int) -> None:
        """Add to the numbers of waiting segments and bytes of a stream."""

    @abstractmethod
    def _delete(self, condition: str, *parameters: object) -> int:
        """Remove segments; return how many."""

    @abstractmethod
    def discard_expired(self, session: int) -> int:
        """Remove what is parked of a session that the endpoint let go; return how many items."""

    @abstractmethod
    def fill(self, stream: int, generation: int, start: int, end: int, now_ms: int) -> None:
        """Queue placeholder records for missing bytes."""

    def park_session(self, number: int, revision: int, reason: str) -> None:
        """Park a revision that the endpoint will never accept. The next revision is tried again."""
        self._db.execute("UPDATE session SET parked = ? WHERE id = ? AND revision = ?", (reason, number, revision))

    def park_segment(self, segment: Segment, reason: str) -> None:
        """Park a segment that the endpoint will never accept. Later segments of its generation wait behind it."""
        parked = self._db.execute("UPDATE segment SET parked = ? WHERE id = ? AND parked IS NULL", (reason, segment.id))
        if parked.rowcount:
            self._count(segment.stream_id, -1, 0)

    def park_all(self, session: str, reason: str) -> None:
        """Park everything of a session that is queued or may be: it was erased at the endpoint."""
        self._db.execute("UPDATE session SET parked = ? WHERE uuid = ?", (reason, session))
        self._park_segments(session, reason)

    def _park_segments(self, session: str, reason: str) -> None:
        rows = self._db.execute(
            f"SELECT segment.id, segment.stream {JOINED} WHERE segment.parked IS NULL AND uuid = ?", (session,)
        ).fetchall()
        for number, stream in rows:
            self._db.execute("UPDATE segment SET parked = ? WHERE id = ?", (reason, number))
            self._count(stream, -1, 0)

    def parked(self) -> tuple[list[SessionState], list[Segment]]:
        """Return the parked revisions and segments."""
        sessions = self._db.execute(f"SELECT {SESSION} FROM session WHERE parked IS NOT NULL ORDER BY active_ms DESC")
        segments = self._db.execute(f"SELECT {SEGMENT} {JOINED} WHERE segment.parked IS NOT NULL ORDER BY segment.id")
        return [session_state(row) for row in sessions], [segment_state(row) for row in segments]

    def retry(self, identity: UUID | None = None) -> int:
        """Put parked items (of one session, or all) back into the queue; return how many."""
        only = " AND uuid = ?" if identity else ""
        values = (str(identity),) if identity else ()
        # The endpoint may keep a session now that it let go before.
        self._db.execute(f"UPDATE session SET pushed = 0 WHERE expired_ms > 0{only}", values)
        return self._retry(f"IS NOT NULL{only}", *values)

    def retry_parked_for(self, reason: str) -> int:
        """Put the items that are parked for one reason back into the queue; return how many."""
        return self._retry("= ?", reason)

    def _retry(self, parked: str, *values: str) -> int:
        """Put back the items for which `parked {parked}` holds."""
        count = self._db.execute(f"UPDATE session SET parked = NULL WHERE parked {parked}", values).rowcount
        rows = self._db.execute(
            f"SELECT segment.id, segment.stream {JOINED} WHERE segment.parked {parked}", values
        ).fetchall()
        for number, stream in rows:
            self._db.execute("UPDATE segment SET parked = NULL WHERE id = ?", (number,))
            self._count(stream, 1, 0)
        return count + len(rows)

    def drop(self, identity: UUID, now_ms: int) -> int:
        """Discard the parked and lost items of a session, as the user asked; return how many.

        They stay in the tool's file. At the endpoint, a placeholder of the same length replaces dropped bytes, since
        nothing could be appended behind a gap. The session does not count as acknowledged afterwards.
        """
        row = self._db.execute("SELECT id, revision FROM session WHERE uuid = ?", (str(identity),)).fetchone()
        if row is None:
            raise NotFound(f"no session {identity}", hint="`sessiond queue` lists what is parked")
        discarded = self.discard_expired(row[0])
        count = (
            discarded
            + self._db.execute(
                "UPDATE session SET parked = NULL, pushed = revision, dropped = revision"
                " WHERE id = ? AND parked IS NOT NULL",
                (row[0],),
            ).rowcount
        )
        if discarded:
            return count
        count += self._db.execute(
            f"UPDATE stream SET accepted = {MISSING} WHERE session = ? AND {UNSAFE} AND {MISSING} > accepted", (row[0],)
        ).rowcount
        for number, stream, generation, offset, length in self._db.execute(
            "SELECT segment.id, segment.stream, segment.generation, offset, length FROM segment"
            " JOIN stream ON stream.id = segment.stream WHERE stream.session = ? AND segment.parked IS NOT NULL",
            (row[0],),
        ).fetchall():
            if length:
                count += self._delete("id = ?", number)
                self.fill(stream, generation, offset, offset + length, now_ms)
                self._db.execute(
                    "UPDATE stream SET lost = lost + ?, accepted = accepted + ? WHERE id = ?", (length, length, stream)
                )
            else:  # a generation can't exist without its start
                count += self._delete("stream = ? AND generation = ?", stream, generation)
        return count


def segment_state(row: tuple[Any, ...]) -> Segment:
    """Return the Segment of a row with the columns in `SEGMENT`."""
    return Segment(
        id=row[0],
        session=UUID(row[1]),
        stream_id=row[2],
        stream=row[3],
        generation=row[4],
        offset=row[5],
        length=row[6],
        data=row[7],
        previous=row[8],
        keep=row[9],
        parked=row[10],
        media_type=row[11],
    )
