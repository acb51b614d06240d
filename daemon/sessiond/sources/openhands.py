"""OpenHands, its command line and its server before 1.0 (V0): docs/formats/openhands.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Unit, UserDirs, Watch
from sessiond.sources.content import call, result, speaker_of, template, text_of, thought
from sessiond.sources.messages import content_items
from sessiond.sources.objects import OBJECT, encode, without_nulls
from sessiond.sources.records import ABSENT, UUID, compact, message_role, parse
from sessiond.sources.user_dirs import unique_paths

SESSION = re.compile(rf"([0-9a-f]{{32}}|{UUID})(?:/.*)?", re.ASCII | re.DOTALL)
EVENT_FILE = re.compile(r"events/(?:event-)?(\d+)(?:-[\w-]+)?\.json", re.ASCII)
KINDS = (
    "SystemPromptEvent MessageEvent ActionEvent ObservationEvent UserRejectObservation AgentErrorEvent PauseEvent"
    " Condensation CondensationRequest CondensationSummaryEvent ConversationStateUpdateEvent ConversationErrorEvent"
    " TokenEvent LLMCompletionLogEvent HookExecutionEvent ACPToolCallEvent InterruptEvent StreamingDeltaEvent"
    " state usage"
)
KNOWN = frozenset(KINDS.split())
"""The kinds of events; `state` and `usage` are projections of the conversation's state."""
ROLES = {"user": Role.USER, "agent": Role.ASSISTANT}


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = ABSENT


class _Event(msgspec.Struct, gc=False):
    """An event (named by `kind` since V1, by `action` or `observation` before), or the projected state."""

    id: str | int | None = None
    timestamp: str | None = None
    source: str | None = None
    kind: str | None = None
    llm_message: _Message | None = None
    action: msgspec.Raw = ABSENT
    observation: msgspec.Raw = ABSENT
    args: _Message | None = None
    model: str | None = None
    cwd: str | None = None
    branch: str | None = None
    title: str | None = None


class _Model(msgspec.Struct):
    model: str | None = None


class _Agent(msgspec.Struct):
    llm: _Model | None = None


class _Workspace(msgspec.Struct):
    working_dir: str | None = None


class _Stats(msgspec.Struct):
    """What each use of a model cost: totals, and lists to which each call adds an element."""

    usage_to_metrics: dict[str, dict[str, Any]] = {}


class _State(msgspec.Struct):
    """base_state.json, or V0's metadata.json. Their other fields include settings and an API key."""

    agent: _Agent | None = None
    workspace: _Workspace | None = None
    llm_model: str | None = None
    selected_branch: str | None = None
    title: str | None = None
    stats: _Stats | None = None


EVENT, STATE = msgspec.json.Decoder(_Event), msgspec.json.Decoder(_State)
FACTS = (
    "execution_status max_iterations tags activated_knowledge_skills invoked_skills selected_repository git_provider"
    " trigger created_at accumulated_cost prompt_tokens completion_tokens total_tokens"
)
"""Fields of the state that are kept as they are."""
CALLS = ("costs", "token_usages", "response_latencies")
"""The lists to which each call of a model adds an element."""


CALLED = ("run", "read", "edit", "browse", "browse_interactive", "run_ipython", "write", "call_tool_mcp", "delegate")
"""Actions before 1.0 that call a tool."""


class OpenHands(BaseSource):
    """Conversations of OpenHands: a directory with a file for each event."""

    tool: ClassVar[str] = "openhands"
    variables: ClassVar[tuple[str, ...]] = ("OPENHANDS_CONVERSATIONS_DIR", "OPENHANDS_PERSISTENCE_DIR")
    versions: ClassVar[tuple[str, ...]] = ("0 (V0)", "1.16.0 (CLI)")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version is stored, and a branch before 1.0 only; no parent: subagents are inside of their session",
        "messages of actions are not counted",
        "the settings of the agent, its tools and secrets: they hold keys",
        "TASKS.json is left out, and event_cache/, which repeats the events",
    )
    other_files: ClassVar[tuple[str, ...]] = (r"[^/]+/event_cache/.+",)
    projection_version: ClassVar[int] = 2

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the conversations of ~/.openhands and the directories in variables, and the sessions of V0.

        A conversation has two directories, so thousands of them can be watched. No version writes to those of V0 any
        more.
        """
        own = dirs.from_variable("OPENHANDS_CONVERSATIONS_DIR")
        bases = dirs.with_override("OPENHANDS_PERSISTENCE_DIR", f"{dirs.home}/.openhands")
        conversations = [f"{base}/conversations" for base in bases]
        skip, old = frozenset(["event_cache"]), f"{dirs.home}/.openhands/sessions"
        for path in unique_paths(own, *conversations, old):
            yield Root(path=path, watch=Watch.SCAN if path == old else Watch.TREE, depth=2, skip=skip)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a conversation's directory, whose name is the id, with or without dashes."""
        found = SESSION.fullmatch(relative)
        if not found:
            return None
        bare = found[1].replace("-", "")
        native_id = "-".join([bare[:8], bare[8:12], bare[12:16], bare[16:20], bare[20:]])
        return Unit(kind=Kind.FOLDER, path=found[1], native_id=native_id)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project the events in the order of their numbers, and of the state some fields and the calls of models."""
        native_id = unit.native_id or ""
        events = sorted((int(found[1]), name) for name in files if (found := EVENT_FILE.fullmatch(name)))
        yield Projection(native_id=native_id, records=[compact(files[name]) for _, name in events])
        states = [files[name] for name in ("base_state.json", "metadata.json") if name in files]
        yield Projection(native_id=native_id, stream="state", records=[_state_record(state) for state in states])
        for state in states:
            yield from _usage(native_id, parse(STATE, state).stats or _Stats())

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode an event. Its time has no zone and is local to this machine."""
        event = parse(EVENT, record)
        message = event.llm_message if event.kind == "MessageEvent" else None
        if event.kind is None and bytes(event.action) == b'"message"':
            message = event.args
        known = event.kind in KNOWN or bool(bytes(event.action) or bytes(event.observation))
        return Entry(
            time_ms=parse_time(event.timestamp, local=True),
            role=message_role(event.source, message.content, roles=ROLES) if message else None,
            key=None if event.id is None or event.kind is None else str(event.id),
            model=event.model,
            cwd=event.cwd,
            branch=event.branch,
            title=event.title,
            unknown=None if known else event.kind or "?",
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of an event: an action is a call, an observation its result. Before 1.0 none has a kind."""
        kind, base = record.get("kind"), template(entry, speaker_of(record.get("source")))
        action, observation = record.get("action"), record.get("observation")
        if kind == "MessageEvent" or (kind is None and action == "message"):
            message = record.get("llm_message") if kind else record.get("args")
            yield from content_items(message or {}, base)
        elif kind == "ActionEvent" or (kind is None and action in CALLED):
            acting = replace(base, speaker=Speaker.ASSISTANT)
            yield from (thought(text, acting) for text in [text_of(record.get("thought"))] if text)
            name, number = record.get("tool_name") or action, record.get("tool_call_id") or record.get("id")
            yield call({"name": name, "id": number, "input": action if kind else record.get("args")}, acting)
        elif kind == "ObservationEvent" or (kind is None and observation and record.get("cause") is not None):
            output = observation if kind else record
            yield result({**output, "id": record.get("tool_call_id") or record.get("cause")}, base)


def _usage(native_id: str, stats: _Stats) -> Iterator[Projection]:
    """Project the calls of each use of a model (the agent, its condenser), which are only added to."""
    for name, metrics in stats.usage_to_metrics.items():
        lists = [metrics.get(key) for key in CALLS]
        calls = zip_longest(*(each if isinstance(each, list) else () for each in lists))
        facts = [{"kind": "usage", "usage_id": name, **dict(zip(CALLS, call, strict=True))} for call in calls]
        records = [encode(without_nulls(fact)) for fact in facts]
        yield Projection(native_id=native_id, stream=f"usage-{name}", records=records)


def _totals(stats: _Stats) -> dict[str, Any] | None:
    """Return the totals of each use of a model, without its calls, which would be repeated at each change."""
    uses = stats.usage_to_metrics.items()
    return {name: {key: metrics[key] for key in metrics if key not in CALLS} for name, metrics in uses} or None


def _state_record(content: bytes) -> bytes:
    """Return the fields of a state that are needed, as an event of kind `state`."""
    state, document = parse(STATE, content), parse(OBJECT, content)
    model = state.agent.llm.model if state.agent and state.agent.llm else None
    cwd = state.workspace.working_dir if state.workspace else None
    record: dict[str, Any] = {"kind": "state", "model": model or state.llm_model, "cwd": cwd}
    record |= {"branch": state.selected_branch, "title": state.title, "stats": _totals(state.stats or _Stats())}
    return encode(without_nulls({**record, **{name: document.get(name) for name in FACTS.split()}}))


SOURCES = (OpenHands(),)
