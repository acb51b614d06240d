"""The exchanges of a conversation of Amazon Q's and what they say: formats.md 2.19 message_count."""

from __future__ import annotations

from typing import Any

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import Memory
from sessiond.sources.objects import OBJECT, inner, text
from sessiond.sources.records import parse


def entry_of(record: bytes, memory: Memory) -> Entry:
    """Tell what an exchange says: a prompt, unless it only carries results of tools, and an answer."""
    said = parse(OBJECT, record)
    if "user" not in said and "assistant" not in said:
        memory["id"] = text(said.get("conversation_id")) or memory.get("id")
        memory["model"] = text(said.get("model")) or memory.get("model")
        time_ms = parse_time(said.get("created_at") or said.get("updated_at"))
        return Entry(time_ms=time_ms, cwd=text(said.get("cwd")))
    user, assistant, meta = said.get("user"), said.get("assistant"), said.get("request_metadata")
    number = memory["count"] = memory.get("count", 0) + 1
    key = text(_named(assistant, "message_id")) or f"{memory.get('id')}.{number}"
    model = text(inner(meta, "model_id")) or memory.get("model")
    begun, done = (parse_time(inner(meta, name)) for name in ("request_start_timestamp_ms", "stream_end_timestamp_ms"))
    answer = Entry(time_ms=done, role=Role.ASSISTANT, key=key, model=model) if assistant else Entry()
    time_ms = parse_time(text(inner(user, "timestamp"))) or begun
    if not _asks(user):
        return Entry(time_ms=time_ms, more=(answer,))
    return Entry(time_ms=time_ms, role=Role.USER, key=key, more=(answer,))


def _asks(user: Any) -> bool:
    """Tell a prompt from results of tools; who cancels a tool may say why (`UserMessageContent` in chat/message.rs)."""
    content = inner(user, "content")
    kind = next(iter(content), "") if isinstance(content, dict) else ""
    return isinstance(user, dict) and ("Tool" not in kind or bool(text(_named(content, "prompt"))))


def _named(value: Any, key: str) -> Any:
    """Look into the one object of a value whose kind is named around it."""
    return inner(next(iter(value.values()), None), key) if isinstance(value, dict) else None
