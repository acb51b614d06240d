"""Amp (closed source), as long as it kept its threads on the machine: formats.md 2.16."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar
from urllib.parse import unquote

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit, Watch, parse, speaks

FILE = re.compile(r"(T-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.json", re.ASCII)
ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
OTHER_ROLES = frozenset(["info", "system"])
SILENT = ("tool_result", "thinking", "redacted_thinking")
NONE = msgspec.Raw(b"")


class _Repository(msgspec.Struct):
    ref: str | None = None


class _Tree(msgspec.Struct):
    uri: str | None = None
    repository: _Repository | None = None


class _Platform(msgspec.Struct, rename="camel"):
    client_version: str | None = None


class _Initial(msgspec.Struct):
    trees: list[_Tree] = []
    platform: _Platform | None = None


class _Env(msgspec.Struct):
    initial: _Initial | None = None


class _Event(msgspec.Struct):
    timestamp: str | float | None = None
    model: str | None = None


class _Ledger(msgspec.Struct):
    events: list[_Event] = []


class _Document(msgspec.Struct, rename="camel"):
    messages: list[msgspec.Raw]
    created: float | str | None = None
    title: str | None = None
    env: _Env | None = None
    usage_ledger: _Ledger | None = None


class _Said(msgspec.Struct, gc=False):
    sent: float | str | None = msgspec.field(name="sentAt", default=None)


class _Usage(msgspec.Struct, gc=False):
    model: str | None = None
    timestamp: str | float | None = None


class _Record(msgspec.Struct, gc=False):
    """A message, or what `project` says of the thread."""

    type: str | None = None
    role: str | None = None
    content: msgspec.Raw = NONE
    meta: _Said | None = None
    usage: _Usage | None = None
    created: float | str | None = None
    title: str | None = None
    cwd: str | None = None
    branch: str | None = None
    version: str | None = None
    timestamp: str | float | None = None
    model: str | None = None


DOCUMENT = msgspec.json.Decoder(_Document)
RECORD = msgspec.json.Decoder(_Record)


class Amp(BaseSource):
    """Threads of Amp. The server has them; what lies here is old, or a stub (formats.md 2.16 Traps)."""

    tool: ClassVar[str] = "amp"
    versions: ClassVar[tuple[str, ...]] = ("threads of October 2025",)
    gaps: ClassVar[tuple[str, ...]] = (
        "since spring 2026 the server alone has the threads; no parent: what subagents do is in no thread",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the threads in the user's data directory."""
        for share in dict.fromkeys([places.share, f"{places.home}/.local/share"]):
            yield Root(path=f"{share}/amp/threads", watch=Watch.FLAT, depth=0)

    def unit(self, relative: str) -> Unit | None:
        """Tell threads by their name."""
        found = FILE.fullmatch(relative)
        return Unit(kind=Kind.DOCUMENT, native_id=found[1]) if found else None

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out the messages; a stub has none, and nothing is what the engine leaves the stream as it was for."""
        for content in files.values():
            document, native_id = parse(DOCUMENT, content), unit.native_id or ""
            if not document.messages:
                yield Portrait(native_id=native_id, records=())
                yield Portrait(native_id=native_id, stream="thread", records=())
                continue
            records = [bytes(msgspec.json.format(raw, indent=-1)) for raw in document.messages]
            yield Portrait(native_id=native_id, records=records)
            initial = (document.env.initial if document.env else None) or _Initial()
            tree = initial.trees[0] if initial.trees else _Tree()
            thread = {
                "type": "thread",
                "created": document.created,
                "title": document.title,
                "cwd": unquote((tree.uri or "").removeprefix("file://")) or None,
                "branch": (tree.repository.ref or "").removeprefix("refs/heads/") or None if tree.repository else None,
                "version": initial.platform.client_version if initial.platform else None,
            }
            events = document.usage_ledger.events if document.usage_ledger else []
            used = [{"type": "usage", "timestamp": event.timestamp, "model": event.model} for event in events]
            yield Portrait(native_id=native_id, stream="thread", records=map(msgspec.json.encode, [thread, *used]))

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a message says; their ids are numbers that every thread has, so that they are no keys."""
        said = parse(RECORD, record)
        role = ROLES.get(said.role or "")
        if role and not speaks(said.content, silent=SILENT):
            role = None
        times = (said.created, said.timestamp, said.meta and said.meta.sent, said.usage and said.usage.timestamp)
        known = said.type in ("thread", "usage") or said.role in ROLES or said.role in OTHER_ROLES
        return Entry(
            time_ms=parse_time(next((time for time in times if time), None)),
            role=role,
            model=said.model or (said.usage.model if said.usage else None),
            version=said.version,
            cwd=said.cwd,
            branch=said.branch,
            title=said.title,
            unknown=None if known else said.role or "?",
        )


SOURCES = (Amp(),)
