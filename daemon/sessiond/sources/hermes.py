"""Hermes Agent: formats.md 3; its tables as hermes_state.py of NousResearch/hermes-agent makes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Rows, Watch
from sessiond.sources.objects import encode
from sessiond.sources.records import ROLES, digest_of, parse, unheard
from sessiond.sources.rows import column, listed, select

# The time of the last message is found by the index on (session_id, timestamp); rows are counted where it moved, and
# in the sessions of the last day, in which a rewind hides messages.
HEADS = """
    SELECT id, printf('%s %s %s', ended_at, {title}, (SELECT max(timestamp) FROM messages WHERE session_id = s.id)),
    coalesce(ended_at, started_at) > (SELECT max(coalesce(ended_at, started_at)) FROM sessions) - 86400
    FROM sessions s
"""
REST = "SELECT printf('%s %s %s', count(*), sum(length(content)), {shown}) FROM messages WHERE session_id = ?"
SESSION = ("source", "parent_session_id", "started_at", "cwd", "model", "ended_at", "title")
# Neither the system's prompt nor what the model was given beside the talk.
MESSAGE = ("id", "role", "content", "tool_calls", "tool_name", "timestamp", "active", "compacted")
KNOWN = frozenset(["user", "assistant", "tool", "system", "session_meta"])


class _Line(msgspec.Struct, gc=False):
    """A message, or without a role what is known of the session."""

    role: str | None = None
    content: str | None = None
    timestamp: float | None = None
    active: int | None = None
    compacted: int | None = None
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
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>(?:[^/]+/)?state\.db)(?:-wal)?")
    kind: ClassVar[Kind] = Kind.DATABASE

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the home of Hermes and of its profiles, flat: beside the store lie caches, logs and keys."""
        for base in places.homes("HERMES_HOME", f"{places.home}/.hermes"):
            yield Root(path=base, watch=Watch.FLAT, depth=0)
            yield Root(path=f"{base}/profiles", watch=Watch.SCAN, depth=1)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List sessions by the index of their messages."""
        if database.has("sessions", "parent_session_id", "ended_at") and database.has("messages", "timestamp"):
            title = column(database, "sessions", "title")
            shown = column(database, "messages", "active", "sum(active)")
            yield from listed(database, HEADS.format(title=title), REST.format(shown=shown))

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Project a session's row and messages; one that nobody has said anything in is none yet."""
        for head in list(select(database, "sessions", SESSION, "WHERE id = ?", native_id)):
            messages = select(database, "messages", MESSAGE, "WHERE session_id = ? ORDER BY timestamp, id", native_id)
            records = list(map(encode, messages))
            model, title, ended = (head.pop(name) for name in ("model", "title", "ended_at"))
            told = Entry(time_ms=parse_time(ended), ended=ended is not None, title=title, model=model)
            records = [encode(head), *records] if records else []
            yield Portrait(native_id=native_id, parent=head["parent_session_id"], records=records, told=told)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a row says: a message counts with text, unless a rewind took it back."""
        line = parse(LINE, record)
        if line.role is None:
            return Entry(time_ms=parse_time(line.started_at), cwd=line.cwd, parent=line.parent_session_id)
        # What compaction archives in its place is no more active, and was said all the same.
        shown = line.active != 0 or line.compacted
        role = ROLES.get(line.role) if shown and (line.content or "").strip() else None
        key = f"{line.timestamp}.{digest_of(line.content or '')}"
        return Entry(time_ms=parse_time(line.timestamp), role=role, key=key, unknown=unheard(line.role, KNOWN))


SOURCES = (Hermes(),)
