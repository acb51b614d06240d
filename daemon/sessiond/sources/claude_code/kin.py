"""What writes Claude Code's lines: formats.md 3."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from sessiond.session import Entry
from sessiond.sources.base import Memory, Places, Root, Unit
from sessiond.sources.claude_code.tool import ClaudeCode
from sessiond.sources.records import UUID


class OpenClaude(ClaudeCode):
    """Transcripts of OpenClaude, in Claude Code's format and layout (formats.md 3)."""

    tool: ClassVar[str] = "openclaude"
    versions: ClassVar[tuple[str, ...]] = ("0.7.0",)
    gaps: ClassVar[tuple[str, ...]] = ("a title or a parent, where Claude Code's records of them are not written",)

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `projects` of ~/.openclaude, and of OPENCLAUDE_CONFIG_DIR."""
        for base in places.homes("OPENCLAUDE_CONFIG_DIR", f"{places.home}/.openclaude"):
            yield Root(path=f"{base}/projects")


class IFlow(ClaudeCode):
    """Transcripts of iFlow, which writes Claude Code's lines with Gemini's tool results in them (formats.md 3)."""

    tool: ClassVar[str] = "iflow"
    versions: ClassVar[tuple[str, ...]] = ("0.5.8",)
    gaps: ClassVar[tuple[str, ...]] = ("no title or parent is stored",)

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `projects` of ~/.iflow; no override is known."""
        yield Root(path=f"{places.home}/.iflow/projects", depth=1)

    def unit(self, relative: str) -> Unit | None:
        """Tell transcripts, whose names are their ids: a prefix and a UUID."""
        found = re.fullmatch(rf"[^/]+/session-({UUID})\.jsonl", relative, re.ASCII)
        return Unit(native_id=found[1]) if found else None

    def decode(self, record: bytes | memoryview, memory: Memory) -> Entry | None:
        """Tell what a line says; it names its session as the file does."""
        entry = super().decode(record, memory)
        if entry is None or entry.native_id is None:
            return entry
        return msgspec.structs.replace(entry, native_id=entry.native_id.removeprefix("session-"))
