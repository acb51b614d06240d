"""Reads OpenCode's messages and parts as items: docs/formats/opencode.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from sessiond.session import Entry, Item, ItemKind, Speaker, parse_time
from sessiond.sources.content import (
    blocks,
    call,
    find,
    media,
    name_of,
    note,
    result,
    speaker_of,
    template,
    text_of,
    thought,
)
from sessiond.sources.memory import Memory
from sessiond.sources.tokens import usage


def read_items(record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
    """Iterate the items of a message or a part. What a message says of itself is kept for its parts."""
    counted = next((each for each in (entry, *entry.more) if each.role is not None), Entry())
    if record.get("messageID"):
        role, time_ms, key, model = memory.get("items.message") or ("system", None, None, None)
        base = replace(template(counted, speaker_of(role)), key=counted.key or key, model=model)
        yield from _part(record, replace(base, time_ms=parse_time(find(record, "time.start")) or time_ms))
        return
    role = record.get("role") or record.get("type")
    if role is None:
        return
    key = f"{find(record, 'time.created')}.{find(record, 'time.completed') or ''}"
    model = name_of(find(record, "modelID", "model.modelID", "model.id"))
    memory["items.message"] = [role, entry.time_ms, name_of(record.get("id")) if key == "None." else key, model]
    base = template(counted, speaker_of(role))
    base = replace(base, time_ms=entry.time_ms, model=base.model or model, key=counted.key)
    if "role" not in record:  # a message of the event model has its content itself
        injected = base.speaker is Speaker.USER and not base.counts
        yield from blocks(find(record, "content", "text"), replace(base, injected=injected))
    if role == "assistant":
        answer = replace(base, key=name_of(record.get("id")))
        yield from usage(record.get("tokens"), answer, cost=record.get("cost"))


def _part(part: dict[str, Any], base: Item) -> Iterator[Item]:
    kind = part.get("type")
    if kind == "text" and part.get("text"):
        yield replace(base, text=text_of(part["text"]), injected=bool(part.get("synthetic") or part.get("ignored")))
    elif kind == "reasoning" and part.get("text"):
        yield thought(text_of(part["text"]), base)
    elif kind == "tool":
        made = {"id": part.get("callID"), "name": part.get("tool"), "input": find(part, "state.input")}
        yield replace(call(made, base), stream=name_of(find(part, "state.metadata.sessionId")))
        if output := find(part, "state.output", "state.error"):
            failure = find(part, "state.status") == "error"
            yield result({"content": output, "id": part.get("callID"), "is_error": failure}, base)
    elif kind == "file":
        yield replace(base, media=(media(part, "file"),))
    elif kind == "compaction":
        yield note("compacted", base)
    elif kind == "subtask":
        yield replace(base, kind=ItemKind.NOTE, text=text_of(find(part, "prompt", "description")))
