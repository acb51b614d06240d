"""The events of OpenHands and what they say: formats.md 2.26, field-notes B.2 "OpenHands CLI 1.16.0"."""

from __future__ import annotations

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.records import NONE, parse, speaker

# Seen in 1.16.0 (field-notes B.2) and in the SDK's openhands/sdk/event; `state` is what `state.py` makes.
KINDS = (
    "SystemPromptEvent MessageEvent ActionEvent ObservationEvent UserRejectObservation AgentErrorEvent PauseEvent"
    " Condensation CondensationRequest CondensationSummaryEvent ConversationStateUpdateEvent ConversationErrorEvent"
    " TokenEvent LLMCompletionLogEvent HookExecutionEvent ACPToolCallEvent InterruptEvent StreamingDeltaEvent state"
)
KNOWN = frozenset(KINDS.split())
ROLES = {"user": Role.USER, "agent": Role.ASSISTANT}


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = NONE


class _Event(msgspec.Struct, gc=False):
    """An event; `kind` since V1, `action` and `observation` before. Or what is noted of the conversation."""

    id: str | int | None = None
    timestamp: str | None = None
    source: str | None = None
    kind: str | None = None
    llm_message: _Message | None = None
    action: msgspec.Raw = NONE
    observation: msgspec.Raw = NONE
    args: _Message | None = None
    model: str | None = None
    cwd: str | None = None
    branch: str | None = None
    title: str | None = None


EVENT = msgspec.json.Decoder(_Event)


def entry_of(record: bytes) -> Entry:
    """Tell what an event says; times have no zone, they are this machine's (formats.md 2.26)."""
    event = parse(EVENT, record)
    message = event.llm_message if event.kind == "MessageEvent" else None
    if event.kind is None and bytes(event.action) == b'"message"':
        message = event.args
    known = event.kind in KNOWN or bool(bytes(event.action) or bytes(event.observation))
    return Entry(
        time_ms=parse_time(event.timestamp, local=True),
        role=speaker(event.source, message.content, roles=ROLES) if message else None,
        key=None if event.id is None or event.kind is None else str(event.id),
        model=event.model,
        cwd=event.cwd,
        branch=event.branch,
        title=event.title,
        unknown=None if known else event.kind or "?",
    )
