"""Factory Droid (closed source): formats.md 2.24, field-notes B.1.1 and B.2 "Factory Droid 0.215.0"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit
from sessiond.sources.objects import OBJECT, encode, text
from sessiond.sources.records import NONE, SILENT, UUID, parse, speaker, unheard

# Beside them for milliseconds: `<id>.jsonl.events.lock`, `<id>.settings.json.<pid>.<ms>.tmp`, `.bak` (field-notes B.2).
FILE = re.compile(rf"(?:[^/]+/)?({UUID})\.(jsonl|settings\.json)", re.ASCII)
KNOWN = frozenset(["session_start", "message", "agent_turn_outcome", "todo_state", "compaction_state", "settings"])
INJECTED = re.compile(rb'"(?:\s|\\[nrt])*<system-reminder>')


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: msgspec.Raw = NONE
    model: str | None = None


class _Line(msgspec.Struct, gc=False):
    """A line of a transcript, or what `project` takes out of the settings."""

    type: str = "?"
    id: str | None = None
    timestamp: str | None = None
    cwd: str | None = None
    title: str | None = None
    parent: str | None = None
    calling: str | None = msgspec.field(name="callingSessionId", default=None)
    model_id: str | None = msgspec.field(name="modelId", default=None)
    model: str | None = None
    message: _Message | None = None


LINE = msgspec.json.Decoder(_Line)


class Droid(BaseSource):
    """Sessions of Droid. The first line is rewritten in place when the title comes (field-notes B.1.1)."""

    tool: ClassVar[str] = "droid"
    versions: ClassVar[tuple[str, ...]] = ("0.215.0",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch is kept",
        "a model of one's own is known by its label",
        "stream logs of `droid exec` below ~/.factory/projects are not read",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name ~/.factory/sessions; FACTORY_HOME_OVERRIDE stands for the home (read in 0.215.0's binary)."""
        for home in places.homes("FACTORY_HOME_OVERRIDE", places.home):
            yield Root(path=f"{home}/.factory/sessions", depth=1)

    def unit(self, relative: str) -> Unit | None:
        """Tell transcripts, below a directory for the cwd or (older) flat, and the settings that name the model."""
        found = FILE.fullmatch(relative)
        if not found:
            return None
        if found[2] == "jsonl":
            return Unit(native_id=found[1])
        return Unit(kind=Kind.DOCUMENT, native_id=found[1], stream="settings")

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Take the model out of the settings, which change several times a turn for their token counts."""
        for content in files.values():
            model = text(parse(OBJECT, content).get("model"))
            records = [encode({"type": "settings", "model": model})] if model else []
            yield Portrait(native_id=unit.native_id or "", stream=unit.stream, records=records)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a line says. Forks keep the ids and times of what they copied (field-notes B.1.6)."""
        line = parse(LINE, record)
        message, role, start = line.message, None, line.type == "session_start"
        if line.type == "message" and message and not (line.id or "").startswith("context-"):
            role = speaker(message.role, message.content, silent=SILENT, injected=INJECTED)
        return Entry(
            time_ms=parse_time(line.timestamp),
            role=role,
            key=line.id,
            # Of one's own models it is the label: "custom:Stub-0" (field-notes B.2).
            model=line.model_id or line.model or (message.model if message else None),
            cwd=line.cwd if start else None,
            title=line.title if start else None,
            parent=(line.parent or line.calling) if start else None,
            copied=start and line.parent is not None,
            unknown=unheard(line.type, KNOWN),
        )


SOURCES = (Droid(),)
