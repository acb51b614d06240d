"""Reads the lines of Kimi's wire logs as items: docs/formats/kimi.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from sessiond.session import Entry, Item, Speaker
from sessiond.sources.content import blocks, call, find, name_of, note, result, speaker_of, template, text_of
from sessiond.sources.memory import Memory
from sessiond.sources.messages import calls_beside
from sessiond.sources.tokens import usage


def read_items(record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
    """Iterate the items of a line: of Kimi CLI's wire log, or of Kimi Code's context."""
    message = record.get("message")
    base = template(entry, Speaker.ASSISTANT)
    if isinstance(message, Mapping) and isinstance(message.get("payload"), Mapping):
        yield from _wire_items(str(message.get("type")), message["payload"], base)
    elif record.get("type") == "context.append_message" and isinstance(message, Mapping):
        base = template(entry, speaker_of(message.get("role")))
        injected = base.speaker is Speaker.USER and not base.counts
        if base.speaker is Speaker.TOOL:
            yield result({"content": message.get("content"), "id": message.get("toolCallId")}, base)
            return
        yield from blocks(message.get("content"), replace(base, injected=injected))
        for each in calls_beside(message):
            yield call(each, base)
    elif record.get("type") == "context.append_loop_event":
        yield from _event_items(record.get("event") or {}, replace(base, model=memory.get("items.model")))
    elif record.get("type") == "context.apply_compaction":
        yield note("compacted", base)
    elif record.get("type") == "llm.request":
        memory["items.model"] = name_of(record.get("model"))
    elif record.get("type") == "usage.record":
        yield from usage(record.get("usage"), replace(base, model=memory.get("items.model")))


def _wire_items(kind: str, payload: Mapping[str, Any], base: Item) -> Iterator[Item]:
    if kind in ("TurnBegin", "SteerInput"):
        prompt = replace(base, speaker=Speaker.USER, injected=not base.counts)
        yield from blocks(payload.get("user_input"), prompt)
    elif kind == "ContentPart":
        yield from blocks(payload, base)
    elif kind == "ToolCall":
        yield call(payload, base, "function")
    elif kind == "ToolResult":
        value = payload.get("return_value") or {}
        yield result({**value, "id": payload.get("tool_call_id")}, base)
    elif kind == "StatusUpdate":
        answer = replace(base, key=name_of(payload.get("message_id")))
        yield from usage(payload.get("token_usage"), answer)
    elif kind == "CompactionEnd":
        yield note("compacted", base)


def _event_items(event: Mapping[str, Any], base: Item) -> Iterator[Item]:
    kind = event.get("type")
    if kind == "content.part":
        yield from blocks(event.get("part"), base)
    elif kind == "tool.call":
        yield call(event, base)
    elif kind == "tool.result":
        output = find(event, "result.output", "output", "result", "content")
        yield result({"content": text_of(output), "id": event.get("toolCallId")}, base)
