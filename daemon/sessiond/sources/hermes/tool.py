"""Hermes Agent: formats.md 3; its tables as hermes_state.py of NousResearch/hermes-agent makes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Rows, Watch
from sessiond.sources.hermes.rows import portraits_of, sessions_of
from sessiond.sources.records import ROLES, digest_of, parse, unheard

# What Hermes says in the user's name, by itself; it has a line of its own above what it adds to a prompt.
INJECTED = re.compile(r"\[(?:ASYNC DELEGATION |(?:IMPORTANT: )?Background process |CONTEXT COMPACTION )")
KNOWN = frozenset(["user", "assistant", "tool", "system", "session_meta"])


class _Line(msgspec.Struct, gc=False):
    """A message, or without a role what is known of the session."""

    role: str | None = None
    content: str | None = None
    timestamp: float | None = None
    origin: float | None = None
    active: int | None = None
    compacted: int | None = None
    started_at: float | None = None
    cwd: str | None = None
    parent_session_id: str | None = None


LINE = msgspec.json.Decoder(_Line)


class Hermes(BaseSource):
    """Sessions of Hermes Agent, whatever they come from: the command line, or a chat."""

    tool: ClassVar[str] = "hermes"
    versions: ClassVar[tuple[str, ...]] = ("2026", "0.19.0")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch is kept by the command line, and a folder only where the table has a column for it",
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
        return sessions_of(database)

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Project a session's row and messages; one that nobody has said anything in is none yet."""
        return portraits_of(database, native_id)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a row says: a message counts with text, unless a rewind took it back."""
        line = parse(LINE, record)
        if line.role is None:
            return Entry(time_ms=parse_time(line.started_at), cwd=line.cwd, parent=line.parent_session_id)
        # What compaction archives in its place is no more active, and was said all the same.
        shown = line.active != 0 or line.compacted
        said = (line.content or "").strip()
        role = ROLES.get(line.role) if shown and said and not INJECTED.match(said) else None
        key = f"{line.origin or line.timestamp}.{digest_of(line.content or '')}"
        return Entry(time_ms=parse_time(line.timestamp), role=role, key=key, unknown=unheard(line.role, KNOWN))
