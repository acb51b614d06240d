"""Mistral Vibe: formats.md 2.27, field-notes B.2 "Mistral Vibe". It has had three stores.

1.x kept a document a session, 2.x a directory with JSON lines and a description, and since 2.26 ("unified") a directory
with generations of content-addressed chunks and a journal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit
from sessiond.sources.records import UUID, compact, parse
from sessiond.sources.vibe.meta import META, Meta, described
from sessiond.sources.vibe.records import entry_of
from sessiond.sources.vibe.unified import entries_of, lines_of

NAME = r"[\w-]+_\d{8}_\d{6}_[0-9a-f]{8}"
UNIFIED = re.compile(rf"(unified/({UUID}))(?:/.*)?", re.ASCII | re.DOTALL)
LINES = re.compile(rf"({NAME})(?:/.*)?", re.ASCII | re.DOTALL)
DOCUMENT = re.compile(rf"{NAME}\.json", re.ASCII)
AGENT = re.compile(r"agents/([\w-]+)/messages\.jsonl", re.ASCII)


class _Document(msgspec.Struct):
    metadata: Meta
    messages: list[msgspec.Raw]


WHOLE = msgspec.json.Decoder(_Document)


class Vibe(BaseSource):
    """Sessions of Mistral Vibe, whose ids have the shape of UUIDs."""

    tool: ClassVar[str] = "mistral-vibe"
    versions: ClassVar[tuple[str, ...]] = ("1.3", "2.26.1", "3.0.2")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or title is kept; a branch since 3.0 neither",
        "a session that another major version took over may be seen twice",
        "a parent is named since 2.0 only where the tool forked or compacted",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name logs/session of ~/.vibe and of VIBE_HOME."""
        for home in places.homes("VIBE_HOME", f"{places.home}/.vibe"):
            yield Root(path=f"{home}/logs/session", depth=5, skip=frozenset(["plugins", "active"]))

    def unit(self, relative: str) -> Unit | None:
        """Tell the directories of sessions, and the documents of 1.x."""
        if found := UNIFIED.fullmatch(relative):
            return Unit(kind=Kind.FOLDER, path=found[1], native_id=found[2])
        if DOCUMENT.fullmatch(relative):
            return Unit(kind=Kind.DOCUMENT)
        found = LINES.fullmatch(relative)
        return Unit(kind=Kind.FOLDER, path=found[1]) if found else None

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out the messages; the description, which is written at each save, is a stream of its own.

        Raises: ValueError for a directory without a description, or whose generation is not all there.
        """
        if unit.kind is Kind.DOCUMENT:
            for content in files.values():
                document = parse(WHOLE, content)
                yield Portrait(native_id=document.metadata.session_id, records=map(compact, document.messages))
                yield described(document.metadata)
            return
        if "meta.json" not in files:
            raise ValueError("the session has no description yet")
        meta = parse(META, files["meta.json"])
        if "CURRENT" in files:
            yield Portrait(native_id=meta.session_id, records=map(compact, entries_of(files).values()))
        else:
            if files.get("messages.jsonl") == b"":
                raise ValueError("the messages are being written")
            yield Portrait(native_id=meta.session_id, records=lines_of(files.get("messages.jsonl", b"")))
        for name in sorted(files):
            if found := AGENT.fullmatch(name):
                yield Portrait(native_id=meta.session_id, stream=found[1], thread=False, records=lines_of(files[name]))
        yield described(meta)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a record says."""
        return entry_of(record)


SOURCES = (Vibe(),)
