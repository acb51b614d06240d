"""Factory Droid: docs/formats/droid.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Unit, UserDirs
from sessiond.sources.objects import OBJECT, encode
from sessiond.sources.records import ABSENT, SILENT_BLOCKS, UUID, message_role, parse, unknown_type

# Droid creates lock and temporary files beside them: `<id>.jsonl.events.lock`, `<id>.settings.json.<pid>.<ms>.tmp`.
FILE = re.compile(rf"(?:[^/]+/)?({UUID})\.(jsonl|settings\.json)", re.ASCII)
KNOWN = frozenset(["session_start", "message", "agent_turn_outcome", "todo_state", "compaction_state", "settings"])
INJECTED = re.compile(rb'"(?:\s|\\[nrt])*<system-reminder>')


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: msgspec.Raw = ABSENT
    model: str | None = None


class _Line(msgspec.Struct, gc=False):
    """A line of a transcript, or the projected settings."""

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
    """Sessions of Droid. It rewrites the first line in place when the title is known."""

    tool: ClassVar[str] = "droid"
    variables: ClassVar[tuple[str, ...]] = ("FACTORY_HOME_OVERRIDE",)
    versions: ClassVar[tuple[str, ...]] = ("0.215.0",)
    projection_version: ClassVar[int] = 2
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or branch is stored",
        "a user's own model is known by its label only",
        "stream logs of `droid exec` below ~/.factory/projects are not read",
        "the prompts in history.json name no session and are not read",
        "*.settings.json.bak, the settings of a session before their last change",
    )
    other_files: ClassVar[tuple[str, ...]] = (r".+\.settings\.json\.bak",)
    calling: ClassVar[str | None] = "callingToolUseId"

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return `.factory/sessions` of FACTORY_HOME_OVERRIDE, which replaces the home, and of the home."""
        for home in dirs.with_override("FACTORY_HOME_OVERRIDE", dirs.home):
            yield Root(path=f"{home}/.factory/sessions", depth=1)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a transcript (in a directory per cwd, or flat in older versions) or of its settings."""
        found = FILE.fullmatch(relative)
        if not found:
            return None
        if found[2] == "jsonl":
            return Unit(native_id=found[1])
        return Unit(kind=Kind.DOCUMENT, native_id=found[1], stream="settings")

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project the settings of a session, which have its model, mode and use of tokens."""
        for content in files.values():
            settings = parse(OBJECT, content)
            records = [encode({**settings, "type": "settings"})] if settings else []
            yield Projection(native_id=unit.native_id or "", stream=unit.stream, records=records)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a line. Forks keep the ids and times of the messages that they copy."""
        line = parse(LINE, record)
        message, role, start = line.message, None, line.type == "session_start"
        if line.type == "message" and message and not (line.id or "").startswith("context-"):
            role = message_role(message.role, message.content, silent=SILENT_BLOCKS, injected=INJECTED)
        return Entry(
            time_ms=parse_time(line.timestamp),
            role=role,
            key=line.id,
            # For a user's own model this is its label: "custom:Stub-0".
            model=line.model_id or line.model or (message.model if message else None),
            cwd=line.cwd if start else None,
            title=line.title if start else None,
            parent=(line.parent or line.calling) if start else None,
            copied=start and line.parent is not None,
            unknown=unknown_type(line.type, KNOWN),
        )


SOURCES = (Droid(),)
