"""What a line of Goose says, whether it was a row or is one of the older files (formats.md 2.17)."""

from __future__ import annotations

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.records import ROLES, digest_of, parse, unheard


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None


class _Metadata(msgspec.Struct, gc=False, rename="camel"):
    user_visible: bool = True


class _Line(msgspec.Struct, gc=False):
    """A message, or without a role what is known of the session."""

    role: str | None = None
    created: float | None = None
    content: list[_Part] = []
    metadata: _Metadata | None = None
    working_dir: str | None = None
    created_at: str | None = None
    description: str | None = None
    parent_session_id: str | None = None
    model: str | None = None


LINE = msgspec.json.Decoder(_Line)


def entry_of(record: bytes) -> Entry:
    """Tell what a line says. Row ids change at a compaction: a message is known by its second and its text."""
    line = parse(LINE, record)
    if line.role is None:
        return Entry(
            time_ms=parse_time(line.created_at),
            cwd=line.working_dir,
            title=line.description,
            parent=line.parent_session_id,
            model=line.model,
        )
    text = "\n".join(part.text for part in line.content if part.type == "text" and part.text)
    shown = line.metadata is None or line.metadata.user_visible
    said = bool(text) and shown and line.role in ROLES
    return Entry(
        time_ms=parse_time(line.created),
        role=ROLES[line.role] if said else None,
        key=f"{line.created}.{digest_of(text)}" if said else None,
        unknown=unheard(line.role, ROLES),
    )
