"""What a record of OpenCode says: a message counts with its first text, which stands in a part after it."""

from __future__ import annotations

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import Memory
from sessiond.sources.opencode.records import KNOWN, RECORD, Record
from sessiond.sources.records import parse, unheard


def entry_of(record: bytes, memory: Memory) -> Entry | None:
    """Tell what a record says, and remember the message whose parts come next."""
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


def _part(part: Record, memory: Memory) -> Entry:
    pending = memory.get("message")
    says = part.type == "text" and part.text and not part.synthetic and not part.ignored
    entry = _count(memory) if says and pending and pending[0] == part.message_id else Entry()
    return msgspec.structs.replace(entry, time_ms=parse_time(part.time.end), unknown=unheard(part.type, KNOWN))


def _count(memory: Memory) -> Entry:
    """Count the message that is met, once."""
    _, role, key, model = memory.get("message") or ("", "", "", None)
    memory["message"] = None
    return Entry(role=Role(role), key=key, model=model if role == "assistant" else None) if role else Entry()


def _hidden(message: str, memory: Memory) -> bool:
    """Tell whether a revert hides a message: ids ascend with time (formats.md 2.8 message_count)."""
    first, part = memory.get("hidden", ("", ""))
    return bool(first) and (message > first or (message == first and not part))
