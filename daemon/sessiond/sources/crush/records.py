"""What a row of Crush says (formats.md 2.22 message_count)."""

from __future__ import annotations

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.records import NONE, ROLES, parse, unheard

KNOWN = frozenset(["session", "user", "assistant", "tool", "system"])


class _Text(msgspec.Struct, gc=False):
    text: str | None = None


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    data: msgspec.Raw = NONE


class _Line(msgspec.Struct, gc=False):
    """A message, or without a role what is known of the session."""

    id: str | None = None
    role: str | None = None
    model: str | None = None
    created_at: int | None = None
    finished_at: int | None = None
    is_summary_message: int | None = None
    parts: list[_Part] = []
    parent_session_id: str | None = None


LINE, TEXT = msgspec.json.Decoder(_Line), msgspec.json.Decoder(_Text)


def entry_of(record: bytes) -> Entry:
    """Tell what a row says: a prompt or an answer has a text part and is no summary."""
    line = parse(LINE, record)
    texts = (parse(TEXT, bytes(part.data)).text for part in line.parts if part.type == "text")
    finished = Entry(time_ms=parse_time(line.finished_at))
    return Entry(
        time_ms=parse_time(line.created_at),
        role=ROLES.get(line.role or "") if not line.is_summary_message and any(texts) else None,
        key=line.id,
        model=line.model if line.role == Role.ASSISTANT else None,
        parent=line.parent_session_id,
        unknown=unheard(line.role or "session", KNOWN),
        more=(finished,) if line.finished_at else (),
    )
