"""The sessions that have streams but no record, which no other list names.

A record may be missing for good: the endpoint refused it, or the machine that had it is lost. Without this list, the
bytes could be read only by a client that knows the session's id.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from sessiond.endpoint.server import streams
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.pages import PAGE, decode_token, encode_token
from sessiond.endpoint.wire import UnlistedAnswer, UnlistedSession

_GENERATION_SIZE = 128
"""Bytes of a stream's position as JSON, without its name."""


class _After(msgspec.Struct, frozen=True, array_like=True):
    machine: str
    session: str


def list_unlisted(db: Database, user: str, after: str | None, limit: int) -> UnlistedAnswer:
    """Return a page of the user's sessions without a record, by machine and id.

    A page ends after `limit` sessions or PAGE bytes, but has one session.

    Raises:
        UnknownPageToken: this endpoint did not issue `after`.
    """
    position = _After("", "") if after is None else decode_token(after, _After)
    rows = db.execute(
        "SELECT DISTINCT machine, session FROM streams WHERE user = ? AND (machine, session) > (?, ?)"
        " AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.user = streams.user"
        " AND sessions.machine = streams.machine AND sessions.session = streams.session)"
        " ORDER BY machine, session LIMIT ?",
        (user, position.machine, position.session, limit + 1),
    )
    found: list[UnlistedSession] = []
    size = 0
    for machine, session in rows:
        held = streams.current(db, user, machine, session)
        size += sum(len(each.name.encode()) + _GENERATION_SIZE for each in held)
        if found and (len(found) == limit or size > PAGE):
            last = found[-1]
            return UnlistedAnswer(sessions=found, next=encode_token(_After(last.machine_id, str(last.session))))
        found.append(UnlistedSession(machine_id=machine, session=UUID(session), held=held))
    return UnlistedAnswer(sessions=found, next=None)
