"""Amazon Q Developer CLI and its successor, Kiro's command line: formats.md 2.19."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Memory, Places, Portrait, Root, Rows, Watch
from sessiond.sources.kiro.exchanges import entry_of
from sessiond.sources.objects import OBJECT, encode, inner
from sessiond.sources.records import parse
from sessiond.sources.rows import as_json, select

OLD, NEW = "conversations", "conversations_v2"
OWN = "iif(json_valid(value), json_extract(value, '$.conversation_id'), NULL)"
# One id may stand under several directories: the newest row wins.
LISTED = {
    OLD: f"SELECT coalesce({OWN}, key), rowid, length(value), 0 FROM {OLD}",  # noqa: S608
    NEW: f"SELECT conversation_id, rowid, length(value), updated_at FROM {NEW} ORDER BY updated_at",  # noqa: S608
}
WHICH = {OLD: f"WHERE ? IN (key, {OWN}) LIMIT 1", NEW: "WHERE conversation_id = ? ORDER BY updated_at DESC LIMIT 1"}


class AmazonQ(BaseSource):
    """Conversations of the command line, one for each directory: the next one there overwrites it."""

    tool: ClassVar[str] = "amazon-q"
    versions: ClassVar[tuple[str, ...]] = ("1 (April 2026)",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch, title or parent is stored",
        "what compaction took away before it was seen",
    )
    folder: ClassVar[str] = "amazon-q"
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>data\.sqlite3)(?:-wal)?")
    timeless: ClassVar[bool] = True
    local_ids: ClassVar[bool] = True  # of one without an id of its own the directory is the name

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the application's data (formats.md 2.19 Directory)."""
        yield Root(path=f"{places.data}/{self.folder}", watch=Watch.FLAT, depth=0)

    def _tables(self, database: Rows) -> Iterator[str]:
        """Name the tables of conversations. Another one holds the user's tokens (formats.md 1.8)."""
        columns = {OLD: ("key", "value"), NEW: ("key", "value", "conversation_id", "updated_at")}
        yield from (table for table in columns if database.has(table, *columns[table]))

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List the conversations."""
        found = {}
        for table in self._tables(database):
            for name, row, size, changed in database.rows(LISTED[table]):
                found[name] = f"{row} {size} {changed}"
        return found.items()

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Lay out a conversation as its head and an exchange a record; compaction takes old ones away."""
        columns, rows = ("key", "value", "created_at", "updated_at"), list[dict[str, Any]]()
        for table in self._tables(database):
            rows = list(select(database, table, columns, WHICH[table], native_id)) or rows
        for row in rows:
            said = parse(OBJECT, bytes(as_json(row["value"]) or b""))
            history = said.get("history")
            if isinstance(history, list) and history:
                model = said.get("model") or inner(said, "model_info", "model_id")
                head = {
                    "conversation_id": native_id,
                    "cwd": row["key"],
                    "model": model,
                    "created_at": row["created_at"],
                }
                yield Portrait(native_id=native_id, records=[encode(head), *map(encode, history)])
                if updated := row["updated_at"]:
                    yield Portrait(native_id=native_id, records=[encode({"updated_at": updated})], stream="times")

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an exchange says."""
        return entry_of(record, memory)


class Kiro(AmazonQ):
    """Conversations of Kiro's command line, as far as they are in its database, which has times."""

    tool: ClassVar[str] = "kiro"
    versions: ClassVar[tuple[str, ...]] = ("CLI of 2026 (conversations_v2)",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch, title or parent is stored",
        "the editor's chats and the command line's files in ~/.kiro: their layout is not described well enough",
    )
    folder: ClassVar[str] = "kiro-cli"
    timeless: ClassVar[bool] = False
