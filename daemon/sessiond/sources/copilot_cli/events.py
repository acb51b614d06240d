"""The events of Copilot CLI and what they say: formats.md 2.6, field-notes A.6."""

from __future__ import annotations

import msgspec

from sessiond.session import Entry, Role
from sessiond.sources.base import Memory
from sessiond.sources.records import NONE, parse, speaks

WORDS = (
    "session user assistant system tool subagent model hook skill abort permission external_tool user_input"
    " elicitation plan commands mcp sampling exit_plan_mode pending_messages capabilities"
)
FAMILIES = frozenset(WORDS.split())


class _Context(msgspec.Struct, gc=False):
    cwd: str | None = None
    branch: str | None = None


class _Data(msgspec.Struct, gc=False, rename="camel"):
    copilot_version: str | None = None
    start_time: str | None = None
    selected_model: str | None = None
    new_model: str | None = None
    context: _Context | None = None
    message_id: str | None = None
    model: str | None = None
    content: msgspec.Raw = NONE


class _Event(msgspec.Struct, gc=False, rename="camel"):
    """An event; without a type what workspace.yaml says of the session."""

    type: str = ""
    id: str | None = None
    timestamp: str | None = None
    agent_id: str | None = None
    data: _Data | None = None
    cwd: str | None = None
    branch: str | None = None
    name: str | None = None


EVENT = msgspec.json.Decoder(_Event)


def entry_of(record: bytes, memory: Memory) -> Entry:
    """Tell what an event says. Subagents' are in the same file, marked by `agentId`, and do not count."""
    event = parse(EVENT, record)
    if not event.type:
        return Entry(cwd=event.cwd, branch=event.branch, title=event.name)
    data, time = event.data or _Data(), event.timestamp
    if event.type in ("session.start", "session.resume"):
        memory["model"] = data.selected_model or memory.get("model")
        return _opened(data, time)
    if not event.agent_id and event.type == "session.model_change":
        memory["model"] = data.new_model
    if not event.agent_id and speaks(data.content):
        if event.type == "user.message":
            return Entry(time=time, role=Role.USER, key=event.id)
        if event.type == "assistant.message":
            model = data.model or memory.get("model")
            return Entry(time=time, role=Role.ASSISTANT, key=data.message_id or event.id, model=model)
    known = event.type.split(".")[0] in FAMILIES
    ended = event.type == "session.shutdown"
    return Entry(time=time, ended=ended, unknown=None if known else event.type[:40])


def _opened(data: _Data, time: str | None) -> Entry:
    """Tell where and with what a session was begun or taken up again."""
    where = data.context or _Context()
    return Entry(
        time=time,
        version=data.copilot_version,
        cwd=where.cwd,
        branch=where.branch,
        model=data.selected_model,
        more=(Entry(time=data.start_time),) if data.start_time else (),
    )
