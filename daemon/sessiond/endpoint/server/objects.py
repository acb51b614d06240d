"""The table of objects. It decides which objects exist: an object of the store that has no row is left over.

A row is PENDING before its object is written. A transaction stores the references to the object and makes it LIVE. To
delete an object, a transaction first makes it DEAD, or ABANDONED if it was PENDING. Each of these transactions checks
the state first. So an object that a transaction may still refer to is never deleted, however long that takes and
whatever the clocks show. An ABANDONED object may still arrive in the object store, so it becomes DEAD only then.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from enum import IntEnum

import msgspec

from sessiond.endpoint.server.database import Database, placeholders
from sessiond.endpoint.server.stream_state import SessionKey

LEASE_MS = 15 * 60_000
"""Milliseconds after which a PENDING object is given up: the process that was writing it has ended."""


class ObjectState(IntEnum):
    """The state of an object, as it is stored."""

    PENDING = 0
    LIVE = 1
    DEAD = 2
    ABANDONED = 3


class Dead(msgspec.Struct, frozen=True):
    """An object to delete."""

    number: int
    name: str


def new_name(user: str, data: bytes) -> str:
    """Return the name of a new object: the user's folder, the digest of the bytes, and a random part.

    The random part is never used again. So a sweep that found an object without a row can delete it, although another
    process may store the same bytes at this moment.
    """
    folder = hashlib.sha256(user.encode()).hexdigest()[:32]
    return f"{folder}/{hashlib.sha256(data).hexdigest()}-{secrets.token_hex(8)}"


def begin(db: Database, key: SessionKey, name: str, size: int, now_ms: int) -> bool:
    """Add a PENDING object of a session. Return False if another process is writing one of it."""
    if db.execute(
        "SELECT 1 FROM objects WHERE user = ? AND machine = ? AND session = ? AND state = ?",
        (*key, ObjectState.PENDING),
    ).fetchone():
        return False
    db.execute(
        "INSERT INTO objects (name, user, machine, session, bytes, state, made_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (name, *key, size, ObjectState.PENDING, now_ms),
    )
    return True


def commit(db: Database, name: str) -> int | None:
    """Make a PENDING object LIVE and return its number; None if it is not PENDING any more."""
    row = db.execute(
        "UPDATE objects SET state = ? WHERE name = ? AND state = ? RETURNING object",
        (ObjectState.LIVE, name, ObjectState.PENDING),
    ).fetchall()
    return int(row[0][0]) if row else None


def abandon(db: Database, name: str) -> None:
    """Make a PENDING object ABANDONED. Its writer failed, but the object store may still receive it."""
    db.execute(
        "UPDATE objects SET state = ? WHERE name = ? AND state = ?", (ObjectState.ABANDONED, name, ObjectState.PENDING)
    )


def erase(db: Database, key: SessionKey) -> None:
    """Make all objects of an erased session DEAD or ABANDONED."""
    db.execute(
        f"UPDATE objects SET state = CASE state WHEN {ObjectState.PENDING:d} THEN {ObjectState.ABANDONED:d}"
        f" WHEN {ObjectState.LIVE:d} THEN {ObjectState.DEAD:d} ELSE state END"
        " WHERE user = ? AND machine = ? AND session = ?",
        key,
    )


def left_of(db: Database, user: str, session: str) -> tuple[list[Dead], int]:
    """Return the DEAD objects of a session on all machines, and the number of its ABANDONED ones."""
    rows = db.execute(
        "SELECT object, name, state FROM objects WHERE user = ? AND session = ? AND state IN (?, ?)",
        (user, session, ObjectState.DEAD, ObjectState.ABANDONED),
    ).fetchall()
    dead = [Dead(number, name) for number, name, state in rows if state == ObjectState.DEAD]
    return dead, len(rows) - len(dead)


def any_unfinished(db: Database) -> bool:
    """Return whether any object is not LIVE."""
    return db.execute("SELECT 1 FROM objects WHERE state <> 1 LIMIT 1").fetchone() is not None


def end_leases(db: Database, now_ms: int) -> None:
    """Make the objects DEAD whose writers have ended."""
    db.execute(
        "UPDATE objects SET state = ? WHERE state <> 1 AND state <> ? AND made_ms < ?",
        (ObjectState.DEAD, ObjectState.DEAD, now_ms - LEASE_MS),
    )


def dead(db: Database, limit: int) -> list[Dead]:
    """Return up to `limit` DEAD objects."""
    rows = db.execute(
        "SELECT object, name FROM objects WHERE state <> 1 AND state = ? ORDER BY made_ms LIMIT ?",
        (ObjectState.DEAD, limit),
    )
    return [Dead(number, name) for number, name in rows]


def remove(db: Database, numbers: Sequence[int]) -> None:
    """Remove the rows of deleted objects."""
    db.execute(
        f"DELETE FROM objects WHERE state = ? AND object IN ({placeholders(len(numbers))})",
        (ObjectState.DEAD, *numbers),
    )


def known(db: Database, names: Sequence[str]) -> set[str]:
    """Return those of the names that have a row."""
    rows = db.execute(f"SELECT name FROM objects WHERE name IN ({placeholders(len(names))})", tuple(names))
    return {row[0] for row in rows}


def newest(db: Database) -> tuple[str, int] | None:
    """Return the name and the bytes of the newest LIVE object; None if there is none."""
    row = db.execute(
        "SELECT name, bytes FROM objects WHERE state = ? ORDER BY object DESC LIMIT 1", (ObjectState.LIVE,)
    ).fetchone()
    return None if row is None else (row[0], row[1])
