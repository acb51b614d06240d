"""Amp (closed source), as long as it kept its threads on the machine: formats.md 2.16."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.amp.documents import lay_out
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit, Watch
from sessiond.sources.records import NONE, SILENT, UUID, parse, speaker, unheard

KNOWN = frozenset(["thread", "usage", "user", "assistant", "info", "system"])


class _Sent(msgspec.Struct, gc=False):
    at: float | str | None = msgspec.field(name="sentAt", default=None)


class _Usage(msgspec.Struct, gc=False):
    model: str | None = None
    timestamp: str | float | None = None


class _Record(msgspec.Struct, gc=False):
    """A message, or what `project` says of the thread."""

    type: str | None = None
    role: str | None = None
    content: msgspec.Raw = NONE
    meta: _Sent | None = None
    usage: _Usage | None = None
    created: float | str | None = None
    title: str | None = None
    cwd: str | None = None
    branch: str | None = None
    version: str | None = None
    timestamp: str | float | None = None
    model: str | None = None


RECORD = msgspec.json.Decoder(_Record)


class Amp(BaseSource):
    """Threads of Amp. The server has them; what lies here is old, or a stub (formats.md 2.16 Traps)."""

    tool: ClassVar[str] = "amp"
    versions: ClassVar[tuple[str, ...]] = ("threads of October 2025",)
    gaps: ClassVar[tuple[str, ...]] = (
        "since spring 2026 the server alone has the threads; no parent: what subagents do is in no thread",
    )
    files: ClassVar[re.Pattern[str]] = re.compile(rf"(?P<id>T-{UUID})\.json", re.ASCII)
    kind: ClassVar[Kind] = Kind.DOCUMENT

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the threads in the user's data directory."""
        for share in places.homes("XDG_DATA_HOME", f"{places.home}/.local/share"):
            yield Root(path=f"{share}/amp/threads", watch=Watch.FLAT, depth=0)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out the messages, and what the thread says of itself."""
        for content in files.values():
            yield from lay_out(content, unit.native_id or "")

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a message says; their ids are numbers that every thread has, so that they are no keys."""
        said = parse(RECORD, record)
        times = (said.created, said.timestamp, said.meta and said.meta.at, said.usage and said.usage.timestamp)
        return Entry(
            time_ms=parse_time(next((time for time in times if time), None)),
            role=speaker(said.role, said.content, silent=SILENT),
            model=said.model or (said.usage.model if said.usage else None),
            version=said.version,
            cwd=said.cwd,
            branch=said.branch,
            title=said.title,
            unknown=unheard(said.role or said.type, KNOWN),
        )


SOURCES = (Amp(),)
