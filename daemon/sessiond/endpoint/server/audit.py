"""The audit log: each change of rights, and each read of another user's sessions by an administrator.

An entry is written in the transaction of the change. Nothing changes or deletes one: the API has no such request, and
the command line has no such command.
"""

from __future__ import annotations

import os
import pwd

import msgspec

from sessiond import clock
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.store import Store

MAX_TEXT = 1000
"""Characters of a text in an entry."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry: who did what to whom, at which time in unix milliseconds."""

    entry: int
    at_ms: int
    actor: str
    """The name of a token, or the system's user who ran a command."""
    action: str
    subject: str
    """The token, the invitation, the user, the tenant or the machine that it is about."""
    detail: str


def record(db: Database, actor: str, action: str, subject: str, detail: str = "") -> None:
    """Add an entry in the caller's transaction. It has no secrets."""
    db.execute(
        "INSERT INTO audit (at_ms, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)",
        (clock.now_ms(), actor[:MAX_TEXT], action, subject[:MAX_TEXT], detail[:MAX_TEXT]),
    )


def list_entries(store: Store, since_ms: int = 0) -> list[Entry]:
    """Return the entries from a time on, the oldest first."""
    with store.read() as db:
        rows = db.execute(
            "SELECT entry, at_ms, actor, action, subject, detail FROM audit WHERE at_ms >= ? ORDER BY entry",
            (since_ms,),
        )
        return [
            Entry(entry=row[0], at_ms=row[1], actor=row[2], action=row[3], subject=row[4], detail=row[5])
            for row in rows
        ]


def operator() -> str:
    """Return who runs a command: the name of the system's user."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have no name
        name = str(os.getuid())
    return f"command line ({name})"


def shown(value: object) -> str:
    """Return a setting as it is shown: `none` if it was removed."""
    return "none" if value is None else str(value)
