"""Shelley, the coding agent of exe.dev: docs/formats/shelley.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import BaseSource, Memory, Projection, Root, Rows, UserDirs, Watch
from sessiond.sources.content import blocks, note, summary, template, text_of
from sessiond.sources.objects import OBJECT, as_text, encode, get_in, without_nulls
from sessiond.sources.projection import SESSION, session_projection
from sessiond.sources.records import digest, message_role, parse, unknown_type
from sessiond.sources.rows import as_json, column_or, columns, list_with_watermarks, select
from sessiond.sources.tokens import usage

# Messages are only ever added, and not every addition sets the time of the conversation, which has no fractions.
HEADS = """
    SELECT conversation_id, {state} || ' ' ||
        coalesce((SELECT max(sequence_id) FROM messages WHERE conversation_id = conversations.conversation_id), ''),
        updated_at > (SELECT datetime(max(updated_at), '-1 day') FROM conversations)
    FROM conversations
"""
REST = "SELECT count(*) FROM messages WHERE conversation_id = ?"
STATE = columns("created_at updated_at cwd model user_initiated archived tags current_generation")
MESSAGE = columns(
    "message_id sequence_id type created_at generation model_name forked_from_message_id excluded_from_context"
)
JSON = columns("llm_data user_data usage_data other_usage_data")
COPIES = columns("conversation_id forked_from_message_id")
NOTES = frozenset(["error", "warning", "gitinfo", "modelchange"])
KNOWN = NOTES.union(["user", "agent", "tool", "system", "slug"])
ROLES = {"user": Role.USER, "agent": Role.ASSISTANT}
TEXT, THINKING, REDACTED, TOOL_USE, TOOL_RESULT, SERVER_USE, SEARCH_RESULTS, SEARCH_RESULT = range(2, 10)
"""The types of content blocks. The program counts them on from its two roles, so they begin at 2."""
SILENT = ("thinking", "tool_result")


class Shelley(BaseSource):
    """Conversations of Shelley: rows of one database, to which messages are only added."""

    tool: ClassVar[str] = "shelley"
    versions: ClassVar[tuple[str, ...]] = ("August 2026 (schema 36)", "schema 5")
    id_columns: ClassVar[tuple[tuple[str, str], ...]] = (("conversations", "conversation_id"),)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version is stored, and a branch only after it changed",
        "drafts and queued messages, which were not sent yet",
        "who wrote a message (`user_email`), and the requests and answers of the API (`llm_requests`)",
        "the data that only the user interface shows (`display_data`), which repeats the results of tools",
        "a database at another place (`-db`) is not found: add its directory to the roots in the configuration",
    )
    session_like: ClassVar[str] = r"[^/]*\.db(?:\.[\w.-]+)?"
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>shelley\.db)(?:-wal)?")

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the directory of the service's database, which is below ~/.config on every platform."""
        yield Root(path=f"{dirs.home}/.config/shelley", watch=Watch.FLAT, depth=0)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List conversations by their last message and their own fields; deleted rows are found within a day."""
        if database.has("conversations", "updated_at") and database.has("messages", "sequence_id"):
            present = [name for name in (*STATE, "slug") if database.has("conversations", name)]
            state = " || ' ' || ".join(f"coalesce({name}, '')" for name in present)
            yield from list_with_watermarks(database, HEADS.format(state=state), REST)

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project the messages of a conversation, and apart what changes: its folder, model and state."""
        parent = column_or(database, "conversations", "parent_conversation_id")
        for row in list(select(database, "conversations", (*STATE, "slug"), "WHERE conversation_id = ?", native_id)):
            records = list(_records(database, native_id))
            found = database.rows(f"SELECT {parent} FROM conversations WHERE conversation_id = ?", native_id)  # noqa: S608 - our own names
            owner = next((value for (value,) in found), None) or _origin(database, native_id)
            known = Entry(title=row["slug"])
            yield Projection(native_id=native_id, records=records, parent=owner, metadata=known)
            if records:
                yield session_projection(native_id, {name: row[name] for name in STATE})

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a message, or the state.

        A fork keeps number, time and content of the messages that it copies, so these are the key of a message.
        """
        line = parse(OBJECT, record)
        kind, time = as_text(line.get("type")), as_text(line.get("created_at"))
        if kind == SESSION:
            changed = Entry(time_ms=parse_time(as_text(line.get("updated_at"))))
            cwd, model = as_text(line.get("cwd")), as_text(line.get("model"))
            return Entry(time_ms=parse_time(time), cwd=cwd or None, model=model or None, more=(changed,))
        role = ROLES.get(kind or "")
        if role and not _written_by_tool(line):
            role = message_role(role, msgspec.Raw(encode(_content(line))), silent=SILENT)
        else:
            role = None
        copied = _is_copy(line)
        model = as_text(line.get("model_name")) or as_text(get_in(line.get("usage_data"), "model"))
        return Entry(
            time_ms=None if copied else parse_time(time),
            role=role,
            key=f"{line.get('sequence_id')}.{time}.{digest(encode(line.get('llm_data')))}",
            model=None if copied or kind == "slug" else model,
            branch=as_text(get_in(line.get("user_data"), "branch")) if kind == "gitinfo" else None,
            copied=copied,
            unknown=unknown_type(kind, KNOWN),
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a message, and the tokens of the calls of models that it stands for."""
        if not isinstance(record, dict) or record.get("type") == SESSION:
            return
        kind, content = record.get("type"), _content(record)
        author = {"user": Speaker.USER, "agent": Speaker.ASSISTANT, "tool": Speaker.TOOL}.get(str(kind), Speaker.SYSTEM)
        base = template(entry, author)
        if get_in(record.get("user_data"), "distilled") == "true":
            yield summary(text_of(content), base)
        elif kind in NOTES:
            if text := text_of(content) or text_of(get_in(record.get("user_data"), "text")):
                yield note(text, base)
        else:
            yield from blocks(content, replace(base, injected=author is Speaker.USER and not base.counts))
        spent = record.get("other_usage_data")
        for each in [record.get("usage_data"), *(spent if isinstance(spent, list) else [])]:
            yield from usage(each, base, cost=get_in(each, "cost_usd"))


def _origin(database: Rows, native_id: str) -> str | None:
    """Return the conversation that a fork was made of; None if it is no fork, or if that was deleted."""
    if not database.has("messages", *COPIES):
        return None
    copy = "conversation_id = ? AND forked_from_message_id IS NOT NULL ORDER BY sequence_id LIMIT 1"
    row = next(select(database, "messages", COPIES, f"WHERE {copy}", native_id), None)
    clauses = "WHERE message_id = ?"
    found = select(database, "messages", COPIES, clauses, row["forked_from_message_id"]) if row else iter(())
    return next((each["conversation_id"] for each in found), None)


def _records(database: Rows, native_id: str) -> Iterator[bytes]:
    """Iterate the records of the messages, in the order in which they were added."""
    clauses = "WHERE conversation_id = ? ORDER BY sequence_id, rowid"
    for row in select(database, "messages", (*MESSAGE, *JSON), clauses, native_id):
        yield encode(without_nulls({**row, **{name: as_json(row[name]) for name in JSON}}))


def _is_copy(line: Mapping[str, Any]) -> bool:
    """Return whether a fork copied the message, or a compaction, which carries the last messages on."""
    carried = get_in(line.get("user_data"), "compaction_carried") == "true"
    return carried or line.get("forked_from_message_id") is not None


def _written_by_tool(line: Mapping[str, Any]) -> bool:
    """Return whether Shelley wrote the message itself: a summary, a notice, or a copy below a summary."""
    found = line.get("user_data")
    names = ("distilled", "compaction_carried", "cwd_change", "distill_status")
    return isinstance(found, dict) and any(found.get(name) for name in names)


def _content(line: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the content of a message as blocks of a model API."""
    content = get_in(line.get("llm_data"), "Content")
    return [_block(each) for each in content if isinstance(each, dict)] if isinstance(content, list) else []


def _block(block: dict[str, Any]) -> dict[str, Any]:
    kind, inner = block.get("Type"), block.get("ToolResult")
    if kind in (TOOL_USE, SERVER_USE):
        return {
            "type": "tool_use",
            "id": block.get("ID"),
            "name": block.get("ToolName"),
            "input": block.get("ToolInput"),
        }
    if kind in (TOOL_RESULT, SEARCH_RESULTS):
        said = [_block(each) for each in inner if isinstance(each, dict)] if isinstance(inner, list) else []
        failed = block.get("ToolError")
        return {"type": "tool_result", "tool_use_id": block.get("ToolUseID"), "content": said, "is_error": failed}
    if kind in (THINKING, REDACTED):
        return {"type": "thinking", "thinking": block.get("Thinking") or ""}
    if kind == SEARCH_RESULT:
        return {"type": "text", "text": f"{block.get('Title') or ''} {block.get('URL') or ''}".strip()}
    if media := block.get("MediaType"):
        return {"type": "image", "media_type": media, "data": block.get("Data")}
    return {"type": "text", "text": block.get("Text") or ""}


SOURCES = (Shelley(),)
