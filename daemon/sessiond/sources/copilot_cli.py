"""GitHub Copilot CLI: docs/formats/copilot-cli.md."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, SideFiles, Unit, UserDirs
from sessiond.sources.content import blocks, call, find, name_of, note, result, speaker_of, template, text_of
from sessiond.sources.objects import encode
from sessiond.sources.processes import is_running
from sessiond.sources.records import ABSENT, UUID, has_content, parse
from sessiond.sources.tokens import usage
from sessiond.sources.user_dirs import unique_paths

ID = r"([0-9A-Za-z][\w.-]{7,80}?)"
EVENTS = re.compile(rf"{ID}(?:/events)?\.jsonl", re.ASCII)
FIELDS = "id|cwd|branch|name|client_name|git_root|repository|host_type|user_named|summary|created_at"
WORKSPACE = re.compile(rf"{ID}/workspace\.yaml", re.ASCII)
SCALAR = re.compile(rf"^({FIELDS}):[ ]*(?:[|>][+-]?\n[ ]+)?(.*)$", re.MULTILINE)
LOCK = re.compile(r"inuse\.(\d+)\.lock")
WORDS = (
    "session user assistant system tool subagent model hook skill abort permission external_tool user_input"
    " elicitation plan commands mcp sampling exit_plan_mode pending_messages capabilities"
)
FAMILIES = frozenset(WORDS.split())
"""The first words of event types."""


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
    content: msgspec.Raw = ABSENT


class _Event(msgspec.Struct, gc=False, rename="camel"):
    """An event; without a type, the fields of workspace.yaml."""

    type: str = ""
    id: str | None = None
    timestamp: str | None = None
    agent_id: str | None = None
    data: _Data | None = None
    cwd: str | None = None
    branch: str | None = None
    name: str | None = None


EVENT = msgspec.json.Decoder(_Event)


class CopilotCli(BaseSource):
    """Events of the command line. The derived `session-store.db` is not read."""

    tool: ClassVar[str] = "copilot-cli"
    variables: ClassVar[tuple[str, ...]] = ("COPILOT_HOME",)
    versions: ClassVar[tuple[str, ...]] = ("0.0.341", "0.0.342", "1.0.102")
    projection_version: ClassVar[int] = 2
    gaps: ClassVar[tuple[str, ...]] = (
        "sessions of the JetBrains plug-in (~/.copilot/jb) are not read",
        "no parent: subagents are inside of their session",
        "the prompts in command-history-state.json name no session and are not read",
        "of the side files, session.db is left out: a database in use",
    )
    other_files: ClassVar[tuple[str, ...]] = (r"[^/]+/session\.db",)
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        SideFiles(rf"(?P<id>{UUID})/(?P<name>(?!session\.db).+)", "checkpoints, files, plans"),
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return `session-state` and `history-session-state` (before 0.0.342) of every home of the tool."""
        for home in _homes(dirs):
            yield Root(path=f"{home}/session-state", depth=5)
            yield Root(path=f"{home}/history-session-state", depth=5)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a session's events (in a directory since 1.0, flat before) or of its workspace.yaml."""
        if found := EVENTS.fullmatch(relative):
            return Unit(native_id=found[1])
        if found := WORKSPACE.fullmatch(relative):
            return Unit(kind=Kind.DOCUMENT, native_id=found[1], stream="workspace")
        return None

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project the fields of workspace.yaml that do not change with every event, with a pattern instead of YAML."""
        for content in files.values():
            text = content.decode("utf-8", "replace")
            fields = {key: value.strip("\"' ") for key, value in SCALAR.findall(text)}
            yield Projection(native_id=unit.native_id or "", stream="workspace", records=[encode(fields)])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode an event. Events of subagents are in the same file with an `agentId`; they do not count."""
        event = parse(EVENT, record)
        if not event.type:
            return Entry(cwd=event.cwd, branch=event.branch, title=event.name)
        data, time = event.data or _Data(), event.timestamp
        if event.type in ("session.start", "session.resume"):
            memory["model"] = data.selected_model or memory.get("model")
            return _start(data, time)
        if not event.agent_id and event.type == "session.model_change":
            memory["model"] = data.new_model
        if not event.agent_id and has_content(data.content):
            if event.type == "user.message":
                return Entry(time=time, role=Role.USER, key=event.id)
            if event.type == "assistant.message":
                model = data.model or memory.get("model")
                return Entry(time=time, role=Role.ASSISTANT, key=data.message_id or event.id, model=model)
        known = event.type.split(".")[0] in FAMILIES
        ended = event.type == "session.shutdown"
        return Entry(time=time, ended=ended, unknown=None if known else event.type[:40])

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of an event. Early versions wrote an answer in chunks, with one id for all."""
        kind, data = str(record.get("type")), record.get("data") if isinstance(record.get("data"), dict) else {}
        agent = name_of(record.get("agentId"))
        base = replace(template(entry, speaker_of(kind.partition(".")[0])), stream=agent)
        if kind in ("user.message", "assistant.message"):
            part = kind, name_of(data.get("messageId"))
            going_on = replace(base, continues=bool(part[1]) and list(part) == memory.get("items.part"))
            memory["items.part"] = part
            yield from blocks(data.get("content"), going_on)
        elif kind == "tool.execution_start":
            yield call(data, replace(base, speaker=Speaker.ASSISTANT))
        elif kind == "tool.execution_complete":
            yield result({**data, "content": text_of(find(data, "result.content", "error.message"))}, base)
        elif kind == "session.usage_record":
            model = name_of(find(data, "usage.model"))
            tokens = find(data, "usage")
            yield from usage(tokens, replace(base, model=model), cost=find(tokens, "cost"), cached_in_input=True)
        elif kind == "system.message":
            yield replace(base, text=text_of(data.get("content")), injected=True)
        elif kind == "session.error":
            yield note(text_of(data.get("message")), base)

    def live(self, dirs: UserDirs) -> Iterable[str]:
        """Return the sessions whose process is running; a killed process leaves its `inuse.<pid>.lock` behind."""
        for home in _homes(dirs):
            states = f"{home}/session-state"
            with suppress(OSError):
                for folder in os.listdir(states):
                    with suppress(OSError):
                        locks = map(LOCK.fullmatch, os.listdir(f"{states}/{folder}"))
                        if any(lock and is_running(int(lock[1])) for lock in locks):
                            yield folder


def _homes(dirs: UserDirs) -> list[str]:
    state = dirs.from_variable("XDG_STATE_HOME", "/.copilot")
    return unique_paths(dirs.from_variable("COPILOT_HOME"), state, f"{dirs.home}/.copilot")


def _start(data: _Data, time: str | None) -> Entry:
    """Decode the start of a session, or of its resumption."""
    context = data.context or _Context()
    return Entry(
        time=time,
        version=data.copilot_version,
        cwd=context.cwd,
        branch=context.branch,
        model=data.selected_model,
        more=(Entry(time=data.start_time),) if data.start_time else (),
    )


SOURCES = (CopilotCli(),)
