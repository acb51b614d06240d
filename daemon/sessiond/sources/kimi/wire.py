"""What a line of a wire log says: formats.md 2.27, field-notes B.2 "Kimi CLI 1.49.0"."""

from __future__ import annotations

import re

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import Memory
from sessiond.sources.kimi.history import begin_fork, name_message, undo
from sessiond.sources.kimi.lines import KNOWN, LINE, Body, Line
from sessiond.sources.records import parse, speaker, speaks, unheard

COMMAND = re.compile(rb'"/|"(?:\s|\\[nrt])*<system-reminder>')


def entry_of(record: bytes, memory: Memory) -> Entry:
    """Tell what a line says: a prompt, or of a step that it has said or called something."""
    line = parse(LINE, record)
    kind = line.type or (line.message.type if line.message else None) or ""
    role, key, rewind = _role(kind, line, memory), None, None
    if role:
        key = name_message(role, line.timestamp, memory)
    elif kind == "forked":
        rewind = begin_fork(line.time, memory)
    elif kind == "context.undo":
        rewind = undo(line.count or 0, memory)
    elif kind in ("context.clear", "context.apply_compaction"):
        memory["prompts"] = []
    return Entry(
        time_ms=parse_time(line.timestamp or line.time or line.created_at),
        role=role,
        key=key,
        rewind=rewind,
        model=line.model or line.alias,
        cwd=line.cwd,
        title=line.title,
        parent=line.parent,
        copied=bool(line.copied),
        unknown=unheard(kind, KNOWN),
    )


def _role(kind: str, line: Line, memory: Memory) -> Role | None:
    message = line.message
    body = message.payload if message else None
    if kind in ("TurnBegin", "SteerInput"):
        return Role.USER if body and speaks(body.user_input, injected=COMMAND) else None
    if kind in ("ContentPart", "ToolCall", "StepBegin"):
        return _step(kind, body, memory)
    if kind == "context.append_loop_event" and line.event:
        return _step(line.event.type or "", line.event.part, memory)
    if kind == "context.append_message" and message:
        human = message.role != "user" or message.origin is None or message.origin.kind in (None, "user")
        return speaker(message.role, message.content, silent=("think",), injected=COMMAND) if human else None
    return None


def _step(kind: str, part: Body | None, memory: Memory) -> Role | None:
    """Count a step once, however many parts it has."""
    if kind in ("StepBegin", "step.begin"):
        memory["said"] = False
    elif not memory.get("said"):
        text = part is not None and part.type == "text" and speaks(part.text)
        if kind in ("ToolCall", "tool.call") or text:
            memory["said"] = True
            return Role.ASSISTANT
    return None
