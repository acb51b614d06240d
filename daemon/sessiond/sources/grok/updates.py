"""What an update of a session of Grok Build says, and what stands beside the log of them."""

from __future__ import annotations

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import Memory
from sessiond.sources.records import parse, unheard

# The kinds of the Agent Client Protocol, and those of the tool's own that can be met in a session.
KINDS = (
    "user_message_chunk agent_message_chunk agent_thought_chunk tool_call tool_call_update plan current_mode_update"
    " available_commands_update turn_completed rewind_marker compaction_checkpoint background_tasks subagent_spawned"
    " subagent_progress subagent_finished model_changed model_auto_switched session_summary_generated session_recap"
    " last_turn_summary task_backgrounded task_completed auto_compact_started auto_compact_completed"
    " auto_compact_failed auto_compact_cancelled hook_execution hook_annotation goal_updated plan_kept diff_review"
)
KNOWN = frozenset(KINDS.split())
ROLES = {"user_message_chunk": Role.USER, "agent_message_chunk": Role.ASSISTANT}


class _Meta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    event_id: str | None = None
    agent_timestamp_ms: float | None = None
    prompt_id: str | None = None
    stream_start_ms: int | None = None
    model_id: str | None = None
    prompt_index: int | None = None


class _Update(msgspec.Struct, frozen=True, gc=False):
    kind: str = msgspec.field(name="sessionUpdate", default="?")
    meta: _Meta = msgspec.field(name="_meta", default=_Meta())
    target_prompt_index: int | None = None


class _Params(msgspec.Struct, frozen=True, gc=False):
    update: _Update = _Update()
    meta: _Meta = msgspec.field(name="_meta", default=_Meta())


class _Line(msgspec.Struct, gc=False):
    """An update; or (a document's projection) what is known of the session as a whole."""

    params: _Params = _Params()
    timestamp: float | None = None
    info: dict[str, str] | None = None
    created_at: str | None = None
    head_branch: str | None = None
    generated_title: str | None = None
    parent_session_id: str | None = None
    forked_at: str | None = None


LINE = msgspec.json.Decoder(_Line)


def entry_of(record: bytes, memory: Memory) -> Entry:
    """Tell what an update says. A fork copies them whole but for the session's id; chunks of a stream are one."""
    line = parse(LINE, record)
    update, meta = line.params.update, line.params.meta
    if update.kind == "?":
        return Entry(
            time_ms=parse_time(line.created_at),
            cwd=(line.info or {}).get("cwd"),
            branch=line.head_branch,
            title=line.generated_title,
            parent=line.parent_session_id,
            copied=line.forked_at is not None,
        )
    prompts: dict[str, str] = memory.setdefault("prompts", {})
    role, key = ROLES.get(update.kind), f"{meta.event_id}.{meta.agent_timestamp_ms}"
    if role is Role.USER:
        prompts[str(update.meta.prompt_index)], memory["model"] = key, update.meta.model_id
    elif role:
        key = f"{meta.prompt_id}.{meta.stream_start_ms}"
    return Entry(
        time_ms=parse_time(meta.agent_timestamp_ms or line.timestamp),
        role=role,
        key=key,
        model=memory.get("model") if role is Role.ASSISTANT else None,
        rewind=prompts.get(str(update.target_prompt_index)) if update.kind == "rewind_marker" else None,
        unknown=unheard(update.kind, KNOWN),
    )
