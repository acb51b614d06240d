"""Kimi CLI and its successor Kimi Code: formats.md 2.27, field-notes B.2 "Kimi CLI 1.49.0"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import md5
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Memory, Places, Root, Unit, parse, speaks

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
CLI = re.compile(rf"((?:\w+_)?[0-9a-f]{{32}})/({UUID})/(?:subagents/([\w-]+)/)?wire\.jsonl", re.ASCII)
# `ses_<uuid>` is Kimi CLI's session <uuid>, imported; `conv-` one of the desktop (migration-legacy, migrate-one.ts).
CODE = re.compile(r"([\w.-]+/((?:session_|ses_|conv-)[\w-]+))/agents/([\w-]+)/wire\.jsonl", re.ASCII)
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
KNOWN = frozenset([*EVENTS.split(), *RECORDS.split()])
COMMAND = re.compile(rb'"/|"(?:\s|\\[nrt])*<system-reminder>')
NONE = msgspec.Raw(b"")


class _Body(msgspec.Struct, gc=False):
    """A wire message's payload, a loop event's part, or a message."""

    type: str | None = None
    user_input: msgspec.Raw = NONE
    text: msgspec.Raw = NONE
    role: str | None = None
    content: msgspec.Raw = NONE
    origin: _Body | None = None
    kind: str | None = None


class _Message(msgspec.Struct, gc=False):
    type: str | None = None
    payload: _Body | None = None
    part: _Body | None = None
    role: str | None = None
    content: msgspec.Raw = NONE
    origin: _Body | None = None


class _Line(msgspec.Struct, gc=False):
    type: str | None = None
    timestamp: float | None = None
    time: float | str | None = None
    created_at: float | str | None = None
    message: _Message | None = None
    event: _Message | None = None
    cwd: str | None = None
    model: str | None = None
    alias: str | None = msgspec.field(name="modelAlias", default=None)


class _WorkDir(msgspec.Struct):
    path: str


class _State(msgspec.Struct):
    """kimi.json and both state.json."""

    work_dirs: list[_WorkDir] = []
    custom_title: str | None = None
    title: str | None = None
    cwd: str | None = None
    work_dir: str | None = msgspec.field(name="workDir", default=None)


LINE = msgspec.json.Decoder(_Line)
STATE = msgspec.json.Decoder(_State)


class Kimi(BaseSource):
    """Wire logs, which are only ever appended to; context.jsonl repeats them without times and is rotated.

    Messages are told apart by their order alone: so the import of a session by Kimi Code counts no message again.
    """

    tool: ClassVar[str] = "kimi"
    versions: ClassVar[tuple[str, ...]] = ("1.49.0 (CLI)", "1.5 (Code)")
    gaps: ClassVar[tuple[str, ...]] = (
        "Kimi CLI keeps no model, version or branch; Kimi Code no version or branch",
        "sessions from before wire logs (context.jsonl alone, or a flat file) are not read",
        "a fork counts the messages that it copied: it names no parent, and what tells a copy (its time) is not kept by"
        " Kimi Code's import, which would be counted twice instead",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the sessions of both programs, where KIMI_SHARE_DIR and KIMI_CODE_HOME say too, and of the desktop."""
        for variable, usual in (("KIMI_SHARE_DIR", ".kimi"), ("KIMI_CODE_HOME", ".kimi-code")):
            given = places.environ.get(variable, "").rstrip("/")
            for home in dict.fromkeys(filter(None, [given, f"{places.home}/{usual}"])):
                yield Root(path=f"{home}/sessions", depth=4)
        desktop = f"{places.config}/kimi-desktop/daimon-share/daimon/runtime/kimi-code/home"
        yield Root(path=f"{desktop}/sessions", depth=4)

    def unit(self, relative: str) -> Unit | None:
        """Tell wire logs; a subagent's is a stream of its session."""
        if found := CLI.fullmatch(relative):
            project, session, agent = found.groups()
            beside = (f"{project}/{session}/state.json", "../kimi.json")
            return Unit(native_id=session, stream=agent or "main", thread=not agent, beside=() if agent else beside)
        if found := CODE.fullmatch(relative):
            directory, session, agent = found.groups()
            stream = agent if agent != "main" or not session.startswith("ses_") else "imported"
            native_id = session.removeprefix("ses_")
            return Unit(native_id=native_id, stream=stream, thread=agent == "main", beside=(f"{directory}/state.json",))
        return None

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Tell title and working directory; Kimi CLI's directory is the MD5 of a path that kimi.json has (B.1.7)."""
        cwd, title = None, None
        for content in beside.values():
            state = STATE.decode(content)
            title = title or state.custom_title or state.title
            cwd = cwd or state.cwd or state.work_dir
            for known in state.work_dirs:
                digest = md5(known.path.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
                if unit.beside[0].split("/")[0].endswith(digest):
                    cwd = known.path
        return Entry(cwd=cwd, title=title)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a wire message says: prompts, and of a step that it has said or called something."""
        line = parse(LINE, record)
        message, type_, role = line.message, line.type or "", None
        body = message.payload if message else None
        if message and message.type and not line.type:
            type_ = message.type
        if type_ in ("TurnBegin", "SteerInput"):
            if body and speaks(body.user_input, injected=COMMAND):
                role = Role.USER
        elif type_ in ("ContentPart", "ToolCall", "StepBegin"):
            role = self._step(type_, body, memory)
        elif type_ == "context.append_loop_event" and line.event:
            role = self._step(line.event.type or "", line.event.part, memory)
        elif type_ == "context.append_message" and message and message.role in ("user", "assistant"):
            human = message.origin is None or message.origin.kind in (None, "user")
            if message.role == "assistant" or human:
                role = Role(message.role) if speaks(message.content, silent=("think",), injected=COMMAND) else None
        return Entry(
            time_ms=parse_time(line.timestamp or line.time or line.created_at),
            role=role,
            model=line.model or line.alias,
            cwd=line.cwd,
            unknown=None if type_ in KNOWN else type_ or "?",
        )

    def _step(self, type_: str, part: _Body | None, memory: Memory) -> Role | None:
        """Count a step once, however many parts it has."""
        if type_ in ("StepBegin", "step.begin"):
            memory["said"] = False
        elif not memory.get("said"):
            text = part is not None and part.type == "text" and speaks(part.text)
            if type_ in ("ToolCall", "tool.call") or text:
                memory["said"] = True
                return Role.ASSISTANT
        return None


SOURCES = (Kimi(),)
