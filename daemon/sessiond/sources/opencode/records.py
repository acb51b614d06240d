"""What a record of OpenCode says, whether it was a row or a file (formats.md 2.8, field-notes B.2)."""

from __future__ import annotations

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import Memory, parse

PARTS = "text reasoning file tool step-start step-finish snapshot patch agent retry compaction subtask"
MESSAGES = "user assistant synthetic system shell compaction agent-switched model-switched"
KNOWN = frozenset([*PARTS.split(), *MESSAGES.split()])
UNNAMED = ("New session - ", "Child session - ")
NONE = msgspec.Raw(b"")


class _Time(msgspec.Struct, frozen=True, gc=False):
    created: float | None = None
    completed: float | None = None
    end: float | None = None


class _Ref(msgspec.Struct, gc=False):
    """A model, or a place to revert to."""

    id: str | None = None
    message_id: str | None = msgspec.field(default=None, name="messageID")
    part_id: str | None = msgspec.field(default=None, name="partID")


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None


class _Record(_Part, gc=False):
    id: str = ""
    role: str | None = None
    message_id: str | None = msgspec.field(default=None, name="messageID")
    time: _Time = _Time()
    synthetic: bool | None = None
    ignored: bool | None = None
    summary: msgspec.Raw = NONE
    model_id: str | None = msgspec.field(default=None, name="modelID")
    model: _Ref | None = None
    content: list[_Part] = []
    directory: str | None = None
    parent_id: str | None = msgspec.field(default=None, name="parentID")
    version: str | None = None
    revert: _Ref | None = None


RECORD = msgspec.json.Decoder(_Record)


def titled(title: str | None) -> Entry:
    """Tell the title, unless the tool made it up for want of one."""
    return Entry(title=None if (title or "").startswith(UNNAMED) else title)


def entry_of(record: bytes, memory: Memory) -> Entry | None:
    """Tell what a row says. A message counts with its first text, which stands in a part after it."""
    line = parse(RECORD, record)
    created = parse_time(line.time.created)
    if line.message_id:
        return _part(line, memory)
    if line.role or line.type:
        role = line.role or line.type
        known = role if role in ("user", "assistant") and bytes(line.summary) != b"true" else ""
        model = line.model_id or (line.model.id if line.model and role == "assistant" else None)
        # A fork gives its copies new ids and keeps their times (field-notes B.1.6).
        key = f"{line.time.created}.{line.time.completed or ''}"
        memory["message"] = None if _hidden(line.id, memory) else [line.id, known, key, model]
        said = line.text or any(part.type == "text" and part.text for part in line.content)
        done = Entry(time_ms=parse_time(line.time.completed))
        return Entry(
            time_ms=created,
            unknown=None if line.role or role in KNOWN else role,
            more=(_count(memory), done) if said else (done,),
        )
    if line.revert and line.revert.message_id:
        memory["hidden"] = [line.revert.message_id, line.revert.part_id or ""]
    return Entry(time_ms=created, version=line.version, cwd=line.directory, parent=line.parent_id)


def _part(part: _Record, memory: Memory) -> Entry:
    pending = memory.get("message")
    says = part.type == "text" and part.text and not part.synthetic and not part.ignored
    entry = _count(memory) if says and pending and pending[0] == part.message_id else Entry()
    unknown = None if part.type in KNOWN else part.type or "?"
    return msgspec.structs.replace(entry, time_ms=parse_time(part.time.end), unknown=unknown)


def _count(memory: Memory) -> Entry:
    """Count the message that is met, once."""
    _, role, key, model = memory.get("message") or ("", "", "", None)
    memory["message"] = None
    return Entry(role=Role(role), key=key, model=model if role == "assistant" else None) if role else Entry()


def _hidden(message: str, memory: Memory) -> bool:
    """Tell whether a revert hides a message: ids ascend with time (formats.md 2.8 message_count)."""
    first, part = memory.get("hidden", ("", ""))
    return bool(first) and (message > first or (message == first and not part))
