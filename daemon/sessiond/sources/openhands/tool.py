"""OpenHands: formats.md 2.26, field-notes B.2 "OpenHands CLI 1.16.0"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit, Watch
from sessiond.sources.openhands.events import entry_of
from sessiond.sources.openhands.state import note_of
from sessiond.sources.places import distinct
from sessiond.sources.records import UUID, compact

SESSION = re.compile(rf"([0-9a-f]{{32}}|{UUID})(?:/.*)?", re.ASCII | re.DOTALL)
EVENT = re.compile(r"events/(?:event-)?(\d+)(?:-[\w-]+)?\.json", re.ASCII)


class OpenHands(BaseSource):
    """Conversations of OpenHands: a directory with a file for each event, left to the rescan."""

    tool: ClassVar[str] = "openhands"
    versions: ClassVar[tuple[str, ...]] = ("0 (V0)", "1.16.0 (CLI)")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version is kept, and a branch before 1.0 only; no parent: subagents are inside of their session",
        "messages of actions are not counted",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the conversations of ~/.openhands and of where its variables say, and the sessions of V0."""
        own = places.given("OPENHANDS_CONVERSATIONS_DIR")
        bases = places.homes("OPENHANDS_PERSISTENCE_DIR", f"{places.home}/.openhands")
        conversations = [f"{base}/conversations" for base in bases]
        for path in distinct(own, *conversations, f"{places.home}/.openhands/sessions"):
            yield Root(path=path, watch=Watch.SCAN, depth=2, skip=frozenset(["event_cache"]))

    def unit(self, relative: str) -> Unit | None:
        """Tell conversations by their directories, whose names are their ids without the dashes."""
        found = SESSION.fullmatch(relative)
        if not found:
            return None
        bare = found[1].replace("-", "")
        native_id = "-".join([bare[:8], bare[8:12], bare[12:16], bare[16:20], bare[20:]])
        return Unit(kind=Kind.FOLDER, path=found[1], native_id=native_id)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out the events in the order of their numbers, and the few fields that the state adds."""
        native_id = unit.native_id or ""
        events = sorted((int(found[1]), name) for name in files if (found := EVENT.fullmatch(name)))
        yield Portrait(native_id=native_id, records=[compact(files[name]) for _, name in events])
        states = [files[name] for name in ("base_state.json", "metadata.json") if name in files]
        yield Portrait(native_id=native_id, stream="state", records=[note_of(state) for state in states])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an event says."""
        return entry_of(record)
