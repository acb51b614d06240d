"""The lines of Kimi's wire logs, and which types of them are known (formats.md 2.27, field-notes B.2)."""

from __future__ import annotations

import msgspec

from sessiond.sources.records import NONE

# kimi_cli/wire/types.py 1.49; ApprovalRequestResolved is version 1's.
EVENTS = (
    "TurnBegin SteerInput TurnEnd StepBegin StepInterrupted StepRetry CompactionBegin CompactionEnd HookTriggered"
    " HookResolved MCPLoadingBegin MCPLoadingEnd StatusUpdate Notification PlanDisplay BtwBegin BtwEnd SubagentEvent"
    " ContentPart ToolCall ToolCallPart ToolResult ApprovalRequest ApprovalResponse ApprovalRequestResolved"
    " QuestionRequest ToolCallRequest HookRequest"
)
# The durable records of wire protocols 1.1 to 1.5 (formats.md 2.27 kimi-code).
RECORDS = (
    "metadata forked turn.prompt turn.steer turn.cancel turn.ended config.update permission.set_mode"
    " permission.record_approval_result full_compaction.begin full_compaction.cancel full_compaction.complete"
    " micro_compaction.apply plan_mode.enter plan_mode.cancel plan_mode.exit swarm_mode.enter swarm_mode.exit"
    " tools.register_user_tool tools.unregister_user_tool tools.set_active_tools tools.update_store usage.record"
    " context.append_message context.append_loop_event context.clear context.apply_compaction context.undo goal.create"
    " goal.update goal.clear llm.tools_snapshot llm.request mcp.tools_discovered profile.bind"
    " task.started task.terminated token_counting.measured"  # of an import (migration-legacy, wire-writer.ts)
)
KNOWN = frozenset([*EVENTS.split(), *RECORDS.split(), "state"])
"""`state` is a record of our own: what was taken of a state.json."""


class Body(msgspec.Struct, gc=False):
    """A wire message's payload, a loop event's part, or a message."""

    type: str | None = None
    user_input: msgspec.Raw = NONE
    text: msgspec.Raw = NONE
    role: str | None = None
    content: msgspec.Raw = NONE
    origin: Body | None = None
    kind: str | None = None


class Message(msgspec.Struct, gc=False):
    type: str | None = None
    payload: Body | None = None
    part: Body | None = None
    role: str | None = None
    content: msgspec.Raw = NONE
    origin: Body | None = None


class Line(msgspec.Struct, gc=False):
    """A line of either program, or what `project` took from a state.json."""

    type: str | None = None
    timestamp: float | None = None
    time: float | str | None = None
    created_at: float | str | None = None
    message: Message | None = None
    event: Message | None = None
    count: int | None = None
    cwd: str | None = None
    model: str | None = None
    alias: str | None = msgspec.field(name="modelAlias", default=None)
    title: str | None = None
    parent: str | None = None
    copied: bool | None = None


LINE = msgspec.json.Decoder(Line)
