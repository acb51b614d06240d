"""The captured sessions, their streams, and how far each file was read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec

from sessiond.decoding import json_decoder
from sessiond.session import Session
from sessiond.spool.archive_counts import ARCHIVE_LISTED, ARCHIVE_PROBLEM
from sessiond.spool.decoding import checked
from sessiond.spool.files import Files
from sessiond.spool.privacy_ops import PrivacyOps
from sessiond.spool.rows import BuiltRecord, SessionFilter, SessionState, StreamState
from sessiond.spool.streams import Streams

_to_json = msgspec.json.Encoder().encode
_from_json = checked(json_decoder, Session)

SESSION = (
    "id, uuid, tool, native_id, record, parent, title, active_ms, ongoing, gone_ms, revision, pushed, parked,"
    " prompts_only, opening"
)
"""The columns that `session_state` needs."""
_ROWS = 100
"""Sessions that are read at once."""
KEPT_BATCHES = 10_000
"""Names of batches that are kept, of 32 characters each: those of a few days of work."""


class Catalog(Streams, Files, PrivacyOps):
    """Sessions, streams, files and extents. Writing methods run inside `Spool.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._cached: dict[int, StreamState] = {}

    def session(self, identity: UUID) -> SessionState | None:
        """Return a session by its id; None if there is none."""
        row = self._db.execute(f"SELECT {SESSION} FROM session WHERE uuid = ?", (str(identity),)).fetchone()
        return None if row is None else session_state(row)

    def session_by_row(self, number: int) -> SessionState:
        """Return a session by the number of its row."""
        return session_state(self._db.execute(f"SELECT {SESSION} FROM session WHERE id = ?", (number,)).fetchone())

    def count(self) -> int:
        """Return the number of sessions that have a record."""
        return int(self._db.execute("SELECT coalesce(sum(sessions), 0) FROM tally").fetchone()[0])

    def working_directories(self) -> list[str]:
        """Return the working directories of all sessions."""
        found = self._db.execute(
            "SELECT DISTINCT json_extract(CAST(record AS TEXT), '$.working_directory') FROM session"
        )
        return [row[0] for row in found if row[0]]

    def sessions(self, wanted: SessionFilter | None = None) -> Iterator[SessionState]:
        """Iterate over the wanted sessions that have a record, most recently active first.

        An index has the order. Sorting whole rows would read every record, even if only the first few are used.
        """
        given = _conditions(wanted or SessionFilter())
        where = " AND ".join(("record IS NOT NULL", *given))
        found = self._db.execute(f"SELECT id FROM session WHERE {where} ORDER BY active_ms DESC", list(given.values()))
        numbers = [row[0] for row in found]
        for start in range(0, len(numbers), _ROWS):
            chunk = numbers[start : start + _ROWS]
            marks = ", ".join("?" * len(chunk))
            rows = {
                row[0]: row for row in self._db.execute(f"SELECT {SESSION} FROM session WHERE id IN ({marks})", chunk)
            }
            # Outside of a snapshot, a session may have been erased since.
            yield from (session_state(rows[number]) for number in chunk if number in rows)

    def add_session(self, identity: UUID, tool: str, native_id: str) -> int:
        """Return the row of a session; create it, without a record, if it is new."""
        made = self._db.execute(
            "INSERT INTO session (uuid, tool, native_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (str(identity), tool, native_id),
        )
        if made.rowcount and made.lastrowid is not None:
            return made.lastrowid
        return int(self._db.execute("SELECT id FROM session WHERE uuid = ?", (str(identity),)).fetchone()[0])

    def put_record(self, old: SessionState, made: BuiltRecord, now_ms: int, *, touched: bool) -> bool:
        """Store a session's record as a new revision if it changed, or if its streams did (`touched`).

        A revision is never below the clock, so revisions grow even after a lost spool. A new revision is tried again at
        the endpoint, so the session is no longer parked. If it has another machine id, the endpoint is asked what it
        has of the streams under that id.

        Returns: whether there is a new revision.
        """
        before = old.record, old.parent, old.title, old.prompts_only
        if not touched and before == (made.record, made.parent, made.title, made.prompts_only):
            return False
        self._db.execute(
            "UPDATE session SET record = ?, parent = ?, title = ?, opening = ?, active_ms = ?, ongoing = ?,"
            " revision = ?, parked = NULL, prompts_only = ? WHERE id = ?",
            (
                _to_json(made.record),
                None if made.parent is None else str(made.parent),
                made.title,
                made.opening,
                made.active_ms,
                made.record.ended_at is None,
                max(old.revision + 1, now_ms),
                made.prompts_only,
                old.id,
            ),
        )
        if old.record is not None and old.record.machine_id != made.record.machine_id:
            self.set_session_unknown(old.id)
        return True

    def set_session_unknown(self, session: int) -> None:
        """Request the endpoint's position in all streams of a session that count as stored, side files too.

        For a session whose record gets another machine id: the endpoint may have them under the old one only. The next
        append to any other stream is refused, which has the same effect.
        """
        self._db.execute("UPDATE stream SET known = 0 WHERE session = ? AND acked >= folded", (session,))

    def raise_revision(self, number: int, above: int, now_ms: int) -> None:
        """Raise a session's revision above one that the endpoint has from an earlier spool."""
        self._db.execute(
            "UPDATE session SET revision = max(revision + 1, ?, ?) WHERE id = ?", (above + 1, now_ms, number)
        )

    def relatives(self, first_answer_key: int) -> list[SessionState]:
        """Return sessions with the same first assistant message, which are copies of one another."""
        rows = self._db.execute(
            f"SELECT {SESSION} FROM session WHERE opening = ? AND record IS NOT NULL", (first_answer_key,)
        )
        return [session_state(row) for row in rows]

    def children(self, identity: UUID) -> list[SessionState]:
        """Return the sessions whose parent is this one."""
        rows = self._db.execute(f"SELECT {SESSION} FROM session WHERE parent = ?", (str(identity),))
        return [session_state(row) for row in rows]

    def idle(self, before_ms: int) -> list[int]:
        """Return the rows of ongoing sessions without activity after `before_ms`."""
        rows = self._db.execute("SELECT id FROM session WHERE ongoing AND active_ms <= ?", (before_ms,))
        return [row[0] for row in rows]

    def next_idle_ms(self) -> int | None:
        """Return the oldest last activity of all ongoing sessions, in unix ms; None if there is none."""
        row = self._db.execute("SELECT min(active_ms) FROM session WHERE ongoing").fetchone()
        return None if row[0] is None else int(row[0])

    def set_gone(self, session: int, gone_ms: int | None) -> bool:
        """Store that no file of a session is left (or, with None, that one is back); return whether that is new."""
        changed = self._db.execute(
            "UPDATE session SET gone_ms = ? WHERE id = ? AND (gone_ms IS NULL) != (? IS NULL)",
            (gone_ms, session, gone_ms),
        )
        return changed.rowcount > 0

    def change_endpoint(self, old: str | None, new: str | None) -> None:
        """Start over with another endpoint: ask it how much it has of each stream, and push every record to it.

        `old` and `new` are ids of endpoints. The same id twice is an endpoint that was restored from a backup; None is
        one that has not answered yet. What `old` acknowledged is kept, and counts again if `old` comes back. If `new`
        never acknowledged a stream, nothing that it has of it is trusted before the bytes are compared.
        """
        self._db.execute(
            "UPDATE stream SET known = 0, held = NULL, gap_from = NULL, gap_to = NULL, unconfirmed = 0"
            " WHERE skipped IS NULL"
        )
        self._db.execute("UPDATE session SET pushed = 0, parked = NULL, dropped = NULL")
        self._db.execute("DELETE FROM pushed_digest")  # without importing hashlib, which `ls` does not need
        # The archive is listed again for the new endpoint: it may hold more now, or be the endpoint itself.
        self._db.execute("DELETE FROM archived")
        self._db.execute("DELETE FROM meta WHERE key IN (?, ?)", (ARCHIVE_LISTED, ARCHIVE_PROBLEM))
        # `new` may have sessions that `old` erased: its own copies, or those in its backup. So their erasure is ordered
        # again. An erasure that only an endpoint reported is not ordered at another one: an endpoint must not be able
        # to destroy what others have.
        self._db.execute(
            "UPDATE forgotten SET archive_ms = NULL, acknowledged_ms = iif(learned AND ?, acknowledged_ms, NULL)",
            (old != new,),
        )
        if old == new:
            return
        self._db.execute("UPDATE session SET expired_ms = NULL")  # another endpoint may keep them
        if old is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO acknowledged SELECT ?, id, generation, acked, lost FROM stream"
                " WHERE lost = lost_before AND acked > 0",
                (old,),
            )
            self._db.execute(
                "UPDATE acknowledged SET lost = stream.lost FROM stream"
                " WHERE endpoint = ? AND stream.id = acknowledged.stream",
                (old,),
            )
        self._db.execute(
            "UPDATE stream SET acked = min(folded, coalesce((SELECT length FROM acknowledged WHERE endpoint = ?"
            " AND stream = stream.id AND acknowledged.generation = stream.generation), 0)), unproven ="
            " NOT EXISTS (SELECT 1 FROM acknowledged WHERE endpoint = ? AND stream = stream.id)",
            (new, new),
        )
        # What the old endpoint lacks may be at the new one, if that was used before.
        self._db.execute(
            "UPDATE stream SET lost = acknowledged.lost, lost_before = acknowledged.lost FROM acknowledged"
            " WHERE endpoint = ? AND acknowledged.stream = stream.id",
            (new,),
        )

    # Acknowledged batches

    def add_batch(self, name: str) -> None:
        """Store the name of an acknowledged batch. Of many, the oldest are removed, some at once."""
        number = self._db.execute("INSERT INTO batch (name) VALUES (?)", (name,)).lastrowid or 0
        if number % 100 == 0:
            self._db.execute("DELETE FROM batch WHERE number <= ?", (number - KEPT_BATCHES,))

    def has_batch(self, name: str) -> bool:
        """Return whether a batch of this name is among the last ones that were acknowledged."""
        return self._db.execute("SELECT 1 FROM batch WHERE name = ?", (name,)).fetchone() is not None

    def distrust_positions(self) -> None:
        """Compare each stream with the endpoint's copy by its digest, although they may have equal numbers.

        A copy of this state may have pushed there: then the numbers prove nothing.
        """
        self._db.execute("UPDATE stream SET unproven = 1 WHERE skipped IS NULL")


def _conditions(wanted: SessionFilter) -> dict[str, object]:
    """Return the conditions of a filter in SQL, each with its parameter."""
    given = {
        "tool = ?": wanted.tool,
        "json_extract(CAST(record AS TEXT), '$.machine_id') = ?": wanted.machine,
        "json_extract(CAST(record AS TEXT), '$.git_branch') = ?": wanted.branch,
        "active_ms >= ?": wanted.since_ms,
        "(gone_ms IS NOT NULL) = ?": wanted.gone or None,
        "ongoing = ?": wanted.ongoing or None,
    }
    return {condition: value for condition, value in given.items() if value is not None}


def session_state(row: tuple[Any, ...]) -> SessionState:
    """Return the SessionState of a row with the columns in `SESSION`."""
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
        prompts_only=bool(row[13]),
        opening=row[14],
    )
