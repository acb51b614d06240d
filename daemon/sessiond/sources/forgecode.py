"""ForgeCode: docs/formats/forgecode.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import BaseSource, Memory, Projection, Root, Rows, UserDirs, Watch
from sessiond.sources.content import blocks, call, find, result, template, thought
from sessiond.sources.objects import OBJECT, as_text, encode, get_in, without_nulls
from sessiond.sources.projection import SESSION, session_projection
from sessiond.sources.records import parse, unknown_type
from sessiond.sources.rows import as_bytes, as_json, columns, select
from sessiond.sources.tokens import usage

# Both are covered by an index. The rows have the whole conversation before the time, and to read past it takes long.
IDS = "SELECT rowid, conversation_id FROM conversations"
CHANGED = "SELECT rowid, updated_at FROM conversations WHERE context IS NOT NULL"
ROW = columns("conversation_id title context created_at updated_at metrics")
DIRECTORY = re.compile(r"<current_working_directory>([^<]+)</current_working_directory>")
KNOWN = frozenset(["text", "tool", "image"])
TOKENS = {"input": "prompt_tokens", "output": "completion_tokens", "cached": "cached_tokens"}


class ForgeCode(BaseSource):
    """Conversations of ForgeCode: rows of a database with the whole context of the model in one column."""

    tool: ClassVar[str] = "forgecode"
    variables: ClassVar[tuple[str, ...]] = ("FORGE_CONFIG",)
    versions: ClassVar[tuple[str, ...]] = ("August 2026",)
    id_columns: ClassVar[tuple[tuple[str, str], ...]] = (("conversations", "conversation_id"),)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch or parent is stored; messages have no times",
        "a compaction replaces the messages before it by a summary, in the tool's own database too",
        "the definitions of tools and the settings of the model are not read",
        "copies of files from before an edit (`snapshots`) belong to no session and are not read",
    )
    session_like: ClassVar[str] = r"\.forge[^/]*\.db(?:\.[\w.-]+)?"  # ~/forge may be a project
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>\.forge\.db)(?:-wal)?")

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return FORGE_CONFIG, ~/forge of older versions, and ~/.forge."""
        for path in dirs.with_override("FORGE_CONFIG", f"{dirs.home}/forge", f"{dirs.home}/.forge"):
            yield Root(path=path, watch=Watch.FLAT, depth=0)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List conversations by the time of their last change, which each write sets."""
        if database.has("conversations", "context", "updated_at"):
            changed = dict(database.rows(CHANGED))
            for row, native_id in database.rows(IDS):
                if row in changed:
                    yield native_id, str(changed[row])

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project the messages of a conversation, and apart what changes with each of them."""
        for row in list(select(database, "conversations", ROW, "WHERE conversation_id = ?", native_id)):
            context = parse(OBJECT, as_bytes(row["context"] or "{}"))
            messages = context.get("messages")
            records = [encode(each) for each in messages] if isinstance(messages, list) else []
            head = {"type": "conversation", "id": native_id, "created_at": row["created_at"]}
            head["initiator"] = as_text(context.get("initiator"))
            metadata = Entry(title=row["title"])
            records = [encode(without_nulls(head)), *records] if records else []
            yield Projection(native_id=native_id, records=records, metadata=metadata)
            if records:
                yield session_projection(
                    native_id, {"updated_at": row["updated_at"], "metrics": as_json(row["metrics"])}
                )

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a message, the head, or the state. Only what the user typed has its raw content beside it."""
        line = parse(OBJECT, record)
        match line.get("type"):
            case "conversation":
                return Entry(time_ms=parse_time(as_text(line.get("created_at"))))
            case str(kind) if kind == SESSION:
                return Entry(time_ms=parse_time(as_text(line.get("updated_at"))))
        kind, message = _unwrap(line)
        if kind != "text":
            return Entry(unknown=unknown_type(kind, KNOWN))
        text, model = as_text(message.get("content")) or "", as_text(message.get("model"))
        directory = DIRECTORY.search(text) if message.get("role") == "System" else None
        role = None
        if message.get("role") == "Assistant" and (text.strip() or message.get("tool_calls")):
            role = Role.ASSISTANT
        elif message.get("role") == "User" and text.strip() and message.get("raw_content") is not None:
            role = None if message.get("droppable") else Role.USER
        return Entry(role=role, model=model, cwd=directory[1].strip() if directory else None)

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a message: what was said, thoughts, calls, and the tokens of the answer."""
        kind, message = _unwrap(record) if isinstance(record, dict) and "type" not in record else ("", {})
        if kind == "tool":
            output = message.get("output")
            values = get_in(output, "values")
            said = [_value(each) for each in values] if isinstance(values, list) else []
            block = {"id": message.get("call_id"), "name": message.get("name"), "content": said}
            yield result({**block, "is_error": get_in(output, "is_error")}, template(entry, Speaker.TOOL))
        elif kind == "image":
            yield from blocks({**message, "type": "image"}, template(entry, Speaker.USER))
        elif kind == "text":
            speaker = {"User": Speaker.USER, "Assistant": Speaker.ASSISTANT}.get(str(message.get("role")))
            yield from _text_items(message, template(entry, speaker))
        spent = record.get("usage") if isinstance(record, dict) else None
        counts = {name: _count(get_in(spent, key)) for name, key in TOKENS.items()}
        yield from usage(counts, template(entry), cost=get_in(spent, "cost"), cached_in_input=True)


def _unwrap(line: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the kind of a message and what is in it. Older versions have no wrapper around the two."""
    wrapper = line.get("message", line)
    for kind, message in wrapper.items() if isinstance(wrapper, dict) else ():
        if isinstance(message, dict) and kind != "usage":
            return kind, message
    return "?", {}


def _text_items(message: Mapping[str, Any], base: Item) -> Iterator[Item]:
    details = message.get("reasoning_details")
    for detail in details if isinstance(details, list) else ():
        if text := as_text(get_in(detail, "text")):
            yield thought(text, base)
    # The content is the raw content in a template of the agent.
    yield from blocks(as_text(find(message, "raw_content.Text")) or message.get("content"), base)
    calls = message.get("tool_calls")
    for each in calls if isinstance(calls, list) else ():
        if isinstance(each, dict):
            yield call(each, base)


def _value(value: Any) -> Any:
    """Return a value of an output as a content block."""
    image = get_in(value, "image")
    if isinstance(image, dict):
        return {**image, "type": "image"}
    if isinstance(value, dict):
        return next((text for text in value.values() if isinstance(text, str)), value)
    return "" if value == "empty" else value


def _count(value: Any) -> Any:
    """Return a number of tokens, which is marked as actual or approximate."""
    return next(iter(value.values()), None) if isinstance(value, dict) else value


SOURCES = (ForgeCode(),)
