"""Sessions that the endpoint let go, because its owner keeps sessions for some days only.

Such a session is neither safe nor lost. Nothing of it is pushed before it changes. Then its next revision is pushed,
and the endpoint decides whether to keep the session again. If it does, its positions in the session's streams are asked
for. They are 0, so all bytes that can still be read are pushed.
"""

from __future__ import annotations

from collections.abc import Collection

from sessiond.spool.dead_letters import DeadLetters

ONLY_HERE = "the endpoint keeps sessions for some days only, and only this machine has these bytes"
"""Why bytes of a session that the endpoint let go are parked."""
_HERE = "EXISTS (SELECT 1 FROM file WHERE file.stream = stream.id AND file.gone_ms IS NULL)"


class Expiries(DeadLetters):
    """Sessions that the endpoint let go. Writing methods run inside `Spool.transaction`."""

    def expire(self, session: str, now_ms: int, revision: int = 0) -> None:
        """Store that the endpoint let a session go, and push nothing of it before it changes.

        `revision` is the revision of the record that the endpoint refused; it need not be pushed again. Queued bytes
        that are in the tool's file are removed from the outbox. Others are parked: the endpoint must not be able to
        destroy bytes that only this machine has.
        """
        self._db.execute(
            "UPDATE session SET expired_ms = coalesce(expired_ms, ?), pushed = max(pushed, ?) WHERE uuid = ?",
            (now_ms, revision, session),
        )
        self._db.execute(
            "UPDATE stream SET let_go = max(let_go, acked, unconfirmed), unconfirmed = 0, gap_from = NULL,"
            " gap_to = NULL, held = NULL WHERE session = (SELECT id FROM session WHERE uuid = ?)",
            (session,),
        )
        self._delete(
            "id IN (SELECT segment.id FROM segment JOIN stream ON stream.id = segment.stream"
            " JOIN session ON session.id = stream.session WHERE uuid = ? AND segment.parked IS NULL"
            f" AND segment.generation = stream.generation AND {_HERE})",
            session,
        )
        self._park_segments(session, ONLY_HERE)

    def refused_among(self, sessions: Collection[str]) -> tuple[set[str], dict[str, bool]]:
        """Return which of these sessions were erased; and which the endpoint let go, with whether they changed since.

        The sessions are those of one batch. Other processes may store such states, so each push asks, with one query.
        """
        if not sessions:
            return set(), {}
        marks = ", ".join("?" * len(sessions))
        rows = self._db.execute(
            f"SELECT session, NULL FROM forgotten WHERE session IN ({marks}) UNION ALL"
            f" SELECT uuid, revision > pushed FROM session WHERE expired_ms > 0 AND uuid IN ({marks})",
            (*sessions, *sessions),
        ).fetchall()
        return {uuid for uuid, due in rows if due is None}, {uuid: bool(due) for uuid, due in rows if due is not None}

    def revive(self, session: str, *, record: bool) -> None:
        """Store that the endpoint keeps a session again: it has stored its record, or else bytes of it.

        Its positions in the session's streams are asked for, and what it lacks is read from the tool's files.
        """
        self._db.execute(
            "UPDATE session SET expired_ms = NULL, pushed = iif(?, pushed, 0) WHERE uuid = ?", (record, session)
        )
        self._db.execute(
            "UPDATE stream SET known = 0 WHERE skipped IS NULL AND session = (SELECT id FROM session WHERE uuid = ?)",
            (session,),
        )

    def offer_expired(self, sessions: Collection[str] | None = None) -> None:
        """Push the records of sessions again that the endpoint let go, as it may keep them now. None: of all."""
        if sessions is None:
            self._db.execute("UPDATE session SET pushed = 0 WHERE expired_ms > 0")
            return
        for (session,) in self._db.execute("SELECT uuid FROM session WHERE expired_ms > 0").fetchall():
            if session in sessions:
                self._db.execute("UPDATE session SET pushed = 0 WHERE uuid = ?", (session,))

    def discard_expired(self, session: int) -> int:
        """Remove what is parked of a session that the endpoint let go, as the user asked; return how many items.

        No placeholders are pushed instead: the endpoint has no bytes of the streams that they could follow.
        """
        if self._db.execute("SELECT 1 FROM session WHERE id = ? AND expired_ms > 0", (session,)).fetchone() is None:
            return 0
        self._db.execute(
            "UPDATE stream SET let_go = folded WHERE session = ? AND id IN"
            " (SELECT stream FROM segment WHERE parked IS NOT NULL)",
            (session,),
        )
        return self._delete(
            "parked IS NOT NULL AND stream IN (SELECT id FROM stream AS own WHERE own.session = ?)", session
        )
