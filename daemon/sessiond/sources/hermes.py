"""Hermes Agent: formats.md 3; its tables as hermes_state.py of NousResearch/hermes-agent makes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import (
    BaseSource,
    Kind,
    Memory,
    Places,
    Portrait,
    Root,
    Rows,
    Unit,
    Watch,
    listed,
    parse,
)

STORE = re.compile(r"((?:[^/]+/)?state\.db)(?:-wal)?")
# The time of the last message is found by the index on (session_id, timestamp); rows are counted where it moved, and
# in the sessions of the last day, in which a rewind hides messages.
HEADS = """
    SELECT id, printf('%s %s %s', ended_at, {title}, (SELECT max(timestamp) FROM messages WHERE session_id = s.id)),
    coalesce(ended_at, started_at) > (SELECT max(coalesce(ended_at, started_at)) FROM sessions) - 86400
    FROM sessions s
"""
REST = "SELECT printf('%s %s %s', count(*), sum(length(content)), {hidden}) FROM messages WHERE session_id = ?"
SESSION = "SELECT source, model, parent_session_id, started_at, ended_at, {title}, {cwd} FROM sessions WHERE id = ?"
COLUMNS = ("id", "role", "content", "tool_calls", "tool_name", "timestamp")
MESSAGES = """
    SELECT id, role, content, tool_calls, tool_name, timestamp, {active} FROM messages WHERE session_id = ?
    ORDER BY timestamp, id
"""


class _Line(msgspec.Struct, gc=False):
    """A message, or without a role what is known of the session."""

    role: str | None = None
    content: str | None = None
    timestamp: float | None = None
    active: int | None = None
    started_at: float | None = None
    cwd: str | None = None
    parent_session_id: str | None = None


LINE = msgspec.json.Decoder(_Line)


class Hermes(BaseSource):
    """Sessions of Hermes Agent, whatever they come from: the command line, or a chat."""

    tool: ClassVar[str] = "hermes"
    versions: ClassVar[tuple[str, ...]] = ("2026",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch is read, and a folder only where the table has a column for it",
        "what a session that was begun by compression copies from its parent is counted again",
        "the files in ~/.hermes/sessions of before the database",
    )
    local_ids: ClassVar[bool] = True  # a time and a few random digits

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the home of Hermes and of its profiles, flat: beside the store lie caches, logs and keys."""
        given = places.environ.get("HERMES_HOME", "").rstrip("/")
        for base in dict.fromkeys(filter(None, [given, f"{places.home}/.hermes"])):
            yield Root(path=base, watch=Watch.FLAT, depth=0)
            yield Root(path=f"{base}/profiles", watch=Watch.SCAN, depth=1)

    def unit(self, relative: str) -> Unit | None:
        """Tell the database."""
        found = STORE.fullmatch(relative)
        return Unit(kind=Kind.DATABASE, path=found[1]) if found else None

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List sessions by the index of their messages."""
        if database.has("sessions", "parent_session_id", "ended_at") and database.has("messages", "timestamp"):
            columns = _columns(database)
            yield from listed(database, HEADS.format(**columns), REST.format(**columns))

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Project a session's row and messages; the system's prompt and what the model was given are left out."""
        columns = _columns(database)
        for source, model, parent, started, ended, title, cwd in database.rows(SESSION.format(**columns), native_id):
            head = {"source": source, "parent_session_id": parent, "started_at": started, "cwd": cwd}
            records = self._records(database, MESSAGES.format(**columns), native_id, msgspec.json.encode(head))
            told = Entry(time_ms=parse_time(ended), ended=ended is not None, title=title, model=model)
            yield Portrait(native_id=native_id, parent=parent, records=records, told=told)

    def _records(self, database: Rows, query: str, session: str, head: bytes) -> Iterator[bytes]:
        rows = list(database.rows(query, session))
        if rows:  # a session that nobody has said anything in is none yet
            yield head
        for *values, active in rows:
            yield msgspec.json.encode(dict(zip(COLUMNS, values, strict=True)) | {"active": active})

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a row says: a message counts with text, unless a rewind took it back."""
        line = parse(LINE, record)
        if line.role is None:
            return Entry(time_ms=parse_time(line.started_at), cwd=line.cwd, parent=line.parent_session_id)
        time_ms = parse_time(line.timestamp)
        if line.role not in ("user", "assistant") or not (line.content or "").strip() or line.active == 0:
            known = line.role in ("user", "assistant", "tool", "system", "session_meta")
            return Entry(time_ms=time_ms, unknown=None if known else line.role)
        digest = blake2b((line.content or "").encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return Entry(time_ms=time_ms, role=Role(line.role), key=f"{line.timestamp}.{digest}")


def _columns(database: Rows) -> dict[str, str]:
    """Tell how columns that not every version has are asked for."""
    shown = "active" if database.has("messages", "active") else "NULL"
    # What compaction archives in its place is no more active, and was said all the same.
    if database.has("messages", "active", "compacted"):
        shown = "max(active, compacted)"
    return {
        "title": "title" if database.has("sessions", "title") else "NULL",
        "cwd": "cwd" if database.has("sessions", "cwd") else "NULL",
        "active": shown,
        "hidden": f"sum({shown})",
    }


SOURCES = (Hermes(),)
