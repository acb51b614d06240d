"""Sessions of the built-in archive that the spool does not have, such as after the spool was lost."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from sessiond.errors import StateError
from sessiond.state import ARCHIVE

if TYPE_CHECKING:
    from sessiond.endpoint.server.database import Database
    from sessiond.endpoint.wire import StoredSession

BUSY_SECONDS = 2.0
SEPARATE = 50
"""Sessions that are read one by one. Of more, all are read."""
PAGE = 1000


def archived_sessions(directory: str, known: Collection[str]) -> list[StoredSession]:
    """Return the sessions in the archive of a state directory whose ids are not among the known ones.

    The store is read directly: to serve it would take longer than all else of `ls`. Raises: StateError.
    """
    from sessiond.endpoint.server.sqlite_schema import FILE, SqliteDatabase

    address = f"file:{quote(os.path.join(directory, ARCHIVE, FILE))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, factory=SqliteDatabase)) as db:
            rows = db.execute("SELECT user, session FROM sessions").fetchall()
            missing = [(user, session) for user, session in rows if session not in known]
            return _read(db, missing) if missing else []
    except (sqlite3.Error, msgspec.MsgspecError) as error:
        raise StateError(f"the built-in archive can't be read: {error}") from error


def _read(db: Database, missing: list[tuple[str, str]]) -> list[StoredSession]:
    """Return sessions by user and id."""
    from sessiond.endpoint.server.listing import Filter, list_sessions
    from sessiond.endpoint.server.records import View

    if len(missing) <= SEPARATE:
        found = (list_sessions(db, View(user=user), Filter(id=each), None, PAGE) for user, each in missing)
        return [each for some in found for each in some.decoded().sessions]
    wanted, every = {session for _, session in missing}, list["StoredSession"]()
    for user in sorted({user for user, _ in missing}):
        after: str | None = None
        while True:
            answer = list_sessions(db, View(user=user), Filter(), after, PAGE).decoded()
            every += [each for each in answer.sessions if str(each.record.id) in wanted]
            if (after := answer.next) is None:
                break
    return every
