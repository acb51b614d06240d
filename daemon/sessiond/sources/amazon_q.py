"""Amazon Q Developer CLI: docs/formats/amazon-q.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import DATABASES, BaseSource, Memory, Projection, Root, Rows, UserDirs, Watch
from sessiond.sources.content import call, result, template
from sessiond.sources.objects import OBJECT, as_text, encode, get_in
from sessiond.sources.projection import SESSION, session_projection
from sessiond.sources.records import parse
from sessiond.sources.rows import as_json, select

OLD, NEW = "conversations", "conversations_v2"
OWN_ID = "iif(json_valid(value), json_extract(value, '$.conversation_id'), NULL)"
# In the newer table an id may have several rows, one per directory: the newest one is listed last and wins.
LIST = {
    OLD: f"SELECT coalesce({OWN_ID}, key), rowid, length(value), 0 FROM {OLD}",  # noqa: S608
    NEW: f"SELECT conversation_id, rowid, length(value), updated_at FROM {NEW} ORDER BY updated_at",  # noqa: S608
}
ROW = {OLD: f"WHERE ? IN (key, {OWN_ID}) LIMIT 1", NEW: "WHERE conversation_id = ? ORDER BY updated_at DESC LIMIT 1"}
COLUMNS = ("key", "value", "created_at", "updated_at")
# What changes of a conversation: its summary after a compaction, a prompt without an answer, the use of each turn.
STATE = ("latest_summary", "next_message", "model_info", "user_turn_metadata")
OTHER_STREAMS = frozenset([SESSION, "transcript"])


class AmazonQ(BaseSource):
    """Conversations of the command line, one for each directory: the next one there overwrites it."""

    tool: ClassVar[str] = "amazon-q"
    versions: ClassVar[tuple[str, ...]] = ("1 (April 2026)",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch, title or parent is stored",
        "exchanges that compaction removed before they were captured are in the tool's own transcript, as text only",
        "the descriptions of tools and the files in context, which repeat for each conversation",
    )
    session_like: ClassVar[str] = DATABASES
    projection_version: ClassVar[int] = 2
    folder: ClassVar[str] = "amazon-q"
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>data\.sqlite3)(?:-wal)?")
    timeless: ClassVar[bool] = True
    local_ids: ClassVar[bool] = True  # a conversation without an id is named after its directory

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the application's data directory."""
        yield Root(path=f"{dirs.data}/{self.folder}", watch=Watch.FLAT, depth=0)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List the conversations."""
        found = {}
        for table in _tables(database):
            for name, row, size, changed in database.rows(LIST[table]):
                found[name] = f"{row} {size} {changed}"
        return found.items()

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project a conversation: its own fields, then an exchange a record. Compaction removes old exchanges."""
        rows = list[dict[str, Any]]()
        for table in _tables(database):
            rows = list(select(database, table, COLUMNS, ROW[table], native_id)) or rows
        for row in rows:
            conversation = parse(OBJECT, bytes(as_json(row["value"]) or b""))
            history = conversation.get("history")
            if isinstance(history, list) and history:
                head = {
                    "conversation_id": native_id,
                    "cwd": row["key"],
                    "model": conversation.get("model") or get_in(conversation, "model_info", "model_id"),
                    "created_at": row["created_at"],
                }
                yield Projection(native_id=native_id, records=[encode(head), *map(encode, history)])
                yield session_projection(native_id, {name: conversation.get(name) for name in STATE})
                yield _transcript(native_id, conversation.get("transcript"))
                if updated := row["updated_at"]:
                    yield Projection(native_id=native_id, records=[encode({"updated_at": updated})], stream="times")

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode an exchange: a prompt, unless it has only tool results, and an answer."""
        exchange = parse(OBJECT, record)
        if exchange.get("type") in OTHER_STREAMS:
            return None
        if "user" not in exchange and "assistant" not in exchange:
            memory["id"] = as_text(exchange.get("conversation_id")) or memory.get("id")
            memory["model"] = as_text(exchange.get("model")) or memory.get("model")
            time_ms = parse_time(exchange.get("created_at") or exchange.get("updated_at"))
            return Entry(time_ms=time_ms, cwd=as_text(exchange.get("cwd")))
        user, assistant, meta = exchange.get("user"), exchange.get("assistant"), exchange.get("request_metadata")
        number = memory["count"] = memory.get("count", 0) + 1
        key = as_text(_get_in_kind(assistant, "message_id")) or f"{memory.get('id')}.{number}"
        model = as_text(get_in(meta, "model_id")) or memory.get("model")
        started = parse_time(get_in(meta, "request_start_timestamp_ms"))
        ended = parse_time(get_in(meta, "stream_end_timestamp_ms"))
        answer = Entry(time_ms=ended, role=Role.ASSISTANT, key=key, model=model) if assistant else Entry()
        time_ms = parse_time(as_text(get_in(user, "timestamp"))) or started
        if not _is_prompt(user):
            return Entry(time_ms=time_ms, more=(answer,))
        return Entry(time_ms=time_ms, role=Role.USER, key=key, more=(answer,))

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of an exchange: the prompt or the results of tools, then the answer and its calls."""
        asked, prompt = get_in(record, "user", "content"), template(entry, Speaker.USER)
        if text := as_text(_get_in_kind(asked, "prompt")):
            yield replace(prompt, text=text)
        for each in _get_in_kind(asked, "tool_use_results") or ():
            yield result(each, replace(prompt, key=None))
        reply, answer = record.get("assistant"), template(entry.more[0] if entry.more else Entry(), Speaker.ASSISTANT)
        if text := as_text(_get_in_kind(reply, "content")):
            yield replace(answer, text=text)
        for each in _get_in_kind(reply, "tool_uses") or ():
            yield call(each, answer)


def _tables(database: Rows) -> Iterator[str]:
    """Iterate over the tables of conversations. The database also has a table of tokens, which is never read."""
    columns = {OLD: ("key", "value"), NEW: ("key", "value", "conversation_id", "updated_at")}
    yield from (table for table in columns if database.has(table, *columns[table]))


def _transcript(native_id: str, texts: Any) -> Projection:
    """Project the texts that the tool shows to its user, which stay when a compaction removes exchanges."""
    records = [encode({"type": "transcript", "text": text}) for text in texts] if isinstance(texts, list) else []
    return Projection(native_id=native_id, records=records, stream="transcript")


def _is_prompt(user: Any) -> bool:
    """Return whether a user's message is a prompt and not only tool results; cancelling a tool may add a prompt."""
    content = get_in(user, "content")
    kind = next(iter(content), "") if isinstance(content, dict) else ""
    return isinstance(user, dict) and ("Tool" not in kind or bool(as_text(_get_in_kind(content, "prompt"))))


def _get_in_kind(value: Any, key: str) -> Any:
    """Return a field of a value that is wrapped in its kind: {"ToolUse": {key: ...}}."""
    return get_in(next(iter(value.values()), None), key) if isinstance(value, dict) else None


SOURCES = (AmazonQ(),)
