"""The rows of sessions that were let go because they were too old, and the rules that say so (keeping.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from sessiond import clock
from sessiond.endpoint.erasure import ExpiredSession
from sessiond.endpoint.server.database import Database, placeholders
from sessiond.endpoint.server.stream_state import SessionKey

DAY_MS = 86_400_000


def keep_days(db: Database, user: str) -> int | None:
    """Return for how many days the sessions of a user are kept; None: forever.

    What is set for the user counts, or else what is set for the tenant.
    """
    row = db.execute(
        "SELECT coalesce(users.keep_days, tenants.keep_days) FROM users LEFT JOIN tenants USING (tenant)"
        " WHERE user = ?",
        (user,),
    ).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def oldest_ms(db: Database, users: Iterable[str], now_ms: int) -> dict[str, int]:
    """Return the time before which the sessions of users are not kept, of those users that have such a time."""
    rules = {user: keep_days(db, user) for user in users}
    return {user: now_ms - days * DAY_MS for user, days in rules.items() if days is not None}


def save(db: Database, expired: Mapping[SessionKey, int | None], positions: Mapping[SessionKey, int]) -> None:
    """Store which sessions a push found too old, each with its revision; None: it is kept again."""
    db.executemany(
        "DELETE FROM expired WHERE user = ? AND machine = ? AND session = ?",
        [key for key, revision in expired.items() if revision is None],
    )
    insert(db, {key: (revision, positions[key]) for key, revision in expired.items() if revision is not None})


def insert(db: Database, found: Mapping[SessionKey, tuple[int, int]]) -> None:
    """Store sessions that were let go: the last revision, and the position in the user's sequence of changes."""
    now_ms = clock.now_ms()
    db.executemany(
        "INSERT INTO expired (user, machine, session, revision, change, at_ms) VALUES (?, ?, ?, ?, ?, ?)",
        [(*key, revision, change, now_ms) for key, (revision, change) in found.items()],
    )


def is_expired(db: Database, user: str, machine: str, session: str) -> bool:
    """Return whether a session was let go."""
    row = db.execute(
        "SELECT 1 FROM expired WHERE user = ? AND session = ? AND machine = ?", (user, session, machine)
    ).fetchone()
    return row is not None


def list_expired(
    db: Database, user: str, after: int, limit: int, owned: list[str] | None = None
) -> list[tuple[int, ExpiredSession]]:
    """Return the sessions that were let go after a position in the user's sequence of changes, with their positions.

    `owned`: only those of these machines.
    """
    chosen = "" if owned is None else f" AND machine IN ({placeholders(len(owned))})"
    rows = db.execute(
        f"SELECT change, machine, session, revision, at_ms FROM expired WHERE user = ? AND change > ?{chosen}"
        " ORDER BY change LIMIT ?",
        (user, after, *(owned or ()), limit),
    )
    return [
        (row[0], ExpiredSession(machine_id=row[1], id=UUID(row[2]), revision=row[3], expired_at=row[4])) for row in rows
    ]
