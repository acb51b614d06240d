"""Qwen Code's own records and what they say: formats.md 2.20, field-notes A.5."""

from __future__ import annotations

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import Memory
from sessiond.sources.gemini.messages import Part
from sessiond.sources.records import unheard

KNOWN = frozenset(["user", "assistant", "tool_result", "system"])


class _Content(msgspec.Struct, gc=False):
    parts: list[Part] = []


class _Payload(msgspec.Struct, gc=False, rename="camel"):
    custom_title: str | None = None
    parent_session_id: str | None = None
    session_id: str | None = None


class Record(msgspec.Struct, gc=False, rename="camel"):
    """A record; one without a uuid is of Gemini's format."""

    uuid: str | None = None
    parent_uuid: str | None = None
    session_id: str | None = None
    timestamp: str | None = None
    type: str = "?"
    subtype: str | None = None
    provenance: str | None = None
    cwd: str | None = None
    version: str | None = None
    git_branch: str | None = None
    model: str | None = None
    message: _Content | None = None
    system_payload: _Payload | None = None
    forked_from: _Payload | None = None
    is_sidechain: bool | None = None


RECORD = msgspec.json.Decoder(Record)


def entry_of(record: Record, memory: Memory) -> Entry:
    """Tell what a record says. A fork copies records with their uuids and times (field-notes A.5 Fork)."""
    payload, fork = record.system_payload or _Payload(), record.forked_from
    parent = payload.parent_session_id if record.subtype == "parent_session" else None
    return Entry(
        time_ms=parse_time(record.timestamp),
        role=_speaker(record, memory),
        key=record.uuid,
        model=record.model if record.type == "assistant" else None,
        version=record.version,
        cwd=record.cwd,
        branch=record.git_branch,
        title=payload.custom_title,
        parent=(fork.session_id if fork else None) or parent,
        native_id=record.session_id,
        rewind=_rewound(record, memory) if record.subtype == "rewind" else None,
        copied=fork is not None,
        unknown=unheard(record.type, KNOWN),
    )


def _speaker(record: Record, memory: Memory) -> Role | None:
    """Tell who said it. Prompts by others are notifications and goals; one typed in the middle of a turn is real."""
    if record.is_sidechain:
        return None
    if record.type == "user" and (record.provenance or record.subtype or "real_user") == "real_user":
        memory.setdefault("turns", []).append([record.parent_uuid or "", record.uuid])
        return Role.USER
    said = record.message.parts if record.message and record.type == "assistant" else []
    return Role.ASSISTANT if any(part.text and not part.thought for part in said) else None


def _rewound(record: Record, memory: Memory) -> str | None:
    """Name the prompt that a rewind goes back behind: its record hangs where that prompt hung (the bundle)."""
    turns = memory.get("turns", [])
    for index, (hung, prompt) in enumerate(turns):
        if hung == (record.parent_uuid or ""):
            memory["turns"] = turns[:index]
            return str(prompt)
    return None
