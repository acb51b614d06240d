"""iFlow, which writes Claude Code's lines with Gemini's tool results in them: docs/formats/iflow.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from sessiond.session import Entry
from sessiond.sources.base import Kind, Memory, Retention, Root, SideFiles, Unit, UserDirs
from sessiond.sources.claude_code import ClaudeCode
from sessiond.sources.gemini_cli import LOGS, GeminiCli
from sessiond.sources.records import UUID

FILE = re.compile(rf"[^/]+/session-({UUID})\.jsonl", re.ASCII)


class IFlow(ClaudeCode):
    """Transcripts of iFlow."""

    tool: ClassVar[str] = "iflow"
    variables: ClassVar[tuple[str, ...]] = ()
    versions: ClassVar[tuple[str, ...]] = ("0.5.8",)
    gaps: ClassVar[tuple[str, ...]] = ("no title or parent is stored",)
    side_files: ClassVar[tuple[SideFiles, ...]] = ()

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return `projects` of ~/.iflow; no variable that moves it is known."""
        yield Root(path=f"{dirs.home}/.iflow/projects", depth=1)

    def retention(self, dirs: UserDirs) -> Retention | None:
        """Return None: whether iFlow deletes sessions is not known."""
        return None

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a transcript, whose name is a prefix and the session's UUID."""
        found = FILE.fullmatch(relative)
        return Unit(native_id=found[1]) if found else None

    def decode(self, record: bytes | memoryview, memory: Memory) -> Entry | None:
        """Decode a line; its session id has the same prefix as the file's name."""
        entry = super().decode(record, memory)
        if entry is None or entry.native_id is None:
            return entry
        return msgspec.structs.replace(entry, native_id=entry.native_id.removeprefix("session-"))


class IFlowPrompts(GeminiCli):
    """Histories of prompts, as Gemini CLI writes them: one for each project, in a directory named after a hash."""

    tool: ClassVar[str] = "iflow"
    variables: ClassVar[tuple[str, ...]] = ()
    versions: ClassVar[tuple[str, ...]] = ("0.5.8 (prompts)",)
    gaps: ClassVar[tuple[str, ...]] = ("logs.json is captured of sessions without a transcript only",)
    other_files: ClassVar[tuple[str, ...]] = ()
    side_files: ClassVar[tuple[SideFiles, ...]] = ()

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return `tmp` of ~/.iflow."""
        yield Root(path=f"{dirs.home}/.iflow/tmp", depth=1)

    def retention(self, dirs: UserDirs) -> Retention | None:
        """Return None: whether iFlow deletes sessions is not known."""
        return None

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a history."""
        return Unit(kind=Kind.HISTORY, projected=True) if LOGS.fullmatch(relative) else None

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a prompt. If its session id has the prefix of the transcript's name, it is left out."""
        entry = super().decode(record, memory)
        if entry is None or entry.native_id is None:
            return entry
        return msgspec.structs.replace(entry, native_id=entry.native_id.removeprefix("session-"))


SOURCES = (IFlow(), IFlowPrompts())
