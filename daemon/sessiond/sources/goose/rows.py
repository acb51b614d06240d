"""The tables of Goose, as `session_manager.rs` of aaif-goose/goose makes them (schemas 1 to 15; formats.md 2.17)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sessiond.session import Entry
from sessiond.sources.base import Portrait, Rows
from sessiond.sources.rows import as_json, column, listed

# Row ids only ever grow: a compaction replaces all rows. What is deleted, or changes in a row (whether a message is
# shown), is looked at in sessions of the last day; of the others once a day.
HEADS = """
    SELECT id, printf('%s %s %s %s', updated_at, {title}, {used},
        (SELECT max(id) FROM messages WHERE session_id = sessions.id)),
        updated_at > (SELECT datetime(max(updated_at), '-1 day') FROM sessions) FROM sessions
"""
REST = "SELECT count(*) || ' ' || coalesce(sum(length({shown})), '') FROM messages WHERE session_id = ?"
ROW = "SELECT {title}, {model}, working_dir, created_at, {kind}, {parent} FROM sessions WHERE id = ?"
HEAD = ("working_dir", "created_at", "session_type", "parent_session_id")
MESSAGES = """
    SELECT {id}, role, created_timestamp, content_json, {shown} FROM messages WHERE session_id = ?
    ORDER BY created_timestamp, id
"""
USAGE = """
    SELECT model FROM usage_ledger WHERE session_id = ? AND model > '' GROUP BY model ORDER BY count(*) DESC, 1 LIMIT 1
"""


def _columns(database: Rows) -> dict[str, str]:
    """Tell how the columns that came with schemas 3 to 15 are asked for in this file."""
    used = "(SELECT max(id) FROM usage_ledger WHERE session_id = sessions.id)"
    name, model = "coalesce(nullif(name, ''), description)", "json_extract(model_config_json, '$.model_name')"
    return {
        "title": column(database, "sessions", "name", name, "description"),
        "kind": column(database, "sessions", "session_type"),
        "parent": column(database, "sessions", "parent_session_id"),
        "model": column(database, "sessions", "model_config_json", model),
        "shown": column(database, "messages", "metadata_json"),
        "id": column(database, "messages", "message_id"),
        "used": column(database, "usage_ledger", "model", used),
    }


def sessions_of(database: Rows) -> Iterator[tuple[str, str]]:
    """List sessions with their watermarks."""
    if database.has("sessions", "updated_at", "description") and database.has("messages"):
        columns = _columns(database)
        yield from listed(database, HEADS.format(**columns), REST.format(**columns))


def portraits_of(database: Rows, native_id: str) -> Iterator[Portrait]:
    """Project a session's row and messages; what it says of itself may change, and stands beside the records."""
    columns = _columns(database)
    for title, model, *values in database.rows(ROW.format(**columns), native_id):
        head = dict(zip(HEAD, values, strict=True))
        records = _records(database, MESSAGES.format(**columns), native_id, head)
        told = Entry(title=title, model=_used(database, native_id) or model)
        yield Portrait(native_id=native_id, parent=head["parent_session_id"], records=records, told=told)


def _used(database: Rows, native_id: str) -> str | None:
    used = database.rows(USAGE, native_id) if database.has("usage_ledger", "model") else iter(())
    return next((model for (model,) in used), None)


def _records(database: Rows, query: str, session: str, head: dict[str, object]) -> Iterator[bytes]:
    yield msgspec.json.encode(head)
    for identity, role, created, content, metadata in database.rows(query, session):
        held = {name: as_json(text) for name, text in (("content", content), ("metadata", metadata)) if text}
        yield msgspec.json.encode({"id": identity, "role": role, "created": created} | held)
