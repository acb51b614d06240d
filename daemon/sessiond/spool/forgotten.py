"""Tombstones: sessions that the user erased. They are never captured again.

A tombstone is stored before anything is erased, so a kill at any time leaves the rest to be done. It has the id of the
session and nothing of its content. This module imports neither msgspec nor uuid, because `status` counts tombstones.
"""

from __future__ import annotations

from sessiond.frozen_record import FrozenRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_AT_ENDPOINT = "everywhere AND acknowledged_ms IS NULL"
_IN_ARCHIVE = "archive_ms IS NULL AND kept_until_ms IS NULL"
_ONLY_HERE = (
    "(EXISTS (SELECT 1 FROM stream JOIN segment ON segment.stream = stream.id WHERE stream.session = session.id)"
    " OR EXISTS (SELECT 1 FROM stream JOIN file ON file.stream = stream.id"
    " WHERE stream.session = session.id AND pin IS NOT NULL))"
)
"""Whether the spool or a pin has bytes of a session that the endpoint never acknowledged."""
KEPT_MS = 30 * 86_400_000
"""Milliseconds for which such bytes are kept if the endpoint says that the session was erased."""
REASON = "the session was erased at the endpoint, but not from this machine"
"""Why its items are not pushed."""
_LEFT = (
    "FROM left_at_endpoint WHERE endpoint = (SELECT value FROM meta WHERE key = 'endpoint')"
    " AND session NOT IN (SELECT session FROM forgotten) AND session NOT IN (SELECT uuid FROM session)"
)


class Erasures(FrozenRecord):
    """How many sessions were erased, and what of that is still to be done."""

    sessions: int = 0
    endpoint: int = 0
    """Sessions that the endpoint has not erased yet."""
    archive: int = 0
    """Sessions that the built-in archive has not erased yet."""
    waiting: int = 0
    """Sessions that one of the two has not erased yet."""
    problem: str | None = None
    """Why the last attempt failed."""
    oldest_ms: int | None = None
    """When the oldest of these erasures was requested."""
    learned: int = 0
    """Sessions that were erased at the endpoint, but not from this machine, in the last days."""
    kept: int = 0
    """Those of the `learned` sessions of which this machine keeps the only copy of some bytes."""
    kept_until_ms: int | None = None
    """When the first of the `learned` sessions is erased here too."""
    excluded: int = 0
    """Sessions of excluded projects that the endpoint still has."""
    excluded_bytes: int = 0


class Forgotten:
    """The tombstones. Writing methods run inside `Spool.transaction`. Session ids are in their text form."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def order(self, sessions: Iterable[str], now_ms: int, *, everywhere: bool) -> None:
        """Store tombstones. `everywhere`: the endpoint has to erase these sessions too.

        A session that was erased before is erased once more: the endpoint may have been restored from a backup.
        """
        self._db.executemany(
            "INSERT INTO forgotten (session, everywhere, ordered_ms) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"
            " everywhere = max(everywhere, excluded.everywhere), acknowledged_ms = iif(excluded.everywhere, NULL,"
            " acknowledged_ms), archive_ms = NULL, problem = NULL, learned = 0, kept_until_ms = NULL",
            [(session, everywhere, now_ms) for session in sessions],
        )

    def learn(self, session: str, now_ms: int) -> None:
        """Store that the endpoint reports a session as erased: another machine of the user may have asked for that.

        Nothing more of the session is captured or pushed. Bytes that only this machine has are kept for KEPT_MS: a
        faulty endpoint must not be able to destroy them.
        """
        self._db.execute(
            "INSERT INTO forgotten (session, everywhere, ordered_ms, acknowledged_ms, learned, kept_until_ms)"
            " VALUES (?, 1, ?, ?, 1, ?) ON CONFLICT DO NOTHING",
            (session, now_ms, now_ms, now_ms + KEPT_MS),
        )

    def is_kept(self, session: str) -> bool:
        """Return whether what this machine has of a session that was erased at the endpoint is kept for now."""
        row = self._db.execute("SELECT kept_until_ms IS NOT NULL FROM forgotten WHERE session = ?", (session,))
        return (row.fetchone() or (0,))[0] == 1

    def release(self, session: str) -> bool:
        """Remove the tombstone of a session that was erased at the endpoint only; return whether it had one.

        The user wants the session captured and pushed again. The endpoint's positions in its streams are asked for.
        """
        removed = self._db.execute(
            "DELETE FROM forgotten WHERE session = ? AND kept_until_ms IS NOT NULL", (session,)
        ).rowcount
        if removed:
            self._db.execute(
                "UPDATE stream SET known = 0 WHERE skipped IS NULL"
                " AND session = (SELECT id FROM session WHERE uuid = ?)",
                (session,),
            )
        return removed > 0

    def expire(self, now_ms: int) -> int:
        """End the keeping of bytes whose time is over, so that they are erased; return the number of sessions."""
        return self._db.execute(
            "UPDATE forgotten SET kept_until_ms = NULL WHERE kept_until_ms <= ?", (now_ms,)
        ).rowcount

    def has(self, session: str) -> bool:
        """Return whether a session was erased and must not be captured."""
        return self._db.execute("SELECT 1 FROM forgotten WHERE session = ?", (session,)).fetchone() is not None

    def is_captured(self, session: str) -> bool:
        """Return whether a session is in the spool, with or without a record."""
        return self._db.execute("SELECT 1 FROM session WHERE uuid = ?", (session,)).fetchone() is not None

    def captured(self) -> list[int]:
        """Return the rows of sessions in the spool that are to be erased: those that have a tombstone and are not kept.

        Of one that was erased at the endpoint, only bytes are kept that the endpoint never acknowledged.
        """
        rows = self._db.execute(
            "SELECT session.id FROM forgotten JOIN session ON session.uuid = forgotten.session"
            f" WHERE kept_until_ms IS NULL OR NOT {_ONLY_HERE}"
        )
        return [row[0] for row in rows]

    def due(self, limit: int, *, archive: bool) -> list[str]:
        """Return sessions that the endpoint (or the built-in archive) has to erase, the oldest order first."""
        rows = self._db.execute(
            f"SELECT session FROM forgotten WHERE {_IN_ARCHIVE if archive else _AT_ENDPOINT}"
            " ORDER BY ordered_ms, session LIMIT ?",
            (limit,),
        )
        return [row[0] for row in rows]

    def confirm(self, session: str, now_ms: int, *, archive: bool) -> None:
        """Store that the endpoint (or the built-in archive) has erased a session."""
        column = _confirmed(archive=archive)
        self._db.execute(f"UPDATE forgotten SET {column} = ?, problem = NULL WHERE session = ?", (now_ms, session))
        if archive:  # nothing of it is to be copied any more
            self._db.execute("DELETE FROM archived WHERE session = ?", (session,))

    def note_listed(self, session: str) -> None:
        """Store that the endpoint's list of erased sessions has a session, if it has a tombstone here."""
        self._db.execute("UPDATE forgotten SET listed = 1 WHERE session = ?", (session,))

    def unlist_all(self) -> None:
        """Store that the endpoint's list is read from its beginning again."""
        self._db.execute("UPDATE forgotten SET listed = 0")

    def order_unlisted(self, *, archive: bool) -> None:
        """Order the erasures again that the endpoint (or the built-in archive) has confirmed and does not list.

        Its list was read to the end. Erasures that this machine learned from the endpoint are not ordered.
        """
        column = _confirmed(archive=archive)
        self._db.execute(
            f"UPDATE forgotten SET {column} = NULL WHERE {column} IS NOT NULL AND NOT listed AND NOT learned"
        )

    def any_confirmed(self, *, archive: bool) -> bool:
        """Return whether the endpoint (or the built-in archive) confirmed that it erased what this machine ordered."""
        row = self._db.execute(
            f"SELECT 1 FROM forgotten WHERE {_confirmed(archive=archive)} IS NOT NULL AND NOT learned LIMIT 1"
        )
        return row.fetchone() is not None

    def fail(self, reason: str, *, archive: bool) -> None:
        """Store why nothing could be erased at the endpoint (or in the archive)."""
        self._db.execute(
            f"UPDATE forgotten SET problem = ? WHERE {_IN_ARCHIVE if archive else _AT_ENDPOINT}", (reason,)
        )

    def note_left(self, session: int) -> None:
        """Store which session the endpoint keeps, before its row is removed because its project was excluded."""
        self._db.execute(
            "INSERT OR REPLACE INTO left_at_endpoint SELECT uuid, meta.value, (SELECT coalesce(sum(acked), 0)"
            " FROM stream WHERE stream.session = session.id) AS size FROM session, meta"
            " WHERE session.id = ? AND meta.key = 'endpoint' AND meta.value IS NOT NULL AND (pushed > 0 OR size > 0)",
            (session,),
        )

    def left_at_endpoint(self) -> list[str]:
        """Return the sessions of excluded projects that the endpoint still has."""
        return [row[0] for row in self._db.execute(f"SELECT session {_LEFT}")]

    def rows(self) -> list[tuple[object, ...]]:
        """Return all tombstones, for `put_rows` of another spool."""
        import sqlite3  # late: `status` needs no more of it than the connection

        columns = "session, everywhere, ordered_ms, acknowledged_ms, archive_ms"
        try:
            return list(self._db.execute(f"SELECT {columns}, learned, kept_until_ms FROM forgotten"))
        except sqlite3.OperationalError:  # that of an earlier version
            return list(self._db.execute(f"SELECT {columns}, 0, NULL FROM forgotten"))

    def put_rows(self, rows: Iterable[tuple[object, ...]]) -> None:
        """Store the tombstones of an earlier spool."""
        self._db.executemany(
            "INSERT OR IGNORE INTO forgotten (session, everywhere, ordered_ms, acknowledged_ms, archive_ms, learned,"
            " kept_until_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
            list(rows),
        )


def _confirmed(*, archive: bool) -> str:
    """Return the column that has when the endpoint (or the built-in archive) erased a session."""
    return "archive_ms" if archive else "acknowledged_ms"


def count_erasures(db: sqlite3.Connection, *, archive: bool) -> Erasures:
    """Return the counts. `archive`: whether there is a built-in archive that may have these sessions."""
    row = db.execute(
        f"SELECT count(*), total({_AT_ENDPOINT}), total({_IN_ARCHIVE}), max(problem),"
        f" min(iif({_AT_ENDPOINT} OR {_IN_ARCHIVE}, ordered_ms, NULL)), count(kept_until_ms), min(kept_until_ms),"
        f" total(kept_until_ms IS NOT NULL AND (? OR session IN (SELECT uuid FROM session))),"
        f" total({_AT_ENDPOINT} OR (? AND {_IN_ARCHIVE})) FROM forgotten",
        (archive, archive),
    ).fetchone()
    waiting = int(row[8])
    excluded, size = db.execute(f"SELECT count(*), coalesce(sum(bytes), 0) {_LEFT}").fetchone()
    return Erasures(
        excluded=excluded,
        excluded_bytes=size,
        learned=row[5],
        kept_until_ms=row[6],
        kept=int(row[7]),
        sessions=row[0],
        endpoint=int(row[1]),
        archive=int(row[2]) if archive else 0,
        waiting=waiting,
        problem=row[3] if waiting else None,
        oldest_ms=row[4] if waiting else None,
    )
