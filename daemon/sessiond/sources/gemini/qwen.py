"""Qwen Code, which was made of Gemini CLI: formats.md 2.20, field-notes A.5."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import ClassVar

import msgspec

from sessiond.session import Entry
from sessiond.sources.base import Memory, Places, Root, Unit, Watch
from sessiond.sources.gemini.cli import GeminiCli
from sessiond.sources.gemini.qwen_records import RECORD, entry_of
from sessiond.sources.places import distinct, peek
from sessiond.sources.records import parse

ID = "[0-9a-fA-F-]{32,36}"
FILE = re.compile(rf"[^/]+/(?:chats/(?:archive/)?({ID})|subagents/({ID})/(agent-[\w.-]+))\.jsonl", re.ASCII)
RUNTIME = re.compile(rb'"runtimeOutputDir"\s*:\s*("(?:[^"\\\n]|\\.)+")')


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
        homes = places.homes("QWEN_HOME", f"{places.home}/.qwen")
        named = [places.whole(_runtime(peek(f"{base}/settings.json"))) for base in homes]
        for base in distinct(places.given("QWEN_RUNTIME_DIR"), *named, *homes):
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
        """Tell what a record says."""
        line = parse(RECORD, record)
        return entry_of(line, memory) if line.uuid else super().decode(record, memory)


def _runtime(settings: bytes) -> str:
    """Find which directory the settings name for what is written at run time; "" where they name none."""
    with suppress(ValueError):
        if found := RUNTIME.search(settings):
            return msgspec.json.decode(found[1], type=str)
    return ""
