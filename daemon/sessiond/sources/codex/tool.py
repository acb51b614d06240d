"""Codex CLI, its IDE extension and desktop application: formats.md 2.2, field-notes A.3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import msgspec

from sessiond.sources.base import BaseSource, Kind, Places, Portrait, Root, Unit
from sessiond.sources.codex.rollout import entry_of
from sessiond.sources.records import UUID, compact, parse

FILE = re.compile(
    rf"(?:[^/]+/)*rollout-\d{{4}}-\d\d-\d\d(?:T\d\d-\d\d-\d\d)?-({UUID})\.(jsonl|jsonl\.zst|json)", re.ASCII
)


class _Document(msgspec.Struct):
    session: msgspec.Raw
    items: list[msgspec.Raw] = []


DOCUMENT = msgspec.json.Decoder(_Document)


class Codex(BaseSource):
    """Rollouts of Codex, whoever originated them (no allow-list: formats.md 2.2 Traps)."""

    tool: ClassVar[str] = "codex"
    versions: ClassVar[tuple[str, ...]] = ("0.1 (TypeScript)", "0.20.0", "0.80.0", "0.100", "0.149", "0.169.0")
    gaps: ClassVar[tuple[str, ...]] = (
        "a fork of 0.169 has its own records only: it points into the file of its parent",
        "titles are in a database beside the rollouts, which is not read",
    )
    views: ClassVar[bool] = True
    variable: ClassVar[str] = "CODEX_HOME"
    home: ClassVar[str] = ".codex"

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `sessions` and `archived_sessions` of CODEX_HOME, and of ~/.codex as well: what is there stays there."""
        return rollouts_below(places.homes(self.variable, f"{places.home}/{self.home}"))

    def unit(self, relative: str) -> Unit | None:
        """Tell rollouts, plain and packed (`.jsonl.zst`), and the documents of the TypeScript CLI (`.json`).

        A file's uuid is its thread's id. Names of temporary files (`.rollout-*`, `rollout-compress-*`) do not fit.
        """
        found = FILE.fullmatch(relative)
        if not found:
            return None
        if found[2] == "json":
            return Unit(kind=Kind.DOCUMENT, native_id=found[1])
        return Unit(native_id=found[1], packed=found[2] == "jsonl.zst")

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out {session, items} as an un-enveloped rollout: the header, then an item a line (formats.md 2.2 (a))."""
        for content in files.values():
            document = parse(DOCUMENT, content)
            records = map(compact, (document.session, *document.items))
            yield Portrait(native_id=unit.native_id or "", records=records)

    decode = staticmethod(entry_of)  # rollouts are the largest of all: a call less for each line


def rollouts_below(homes: Iterable[str]) -> Iterator[Root]:
    """Name the directories of rollouts: archiving moves one to the second (formats.md 1.1)."""
    for home in homes:
        yield Root(path=f"{home}/sessions")
        yield Root(path=f"{home}/archived_sessions")
