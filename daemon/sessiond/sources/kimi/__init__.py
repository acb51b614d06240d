"""Kimi CLI and its successor, Kimi Code: docs/formats/kimi.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import md5
from typing import Any, ClassVar

import msgspec

from sessiond.session import Entry, Item, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, SideFiles, Unit, UserDirs
from sessiond.sources.kimi.items import read_items
from sessiond.sources.objects import OBJECT, encode
from sessiond.sources.records import ABSENT, UUID, has_content, message_role, parse, unknown_type

CLI = re.compile(rf"((?:\w+_)?[0-9a-f]{{32}})/({UUID})/(?:(?:subagents/([\w-]+)/)?wire\.jsonl|(state)\.json)", re.ASCII)
# `ses_<uuid>` is an imported session <uuid> of Kimi CLI; `conv-` is a session of the desktop application.
CODE = re.compile(r"([\w.-]+/((?:session_|ses_|conv-)[\w-]+))/(?:agents/([\w-]+)/wire\.jsonl|(state)\.json)", re.ASCII)
# Kimi CLI 1.49; ApprovalRequestResolved is from wire protocol 1.
EVENTS = (
    "TurnBegin SteerInput TurnEnd StepBegin StepInterrupted StepRetry CompactionBegin CompactionEnd HookTriggered"
    " HookResolved MCPLoadingBegin MCPLoadingEnd StatusUpdate Notification PlanDisplay BtwBegin BtwEnd SubagentEvent"
    " ContentPart ToolCall ToolCallPart ToolResult ApprovalRequest ApprovalResponse ApprovalRequestResolved"
    " QuestionRequest ToolCallRequest HookRequest"
)
# Kimi Code, wire protocols 1.1 to 1.5; the last three are written by its import of Kimi CLI's sessions.
RECORDS = (
    "metadata forked turn.prompt turn.steer turn.cancel turn.ended config.update permission.set_mode"
    " permission.record_approval_result full_compaction.begin full_compaction.cancel full_compaction.complete"
    " micro_compaction.apply plan_mode.enter plan_mode.cancel plan_mode.exit swarm_mode.enter swarm_mode.exit"
    " tools.register_user_tool tools.unregister_user_tool tools.set_active_tools tools.update_store usage.record"
    " context.append_message context.append_loop_event context.clear context.apply_compaction context.undo goal.create"
    " goal.update goal.clear llm.tools_snapshot llm.request mcp.tools_discovered profile.bind"
    " task.started task.terminated token_counting.measured token_counting.turn_recorded agent.message.appended"
    " subagent.spawned subagent.started subagent.completed subagent.failed subagent.cancelled"
    " subagent.suspended"
    " agent.turn.started agent.turn.ended plugin.session_start prompt.completed runtime.set_binding"
)
KNOWN = frozenset([*EVENTS.split(), *RECORDS.split(), "state"])
"""The types of lines; `state` is the projection of a state.json."""
COMMAND = re.compile(rb'"(?:\s|\\[nrt])*(?:/[\w-]+(?::[\w-]+)*(?:\s|\\[nrt]|")|<system-reminder>)')
"""A command, or text that Kimi writes in the user's name. A path at the beginning of a prompt is no command."""
COPY_TITLES = ("Fork: ", "Undo: ")
"""How Kimi CLI begins the title of a copied session; an undo is a fork as well."""


class _Body(msgspec.Struct, gc=False):
    """The payload of a wire message, the part of a loop event, or a message."""

    type: str | None = None
    user_input: msgspec.Raw = ABSENT
    text: msgspec.Raw = ABSENT
    role: str | None = None
    content: msgspec.Raw = ABSENT
    origin: _Body | None = None
    kind: str | None = None


class _Message(msgspec.Struct, gc=False):
    type: str | None = None
    payload: _Body | None = None
    part: _Body | None = None
    role: str | None = None
    content: msgspec.Raw = ABSENT
    origin: _Body | None = None


class _Line(msgspec.Struct, gc=False):
    """A line of either program, or a projected state."""

    type: str | None = None
    timestamp: float | None = None
    time: float | str | None = None
    created_at: float | str | None = None
    message: _Message | None = None
    event: _Message | None = None
    count: int | None = None
    cwd: str | None = None
    model: str | None = None
    alias: str | None = msgspec.field(name="modelAlias", default=None)
    title: str | None = None
    parent: str | None = None
    copied: bool | None = None


class _WorkDir(msgspec.Struct):
    path: str


class _State(msgspec.Struct, rename="camel"):
    """A state.json of either program, or Kimi CLI's kimi.json."""

    work_dirs: list[_WorkDir] = msgspec.field(name="work_dirs", default=[])
    custom_title: str | None = msgspec.field(name="custom_title", default=None)
    title: str | None = None
    cwd: str | None = None
    work_dir: str | None = None
    forked_from: str | None = None


LINE, STATE = msgspec.json.Decoder(_Line), msgspec.json.Decoder(_State)


class Kimi(BaseSource):
    """Wire logs, which are only appended to. context.jsonl repeats them without times and is rotated: a side file."""

    tool: ClassVar[str] = "kimi"
    variables: ClassVar[tuple[str, ...]] = ("KIMI_SHARE_DIR", "KIMI_CODE_HOME")
    versions: ClassVar[tuple[str, ...]] = ("1.49.0 (CLI)", "1.5 (Code)")
    projection_version: ClassVar[int] = 2
    gaps: ClassVar[tuple[str, ...]] = (
        "Kimi CLI stores no model, version or branch; Kimi Code no version or branch",
        "sessions from before wire logs (only context.jsonl, or a flat file) are not read",
        "user-history/ has the prompts of a directory; they name no session and are not read",
        ".index-cache/ repeats what is known of the sessions and is left out",
    )
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        SideFiles(
            rf"(?:\w+_)?[0-9a-f]{{32}}/(?P<id>{UUID})/(?P<name>.+)", "contexts, prompts and outputs of subagents"
        ),
        SideFiles(r"[\w.-]+/(?P<id>(?:session_|conv-)[\w-]+)/(?P<name>.+)", "all other files of a session"),
        SideFiles(r"[\w.-]+/ses_(?P<id>[\w-]+)/(?P<name>.+)", "those of imported sessions"),
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the sessions of both programs and of the desktop application."""
        for variable, default in (("KIMI_SHARE_DIR", ".kimi"), ("KIMI_CODE_HOME", ".kimi-code")):
            for home in dirs.with_override(variable, f"{dirs.home}/{default}"):
                yield Root(path=f"{home}/sessions", depth=8)
        desktop = f"{dirs.config}/kimi-desktop/daimon-share/daimon/runtime/kimi-code/home"
        yield Root(path=f"{desktop}/sessions", depth=8)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a wire log or a state; a subagent's log is a stream of its session."""
        if found := CLI.fullmatch(relative):
            project, session, agent, state = found.groups()
            beside = () if agent else (f"{project}/{session}/state.json", "../kimi.json")
            return _unit(session, agent or "main", bool(agent), state, beside)
        if found := CODE.fullmatch(relative):
            directory, session, agent, state = found.groups()
            imported = session.startswith("ses_")
            stream = "imported" if imported and agent in (None, "main") else agent
            is_subagent = agent not in (None, "main")
            own = session.removeprefix("ses_")
            return _unit(own, stream or "main", is_subagent, state, (f"{directory}/state.json",))
        return None

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Return the working directory, and whether the session is a fork (needed before its messages are compared).

        Kimi CLI's directory is named with the MD5 of a path that is listed in kimi.json.
        """
        cwd, copied = None, False
        for content in beside.values():
            state = STATE.decode(content)
            cwd, copied = cwd or state.cwd or state.work_dir, copied or _is_copy(state)
            for known in state.work_dirs:
                digest = md5(known.path.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
                if unit.beside[0].split("/")[0].endswith(digest):
                    cwd = known.path
        return Entry(cwd=cwd, copied=copied)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project a state, with the title, which may change, and the parent as fields. Raises: msgspec.DecodeError."""
        for content in files.values():
            state = parse(STATE, content)
            parent = state.forked_from and state.forked_from.removeprefix("ses_")
            known = {"title": state.custom_title or state.title, "parent": parent, "copied": _is_copy(state)}
            fields = {name: value for name, value in known.items() if value}
            records = [encode({"type": "state", **fields, "state": parse(OBJECT, content)})]
            yield Projection(native_id=unit.native_id or "", stream=unit.stream, records=records)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a line. Prompts count, and each step of the model that has text or calls a tool."""
        line = parse(LINE, record)
        kind = line.type or (line.message.type if line.message else None) or ""
        role, key, rewind = _role(kind, line, memory), None, None
        if role:
            key = _message_key(role, line.timestamp, memory)
        elif kind == "forked":
            rewind = _begin_fork(line.time, memory)
        elif kind == "context.undo":
            rewind = _undo(line.count or 0, memory)
        elif kind in ("context.clear", "context.apply_compaction"):
            memory["prompts"] = []
        return Entry(
            time_ms=parse_time(line.timestamp or line.time or line.created_at),
            role=role,
            key=key,
            rewind=rewind,
            model=_model(kind, line, role, memory),
            cwd=line.cwd,
            title=line.title,
            parent=line.parent,
            copied=bool(line.copied),
            unknown=unknown_type(kind, KNOWN),
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a line."""
        return read_items(record, entry, memory)


def _unit(native_id: str, stream: str, is_subagent: bool, state: str | None, beside: tuple[str, ...]) -> Unit:
    if state:
        name = state if stream == "main" else f"{stream}-{state}"
        return Unit(kind=Kind.DOCUMENT, native_id=native_id, stream=name, beside=beside)
    return Unit(native_id=native_id, stream=stream, thread=not is_subagent, beside=beside)


def _is_copy(state: _State) -> bool:
    return state.forked_from is not None or (state.custom_title or "").startswith(COPY_TITLES)


def _model(kind: str, line: _Line, role: Role | None, memory: Memory) -> str | None:
    """Return the model. Requests of Kimi Code name it; its other records have an alias, used if there is no request."""
    if kind == "llm.request" and line.model:
        memory["model"] = line.model
    if role is Role.ASSISTANT or kind == "llm.request":
        requested: str | None = memory.get("model")
        return requested
    return None if "model" in memory else line.model or line.alias


def _role(kind: str, line: _Line, memory: Memory) -> Role | None:
    message = line.message
    body = message.payload if message else None
    if kind in ("TurnBegin", "SteerInput"):
        return Role.USER if body and has_content(body.user_input, injected=COMMAND) else None
    if kind in ("ContentPart", "ToolCall", "StepBegin"):
        return _step_role(kind, body, memory)
    if kind == "context.append_loop_event" and line.event:
        return _step_role(line.event.type or "", line.event.part, memory)
    if kind == "context.append_message" and message:
        human = message.role != "user" or message.origin is None or message.origin.kind in (None, "user")
        return message_role(message.role, message.content, silent=("think",), injected=COMMAND) if human else None
    return None


def _step_role(kind: str, part: _Body | None, memory: Memory) -> Role | None:
    """Return ASSISTANT for the first part of a step that counts, so that each step counts once."""
    if kind in ("StepBegin", "step.begin"):
        memory["said"] = False
    elif not memory.get("said"):
        text = part is not None and part.type == "text" and has_content(part.text)
        if kind in ("ToolCall", "tool.call") or text:
            memory["said"] = True
            return Role.ASSISTANT
    return None


# Kimi CLI copies the lines of a fork as they are, so a message's time is its key. Kimi Code's messages have no time of
# their own; their key is their position. A fork marks where its own messages begin ({"type":"forked"}, after the copied
# ones), and an undo says how many prompts it takes back (none, if there are fewer since the last clear or compaction).


def _message_key(role: Role, timestamp: float | None, memory: Memory) -> str | None:
    """Return the key of a message; None if it has its position only."""
    position = memory["count"] = memory.get("count", -1) + 1
    if timestamp is not None:
        return str(timestamp)
    if role is Role.USER:
        memory.setdefault("prompts", []).append(position)
    return f"{memory['fork']} #{position}" if "fork" in memory else None


def _begin_fork(time: float | str | None, memory: Memory) -> str:
    """Remove the copied messages. The fork's time distinguishes its positions from those of its parent."""
    memory.update(fork=str(time), prompts=[], count=-1)
    return ""


def _undo(prompts: int, memory: Memory) -> str | None:
    """Return the key of the first prompt that an undo takes back."""
    positions: list[int] = memory.get("prompts", [])
    if not 0 < prompts <= len(positions):
        return None
    position = positions[-prompts]
    memory.update(prompts=positions[:-prompts], count=position - 1)
    return f"{memory['fork']} #{position}" if "fork" in memory else f"#{position}"


SOURCES = (Kimi(),)
