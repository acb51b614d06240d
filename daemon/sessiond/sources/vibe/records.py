"""What a record of Mistral Vibe says, in all of its stores: formats.md 2.27, field-notes B.2 "Mistral Vibe"."""

from __future__ import annotations

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.records import NONE, ROLES, parse, speaks, unheard

KNOWN = frozenset(["message", "effect", "meta"])  # seen in 3.0.2


class _Record(msgspec.Struct, gc=False):
    """A message of either kind, or what `project` says of the session."""

    type: str = "message"
    id: str | None = None
    message_id: str | None = None
    role: str | None = None
    content: msgspec.Raw = NONE
    tool_calls: list[msgspec.Raw] | None = None
    injected: bool | None = None
    created: float | None = msgspec.field(name="createdAt", default=None)
    time: str | None = None
    cwd: str | None = None
    branch: str | None = None
    model: str | None = None
    parent: str | None = None
    title: str | None = None


RECORD = msgspec.json.Decoder(_Record)


def entry_of(record: bytes) -> Entry:
    """Tell what a message says. In 2.x it has no time: the description has the first and the last."""
    said = parse(RECORD, record)
    role = None if said.injected or said.type != "message" else ROLES.get(said.role or "")
    if role and not said.tool_calls and not speaks(said.content, silent=("thinking", "reasoning")):
        role = None
    return Entry(
        time_ms=parse_time(said.time or said.created),
        role=role,
        key=said.message_id or said.id,
        model=said.model,
        cwd=said.cwd,
        # "HEAD" where none is checked out (formats.md 2.27).
        branch=None if said.branch == "HEAD" else said.branch,
        parent=said.parent,
        title=said.title if said.type == "meta" else None,
        unknown=unheard(said.type, KNOWN),
    )
