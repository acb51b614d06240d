"""Qwen Code, which was made of Gemini CLI: formats.md 2.20, field-notes A.5."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import Memory, Places, Root, Unit, Watch, parse, peek
from sessiond.sources.gemini.cli import UUID, GeminiCli
from sessiond.sources.gemini.messages import Part

FILE = re.compile(rf"[^/]+/(?:chats/(?:archive/)?({UUID})|subagents/({UUID})/(agent-[\w.-]+))\.jsonl", re.ASCII)
KNOWN = frozenset(["user", "assistant", "tool_result", "system"])
RUNTIME = re.compile(rb'"runtimeOutputDir"\s*:\s*("(?:[^"\\\n]|\\.)+")')


class _Content(msgspec.Struct, gc=False):
    parts: list[Part] = []


class _Payload(msgspec.Struct, gc=False, rename="camel"):
    custom_title: str | None = None
    parent_session_id: str | None = None
    session_id: str | None = None


class _Record(msgspec.Struct, gc=False, rename="camel"):
    """A record of Qwen Code's own format."""

    uuid: str | None = None
    parent_uuid: str | None = None
    session_id: str | None = None
    timestamp: str | None = None
    type: str = "?"
    subtype: str | None = None
    provenance: str | None = None
    cwd: str | None = None
    version: str | None = None
    git_branch: str | None = None
    model: str | None = None
    message: _Content | None = None
    system_payload: _Payload | None = None
    forked_from: _Payload | None = None
    is_sidechain: bool | None = None


LINE = msgspec.json.Decoder(_Record)


class QwenCode(GeminiCli):
    """Chats of Qwen Code: its own records, and Gemini's where they were written before it went its way."""

    tool: ClassVar[str] = "qwen-code"
    versions: ClassVar[tuple[str, ...]] = ("0.0 (Gemini's layout)", "0.24.4")
    gaps: ClassVar[tuple[str, ...]] = (
        "a runtimeOutputDir that a project's own settings name: its root must be named in the configuration",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `projects` and the older `tmp` of ~/.qwen, of QWEN_HOME in its place, and of QWEN_RUNTIME_DIR.

        The settings may name another directory (formats.md 2.20); they may have comments, so it is looked for as text.
        """
        runtime, home = (places.environ.get(name, "").rstrip("/") for name in ("QWEN_RUNTIME_DIR", "QWEN_HOME"))
        homes = dict.fromkeys(filter(None, [home, f"{places.home}/.qwen"]))
        paths = [_runtime(peek(f"{base}/settings.json"), places.home) for base in homes]
        for base in dict.fromkeys(filter(os.path.isabs, [runtime, *paths, *homes])):
            for folder, depth in (("projects", 3), ("tmp", 2)):
                yield Root(path=f"{base}/{folder}", depth=depth, skip=frozenset(["memory"]))
        for base in homes:
            yield Root(path=base, watch=Watch.FLAT, depth=0, registry="settings.json")

    def unit(self, relative: str) -> Unit | None:
        """Tell chats, archived ones (`chats/archive/`) and subagents' transcripts (field-notes A.5 Where)."""
        found = FILE.fullmatch(relative)
        if not found:
            return super().unit(relative)
        main, parent, agent = found.groups()
        return Unit(native_id=main) if main else Unit(native_id=parent, stream=agent, thread=False)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a record says. A fork copies records with their uuids and times (field-notes A.5 Fork)."""
        line = parse(LINE, record)
        if not line.uuid:
            return super().decode(record, memory)
        role, said, payload = None, line.message.parts if line.message else [], line.system_payload
        if line.is_sidechain:
            pass
        elif line.type == "user" and (line.provenance or line.subtype or "real_user") == "real_user":
            role = Role.USER  # others are notifications and goals; what is typed in the middle of a turn is real
            memory.setdefault("turns", []).append([line.parent_uuid or "", line.uuid])
        elif line.type == "assistant" and any(part.text and not part.thought for part in said):
            role = Role.ASSISTANT
        return Entry(
            time_ms=parse_time(line.timestamp),
            role=role,
            key=line.uuid,
            model=line.model if line.type == "assistant" else None,
            version=line.version,
            cwd=line.cwd,
            branch=line.git_branch,
            title=payload.custom_title if payload else None,
            parent=(line.forked_from.session_id if line.forked_from else None)
            or (payload.parent_session_id if payload and line.subtype == "parent_session" else None),
            native_id=line.session_id,
            rewind=self._rewound(line.parent_uuid or "", memory) if line.subtype == "rewind" else None,
            copied=line.forked_from is not None,
            unknown=None if line.type in KNOWN else line.type,
        )

    def _rewound(self, parent: str, memory: Memory) -> str | None:
        """Name the prompt that a rewind goes back behind: its record hangs where that prompt hung (the bundle)."""
        turns = memory.get("turns", [])
        for index, (hung, prompt) in enumerate(turns):
            if hung == parent:
                memory["turns"] = turns[:index]
                return str(prompt)
        return None


def _runtime(settings: bytes, home: str) -> str:
    """Find which directory the settings name for what is written at run time; "" where they name none."""
    with suppress(ValueError):
        if found := RUNTIME.search(settings):
            path = msgspec.json.decode(found[1], type=str).rstrip("/")
            return home + path[1:] if path.startswith("~/") else path
    return ""
