"""Amazon Q Developer CLI and its successor, Kiro's command line: formats.md 2.19."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Rows, Unit, Watch, parse

STORE = re.compile(r"(data\.sqlite3)(?:-wal)?")
OLD, NEW = "conversations", "conversations_v2"
OBJECT = msgspec.json.Decoder(dict[str, Any])
encode = msgspec.json.Encoder().encode


class AmazonQ(BaseSource):
    """Conversations of the command line, one for each directory: the next one there overwrites it."""

    tool: ClassVar[str] = "amazon-q"
    versions: ClassVar[tuple[str, ...]] = ("1 (April 2026)",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch, title or parent is stored",
        "what compaction took away before it was seen",
    )
    folder: ClassVar[str] = "amazon-q"
    local_ids: ClassVar[bool] = True  # of one without an id of its own the directory is the name

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the application's data (formats.md 2.19 Directory)."""
        bases = {"darwin": places.config, "win32": places.environ.get("LOCALAPPDATA", places.home)}
        yield Root(path=f"{bases.get(places.platform, places.share)}/{self.folder}", watch=Watch.FLAT, depth=0)

    def unit(self, relative: str) -> Unit | None:
        """Tell the database; that of Amazon Q has no times, so the file's stand in."""
        found = STORE.fullmatch(relative)
        return Unit(kind=Kind.DATABASE, path=found[1], timeless=self.folder == "amazon-q") if found else None

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List the conversations. Another table of the same database holds the user's tokens (formats.md 1.8)."""
        return {name: f"{row} {size} {changed}" for name, row, size, changed in self._list(database)}.items()

    def _list(self, database: Rows) -> Iterable[tuple[str, int, int, int]]:
        if database.has(OLD, "key", "value"):
            own = "iif(json_valid(value), json_extract(value, '$.conversation_id'), NULL)"
            yield from database.rows(f"SELECT coalesce({own}, key), rowid, length(value), 0 FROM {OLD}")  # noqa: S608
        if database.has(NEW, "key", "conversation_id", "value", "updated_at"):
            # One id may stand under several directories: the newest row wins.
            yield from database.rows(
                f"SELECT conversation_id, rowid, length(value), updated_at FROM {NEW} ORDER BY updated_at"  # noqa: S608
            )

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Lay out a conversation as its head and an exchange a record; compaction takes old ones away."""
        for row in self._rows(database, native_id):
            cwd, value, created, updated = row
            said = parse(OBJECT, value if isinstance(value, bytes) else str(value).encode())
            history = said.get("history")
            if isinstance(history, list) and history:
                info = said.get("model_info")
                model = said.get("model") or (info.get("model_id") if isinstance(info, dict) else None)
                head = {"conversation_id": native_id, "cwd": cwd, "model": model, "created_at": created}
                yield Portrait(native_id=native_id, records=[encode(head), *map(encode, history)])
                if updated:
                    yield Portrait(native_id=native_id, records=[encode({"updated_at": updated})], stream="times")

    def _rows(self, database: Rows, native_id: str) -> list[tuple[Any, ...]]:
        if database.has(NEW, "key", "conversation_id", "value", "created_at", "updated_at"):
            sql = f"SELECT key, value, created_at, updated_at FROM {NEW} WHERE conversation_id = ?"  # noqa: S608
            found = sorted(database.rows(sql, native_id), key=lambda row: row[3] or 0)[-1:]
            if found:
                return found
        if not database.has(OLD, "key", "value"):
            return []
        own = "key = ? OR (json_valid(value) AND json_extract(value, '$.conversation_id') = ?)"
        sql = f"SELECT key, value, NULL, NULL FROM {OLD} WHERE {own}"  # noqa: S608
        return list(database.rows(sql, native_id, native_id))[:1]

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an exchange says: two messages, but for a user's that only carries results of tools."""
        said = parse(OBJECT, record)
        if "user" not in said and "assistant" not in said:
            memory["id"] = _str(said.get("conversation_id")) or memory.get("id")
            memory["model"] = _str(said.get("model")) or memory.get("model")
            time_ms = parse_time(said.get("created_at") or said.get("updated_at"))
            return Entry(time_ms=time_ms, cwd=_str(said.get("cwd")))
        user, assistant = said.get("user"), said.get("assistant")
        number = memory["count"] = memory.get("count", 0) + 1
        asked = isinstance(user, dict) and "Tool" not in str(next(iter(_dict(user.get("content"))), ""))
        key, meta = _id(assistant) or f"{memory.get('id')}.{number}", _dict(said.get("request_metadata"))
        model = _str(meta.get("model_id")) or memory.get("model")
        times = [parse_time(meta.get(name)) for name in ("request_start_timestamp_ms", "stream_end_timestamp_ms")]
        answer = Entry(time_ms=times[1], role=Role.ASSISTANT, key=key, model=model) if assistant else Entry()
        began = parse_time(_str(_dict(user).get("timestamp"))) or times[0]
        return Entry(time_ms=began, role=Role.USER if asked else None, key=key if asked else None, more=(answer,))


class Kiro(AmazonQ):
    """Conversations of Kiro's command line, as far as they are in its database."""

    tool: ClassVar[str] = "kiro"
    versions: ClassVar[tuple[str, ...]] = ("CLI of 2026 (conversations_v2)",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch, title or parent is stored",
        "the editor's chats and the command line's files in ~/.kiro: their layout is not described well enough",
    )
    folder: ClassVar[str] = "kiro-cli"


def _id(assistant: Any) -> str | None:
    """Find the message's id, inside the kind that is named around it."""
    inner = next(iter(_dict(assistant).values()), None)
    return _str(_dict(inner).get("message_id"))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


SOURCES = (AmazonQ(), Kiro())
