"""The lines of a rollout of Codex, and how they are read: formats.md 2.2, field-notes A.3."""

from __future__ import annotations

import msgspec

from sessiond.sources.records import NONE

LINES = (
    "session_meta response_item event_msg turn_context compacted world_state token_usage_record"
    " inter_agent_communication_metadata inter_agent_communication"
)
ITEMS = (
    "message reasoning function_call function_call_output custom_tool_call custom_tool_call_output local_shell_call"
    " local_shell_call_output web_search_call image_generation_call ghost_snapshot compaction other"
)
KNOWN, BARE_KNOWN = frozenset(LINES.split()), frozenset(ITEMS.split())


class _Git(msgspec.Struct, gc=False):
    branch: str | None = None


class Part(msgspec.Struct, gc=False):
    """A block of a message's content, or an item of `item_completed`."""

    type: str | None = None
    id: str | None = None
    text: msgspec.Raw = NONE
    content: msgspec.Raw = NONE


class Body(msgspec.Struct, gc=False):
    """A payload; before 0.3x the line itself."""

    type: str | None = None
    id: str | None = None
    timestamp: str | None = None
    role: str | None = None
    content: msgspec.Raw = NONE
    message: msgspec.Raw = NONE
    item: Part | None = None
    turn_id: str | None = None
    model: str | None = None
    cwd: str | None = None
    cli_version: str | None = None
    git: _Git | None = None
    forked_from_id: str | None = None
    parent_thread_id: str | None = None
    history_base: msgspec.Raw = NONE
    source: msgspec.Raw = NONE
    record_type: str | None = None


class Line(msgspec.Struct, gc=False):
    timestamp: str | None = None
    type: str = ""
    payload: Body | None = None


LINE, BARE = msgspec.json.Decoder(Line), msgspec.json.Decoder(Body)
PARTS = msgspec.json.Decoder(list[Part])


def text_of(raw: msgspec.Raw) -> bytes:
    """Read a message's text as its JSON source: a string, or the strings of its blocks one after the other."""
    text = bytes(raw)
    if not text.startswith(b"["):
        return text
    return b"".join(bytes(part.text) for part in PARTS.decode(text))
