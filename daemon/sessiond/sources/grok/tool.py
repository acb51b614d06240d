"""Grok Build (xAI; closed source): formats.md 3; its user guide (17-sessions.md), and what runs of 1.0.41 left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit
from sessiond.sources.grok.updates import entry_of
from sessiond.sources.objects import OBJECT, encode
from sessiond.sources.records import UUID

FILE = re.compile(rf"[^/]+/({UUID})/(?:(updates\.jsonl)|summary\.json|subagents/({UUID})/meta\.json)", re.ASCII)
TOLD = ("info", "created_at", "head_branch", "generated_title", "parent_session_id", "forked_at")


class GrokBuild(BaseSource):
    """Sessions of Grok Build: a log of updates each, and beside it what it says of the session."""

    tool: ClassVar[str] = "grok-build"
    versions: ClassVar[tuple[str, ...]] = ("1.0.41",)
    gaps: ClassVar[tuple[str, ...]] = ("no version is stored",)

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the sessions of ~/.grok, and of GROK_HOME."""
        for base in places.homes("GROK_HOME", f"{places.home}/.grok"):
            yield Root(path=f"{base}/sessions", depth=4)

    def unit(self, relative: str) -> Unit | None:
        """Tell logs, summaries, and what a session notes of a subagent, which has a session of its own."""
        if not (found := FILE.fullmatch(relative)):
            return None
        if found[2]:
            return Unit(native_id=found[1])
        return Unit(kind=Kind.DOCUMENT, native_id=found[3] or found[1], stream="spawned" if found[3] else "summary")

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Take what stays out of a summary, which counts tokens and turns as well."""
        for content in files.values():
            said = OBJECT.decode(content)
            told = {name: said[name] for name in (TOLD if unit.stream == "summary" else TOLD[4:5]) if name in said}
            yield Portrait(native_id=unit.native_id or "", stream=unit.stream, records=[encode(told)])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an update says, or a summary."""
        return entry_of(record, memory)
