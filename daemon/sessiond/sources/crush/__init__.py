"""Crush: formats.md 2.22, field-notes B.2."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

import msgspec

from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Memory, Places, Portrait, Root, Rows
from sessiond.sources.crush.projects import roots_of
from sessiond.sources.crush.records import entry_of
from sessiond.sources.rows import as_json, listed

# Times are seconds, whatever the schema says: in sessions of the last day the text's length tells two updates of one
# second apart; older ones are looked at once a day. `title-<parent>` is the naming of a session, not one.
HEADS = """
    SELECT id, updated_at, updated_at > (SELECT max(updated_at) FROM sessions) - 86400
    FROM sessions WHERE id NOT LIKE 'title-%'
"""
REST = """
    SELECT printf('%s %s %s', count(*), sum(length(parts)), max(updated_at)) FROM messages WHERE session_id = ?
"""
SESSION = "SELECT parent_session_id, created_at, title FROM sessions WHERE id = ?"
COLUMNS = ("id", "role", "model", "provider", "created_at", "finished_at", "is_summary_message")
MESSAGES = """
    SELECT id, role, model, provider, created_at, finished_at, is_summary_message, parts
    FROM messages WHERE session_id = ? ORDER BY created_at, rowid
"""


class Crush(BaseSource):
    """Sessions of Crush, a database in each project that Crush knows of."""

    tool: ClassVar[str] = "crush"
    versions: ClassVar[tuple[str, ...]] = ("0.90",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch is stored",
        "a store of a project that the list of projects has lost is not found",
    )
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>crush\.db)(?:-wal)?")

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the directory of the list of projects, and the data directories of those."""
        return roots_of(places)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List sessions, agents' own ones included."""
        if database.has("sessions", "parent_session_id") and database.has("messages", "is_summary_message"):
            yield from listed(database, HEADS, REST)

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Project a session's row and messages; what it read and wrote (`files`) is no part of the talk."""
        for parent, created, title in database.rows(SESSION, native_id):
            head = {"id": native_id, "parent_session_id": parent, "created_at": created}
            records = map(msgspec.json.encode, self._records(database, head))
            yield Portrait(native_id=native_id, parent=parent, records=records, told=Entry(title=title))

    def _records(self, database: Rows, head: dict[str, object]) -> Iterator[dict[str, object]]:
        yield head
        for *values, parts in database.rows(MESSAGES, head["id"]):
            yield dict(zip(COLUMNS, values, strict=True)) | {"parts": as_json(parts)}

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a row says."""
        return entry_of(record)


SOURCES = (Crush(),)
