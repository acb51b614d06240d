"""GitHub Copilot CLI: formats.md 2.6, field-notes A.6."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit, parse, speaks
from sessiond.sources.processes import runs

ID = r"([0-9A-Za-z][\w.-]{7,80}?)"
EVENTS = re.compile(rf"{ID}(?:/events)?\.jsonl", re.ASCII)
WORKSPACE = re.compile(rf"{ID}/workspace\.yaml", re.ASCII)
LOCK = re.compile(r"inuse\.(\d+)\.lock")
SCALAR = re.compile(r"^(id|cwd|branch|name|client_name):[ ]*(?:[|>][+-]?\n[ ]+)?(.*)$", re.MULTILINE)
WORDS = (
    "session user assistant system tool subagent model hook skill abort permission external_tool user_input"
    " elicitation plan commands mcp sampling exit_plan_mode pending_messages capabilities"
)
FAMILIES = frozenset(WORDS.split())
NONE = msgspec.Raw(b"")


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
    """Events of the command line; its JetBrains sessions and the derived `session-store.db` are not read."""

    tool: ClassVar[str] = "copilot-cli"
    versions: ClassVar[tuple[str, ...]] = ("0.0.341", "0.0.342", "1.0.102")
    gaps: ClassVar[tuple[str, ...]] = (
        "sessions of the JetBrains plug-in (~/.copilot/jb)",
        "no parent: subagents are inside of their session",
    )

    def _homes(self, places: Places) -> Iterable[str]:
        given = places.environ.get("COPILOT_HOME", "").rstrip("/")
        state = places.environ.get("XDG_STATE_HOME", "").rstrip("/")
        return dict.fromkeys(filter(None, [given, state and f"{state}/.copilot", f"{places.home}/.copilot"]))

    def roots(self, places: Places) -> Iterable[Root]:
        """Name both directories of states: before 0.0.342 it was `history-session-state`."""
        skip = frozenset(["checkpoints", "files", "research", "rewind-file-snapshots"])
        for home in self._homes(places):
            yield Root(path=f"{home}/session-state", depth=1, skip=skip)
            yield Root(path=f"{home}/history-session-state", depth=1, skip=skip)

    def unit(self, relative: str) -> Unit | None:
        """Tell events, of a directory (1.0) or flat (before), and the file that knows a session's name."""
        if found := EVENTS.fullmatch(relative):
            return Unit(native_id=found[1])
        if found := WORKSPACE.fullmatch(relative):
            return Unit(kind=Kind.DOCUMENT, native_id=found[1], stream="workspace")
        return None

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Keep of workspace.yaml what does not change with every event; its values are plain or one line of text."""
        for content in files.values():
            said = {key: value.strip("\"' ") for key, value in SCALAR.findall(content.decode("utf-8", "replace"))}
            yield Portrait(native_id=unit.native_id or "", stream="workspace", records=[msgspec.json.encode(said)])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an event says. Subagents' are in the same file, marked by `agentId`, and do not count."""
        event = parse(EVENT, record)
        if not event.type:
            return Entry(cwd=event.cwd, branch=event.branch, title=event.name)
        data, time = event.data or _Data(), event.timestamp
        if event.type in ("session.start", "session.resume"):
            memory["model"] = data.selected_model or memory.get("model")
            more = (Entry(time=data.start_time),) if data.start_time else ()
            where, model = data.context or _Context(), data.selected_model
            version, cwd, branch = data.copilot_version, where.cwd, where.branch
            return Entry(time=time, version=version, cwd=cwd, branch=branch, model=model, more=more)
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

    def live(self, places: Places) -> Iterable[str]:
        """Look for locks of processes that run: `inuse.<pid>.lock` stays after a kill (field-notes A.8)."""
        for home in self._homes(places):
            with suppress(OSError):
                for folder in os.listdir(f"{home}/session-state"):
                    with suppress(OSError):
                        pids = [
                            found[1]
                            for name in os.listdir(f"{home}/session-state/{folder}")
                            if (found := LOCK.fullmatch(name))
                        ]
                        if any(runs(int(pid)) for pid in pids):
                            yield folder


SOURCES = (CopilotCli(),)
