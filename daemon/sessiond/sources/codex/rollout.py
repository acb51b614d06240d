"""What a line of a rollout says: formats.md 2.2, field-notes A.3."""

from __future__ import annotations

import re

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import Memory
from sessiond.sources.codex.lines import BARE, BARE_KNOWN, KNOWN, LINE, Body, text_of
from sessiond.sources.codex.messages import message_of
from sessiond.sources.records import NONE, parse

PARENT = re.compile(rb'"parent_thread_id"\s*:\s*"([^"]+)"')
SAYS = {
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "user_message": Role.USER,
    "agent_message": Role.ASSISTANT,
    "UserMessage": Role.USER,
    "AgentMessage": Role.ASSISTANT,
}


def entry_of(record: bytes | memoryview, memory: Memory) -> Entry:
    """Tell what a line says; the first session_meta is the file's own, and messages count once (see `message_of`)."""
    line = parse(LINE, record)
    kind, time = line.type, line.timestamp
    body = line.payload or parse(BARE, record)
    if kind == "session_meta" or (not kind and body.id and not body.record_type):
        return _opened(body, parse_time(time), memory)
    if body.turn_id and body.turn_id != memory.get("turn"):
        memory.update(turn=body.turn_id, said={})
    if kind == "turn_context":
        memory["model"] = body.model or memory.get("model")
        return Entry(time=time, model=body.model, cwd=body.cwd)
    if kind == "event_msg":
        if body.type == "item_completed" and body.item and body.item.type in SAYS:
            text = text_of(body.item.content)
            return message_of("item", SAYS[body.item.type], text, memory, time=time)
        if body.type in ("user_message", "agent_message"):
            return message_of("told", SAYS[body.type], bytes(body.message), memory, time=time)
        memory["cut"] = memory.get("cut") or body.type == "turn_aborted"
    elif body.type == "message" and body.role in SAYS and not memory.get("heard"):
        text = text_of(body.content)
        return message_of("sent", SAYS[body.role], text, memory, time=time, api_id=body.id or "")
    known = kind in KNOWN or (not line.payload and (kind in BARE_KNOWN or body.record_type))
    return Entry(time=time, unknown=None if known else kind or "?")


def _opened(meta: Body, time_ms: int | None, memory: Memory) -> Entry:
    """Read a session_meta: the first is the file's own, a later one was copied with its parent's history."""
    # Copies and their original name messages alike: after the thread that the history began in.
    pointer = meta.history_base is not NONE
    memory["origin"] = (None if pointer else meta.forked_from_id) or meta.id
    if memory.setdefault("id", meta.id) != meta.id:
        return Entry(time_ms=time_ms, copied=True)
    spawner = PARENT.search(bytes(meta.source))
    parent = meta.forked_from_id or meta.parent_thread_id or (spawner[1].decode() if spawner else None)
    return Entry(
        time_ms=min(filter(None, (parse_time(meta.timestamp), time_ms)), default=None),
        version=meta.cli_version,
        cwd=meta.cwd,
        branch=meta.git.branch if meta.git else None,
        parent=parent if parent != meta.id else None,
        # 0.169 points into the parent's file instead (history_base); older ones copy it, re-stamped.
        copied=bool(meta.forked_from_id) and not pointer,
    )
