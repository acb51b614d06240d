"""Continue: formats.md 2.14, field-notes B.2 "Continue CLI 1.5.47"; the extension and the CLI share their directory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit, Watch
from sessiond.sources.continue_dev.items import entry_of, named
from sessiond.sources.objects import encode
from sessiond.sources.places import path_of
from sessiond.sources.records import UUID, compact, parse


class _Document(msgspec.Struct, rename="camel"):
    history: list[msgspec.Raw]
    session_id: str | None = None
    title: str | None = None
    workspace_directory: str | None = None
    chat_model_title: str | None = None


class _Indexed(msgspec.Struct, rename="camel"):
    session_id: str | None = None
    date_created: str | float | None = None
    title: str | None = None
    workspace_directory: str | None = None


DOCUMENT = msgspec.json.Decoder(_Document)
INDEX = msgspec.json.Decoder(list[_Indexed])


class Continue(BaseSource):
    """Sessions of Continue: whole JSON documents, whose items have neither ids nor times."""

    tool: ClassVar[str] = "continue"
    versions: ClassVar[tuple[str, ...]] = ("1.5.47 (CLI)", "June 2026 (extension)")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch or times are kept: the index and the file's time stand in",
        "a fork counts the messages that it copied: nothing tells one, nor its parent",
    )
    files: ClassVar[re.Pattern[str]] = re.compile(rf"(?P<id>{UUID})\.json", re.ASCII)
    kind: ClassVar[Kind] = Kind.DOCUMENT
    timeless: ClassVar[bool] = True
    beside: ClassVar[tuple[str, ...]] = ("sessions.json",)  # the index
    folder: ClassVar[str] = ".continue"
    variable: ClassVar[str] = "CONTINUE_GLOBAL_DIR"

    def roots(self, places: Places) -> Iterable[Root]:
        """Name ~/.continue/sessions, and where CONTINUE_GLOBAL_DIR says."""
        for home in places.homes(self.variable, f"{places.home}/{self.folder}"):
            yield Root(path=f"{home}/sessions", watch=Watch.FLAT, depth=0)

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Tell when a session began: the index alone has a time, and does not follow it later (field-notes B.2)."""
        for indexed in parse(INDEX, beside["sessions.json"]):
            if indexed.session_id == unit.native_id:
                date = indexed.date_created
                time_ms = parse_time(int(date) if isinstance(date, str) and date.isdecimal() else date)
                return Entry(time_ms=time_ms, title=named(indexed.title), cwd=path_of(indexed.workspace_directory))
        return None

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out the history, an item a line; what changes of the session as a whole is a stream of its own."""
        for content in files.values():
            document, native_id = parse(DOCUMENT, content), unit.native_id or ""
            yield Portrait(native_id=native_id, records=[compact(item) for item in document.history])
            document.history = []
            yield Portrait(native_id=native_id, stream="session", records=[encode(document)])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an item says."""
        return entry_of(record)
