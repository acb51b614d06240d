"""The database that OpenCode has had since 1.2: its sessions, and the rows of one (formats.md 2.8, field-notes B.2)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sessiond.sources.base import Portrait, Rows
from sessiond.sources.objects import encode
from sessiond.sources.opencode.records import HEAD, titled
from sessiond.sources.rows import as_json, listed, select

# A row's columns, and nothing of the tables beside them: account, credential and session_share hold tokens.
SESSION = ("id", "slug", "version", "project_id", "directory", "parent_id", "revert", "title", "time_created")
# Named once: Python 3.14 takes no `?1`, which would name it in each place.
WANTED = "FROM (SELECT ? AS wanted)"
COUNTS = """
    (SELECT count(*) FROM message WHERE session_id = wanted)
    || ' ' || (SELECT count(*) FROM part WHERE session_id = wanted)
"""
# Each change of a session, its messages and parts, a deletion too, is an event with the next number.
BY_EVENTS = """
    SELECT session.id, time_updated || ' ' || seq, seq IS NULL
    FROM session LEFT JOIN event_sequence ON aggregate_id = session.id
"""
# Before there were events, only a prompt moved the time of its session; what came of it wrote rows for hours.
BY_TIMES = "SELECT id, time_updated, time_updated > (SELECT max(time_updated) FROM session) - 86400000 FROM session"
TIMES = """
    coalesce((SELECT max(time_updated) FROM message WHERE session_id = wanted), '')
    || ' ' || coalesce((SELECT max(time_updated) FROM part WHERE session_id = wanted), '')
"""
MESSAGES = "SELECT id, data FROM message WHERE session_id = ? ORDER BY time_created, id"
PARTS = "SELECT id, data FROM part WHERE message_id = ? ORDER BY id"
NEXT = "SELECT id, type, data FROM session_message WHERE session_id = ? ORDER BY seq"


def list_sessions(database: Rows) -> Iterator[tuple[str, str]]:
    """List sessions by their events; versions without them are asked for the times of rows."""
    if database.has("session", "time_updated") and database.has("message") and database.has("part"):
        events = database.has("event_sequence")
        rest = COUNTS if events else f"{COUNTS} || ' ' || {TIMES}"
        yield from listed(database, BY_EVENTS if events else BY_TIMES, " ".join(["SELECT", rest, WANTED]))


def project_session(database: Rows, native_id: str) -> Iterator[Portrait]:
    """Project a session's row, messages and parts, and the messages of the newer event model."""
    for row in list(select(database, "session", SESSION, "WHERE id = ?", native_id)):
        title, created = row.pop("title"), row.pop("time_created")
        row["revert"] = as_json(row["revert"])
        head = {name: value for name, value in zip(HEAD, row.values(), strict=True) if value is not None}
        first = encode({**head, "time": {"created": created}})
        records = _records(database, native_id, first)
        yield Portrait(native_id=native_id, parent=head.get("parentID"), records=records, told=titled(title))


def _records(database: Rows, session: str, first: bytes) -> Iterator[bytes]:
    yield first
    told = set()
    for message, data in list(database.rows(MESSAGES, session)):
        told.add(message)
        yield _line(data, id=message, sessionID=session)
        for part, content in database.rows(PARTS, message):
            yield _line(content, id=part, sessionID=session, messageID=message)
    if database.has("session_message"):
        for message, kind, data in database.rows(NEXT, session):
            if message not in told:  # read both and union by id (formats.md 2.8 Storage)
                yield _line(data, id=message, sessionID=session, type=kind)


def _line(data: str, **first: str | None) -> bytes:
    """Put a row's columns before what its `data` holds: the shape of the older JSON files (field-notes B.2)."""
    own = msgspec.json.encode(first)
    rest = data.encode("utf-8", "replace").replace(b"\n", b" ").strip()
    return own[:-1] + b"," + rest[1:] if rest.startswith(b"{") and rest != b"{}" else own
