"""OpenHands, its CLI and the server before it (V0): formats.md 2.26, field-notes B.2 "OpenHands CLI 1.16.0"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit, Watch, parse, speaks

SESSION = re.compile(r"([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/.*)?", re.ASCII | re.DOTALL)
EVENT = re.compile(r"events/(?:event-)?(\d+)(?:-[\w-]+)?\.json", re.ASCII)
# Seen in 1.16.0 (field-notes B.2) and in the SDK's openhands/sdk/event.
KINDS = (
    "SystemPromptEvent MessageEvent ActionEvent ObservationEvent UserRejectObservation AgentErrorEvent PauseEvent"
    " Condensation CondensationRequest CondensationSummaryEvent ConversationStateUpdateEvent ConversationErrorEvent"
    " TokenEvent LLMCompletionLogEvent HookExecutionEvent ACPToolCallEvent InterruptEvent StreamingDeltaEvent"
)
KNOWN = frozenset(KINDS.split())
ROLES = {"user": Role.USER, "agent": Role.ASSISTANT}
NONE = msgspec.Raw(b"")


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = NONE


class _Args(msgspec.Struct, gc=False):
    content: msgspec.Raw = NONE


class _Event(msgspec.Struct, gc=False):
    """An event; `kind` since V1, `action` and `observation` before. Or what `project` says of the conversation."""

    id: str | int | None = None
    timestamp: str | None = None
    source: str | None = None
    kind: str | None = None
    llm_message: _Message | None = None
    action: msgspec.Raw = NONE
    observation: msgspec.Raw = NONE
    args: _Args | None = None
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


class _State(msgspec.Struct):
    """base_state.json, or V0's metadata.json; both hold far more, an API key among it (formats.md 1.8)."""

    agent: _Agent | None = None
    workspace: _Workspace | None = None
    llm_model: str | None = None
    selected_branch: str | None = None
    title: str | None = None


EVENTS = msgspec.json.Decoder(_Event)
STATE = msgspec.json.Decoder(_State)


class OpenHands(BaseSource):
    """Conversations of OpenHands: a directory with a file for each event, left to the rescan."""

    tool: ClassVar[str] = "openhands"
    versions: ClassVar[tuple[str, ...]] = ("0 (V0)", "1.16.0 (CLI)")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version is kept, and a branch before 1.0 only; no parent: subagents are inside of their session",
        "messages of actions are not counted",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the conversations of ~/.openhands and of where its variables say, and the sessions of V0."""
        given = places.environ.get
        own = given("OPENHANDS_CONVERSATIONS_DIR", "").rstrip("/")
        bases = [given("OPENHANDS_PERSISTENCE_DIR", "").rstrip("/"), f"{places.home}/.openhands"]
        found = [own, *(f"{base}/conversations" for base in bases if base), f"{places.home}/.openhands/sessions"]
        for path in dict.fromkeys(filter(None, found)):
            yield Root(path=path, watch=Watch.SCAN, depth=2, skip=frozenset(["event_cache"]))

    def unit(self, relative: str) -> Unit | None:
        """Tell conversations by their directories, whose names are their ids without the dashes."""
        found = SESSION.fullmatch(relative)
        if not found:
            return None
        bare = found[1].replace("-", "")
        native_id = "-".join([bare[:8], bare[8:12], bare[12:16], bare[16:20], bare[20:]])
        return Unit(kind=Kind.FOLDER, path=found[1], native_id=native_id)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out the events in the order of their numbers, and the few fields that the state adds."""
        native_id = unit.native_id or ""
        events = sorted((int(found[1]), name) for name in files if (found := EVENT.fullmatch(name)))
        records = [bytes(msgspec.json.format(files[name], indent=-1)) for _, name in events]
        yield Portrait(native_id=native_id, records=records)
        states = [parse(STATE, files[name]) for name in ("base_state.json", "metadata.json") if name in files]
        notes = [
            {
                "kind": "state",
                "model": (state.agent.llm.model if state.agent and state.agent.llm else None) or state.llm_model,
                "cwd": state.workspace.working_dir if state.workspace else None,
                "branch": state.selected_branch,
                "title": state.title,
            }
            for state in states
        ]
        yield Portrait(native_id=native_id, stream="state", records=map(msgspec.json.encode, notes))

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an event says; times have no zone, they are this machine's (formats.md 2.26)."""
        event = parse(EVENTS, record)
        said, content = event.kind == "MessageEvent", event.llm_message.content if event.llm_message else NONE
        if event.kind is None and bytes(event.action) == b'"message"':
            said, content = True, event.args.content if event.args else NONE
        known = event.kind in KNOWN or event.kind == "state" or bool(bytes(event.action) or bytes(event.observation))
        return Entry(
            time_ms=parse_time(event.timestamp, local=True),
            role=ROLES.get(event.source or "") if said and speaks(content) else None,
            key=None if event.id is None or event.kind is None else str(event.id),
            model=event.model,
            cwd=event.cwd,
            branch=event.branch,
            title=event.title,
            unknown=None if known else event.kind or "?",
        )


SOURCES = (OpenHands(),)
