"""GitHub Copilot CLI (closed source): formats.md 2.6, field-notes A.6."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit
from sessiond.sources.copilot_cli.events import entry_of
from sessiond.sources.copilot_cli.locks import live_below
from sessiond.sources.objects import encode
from sessiond.sources.places import distinct

ID = r"([0-9A-Za-z][\w.-]{7,80}?)"
EVENTS = re.compile(rf"{ID}(?:/events)?\.jsonl", re.ASCII)
WORKSPACE = re.compile(rf"{ID}/workspace\.yaml", re.ASCII)
SCALAR = re.compile(r"^(id|cwd|branch|name|client_name):[ ]*(?:[|>][+-]?\n[ ]+)?(.*)$", re.MULTILINE)
ELSEWHERE = frozenset(["checkpoints", "files", "research", "rewind-file-snapshots"])


class CopilotCli(BaseSource):
    """Events of the command line; its JetBrains sessions and the derived `session-store.db` are not read."""

    tool: ClassVar[str] = "copilot-cli"
    versions: ClassVar[tuple[str, ...]] = ("0.0.341", "0.0.342", "1.0.102")
    gaps: ClassVar[tuple[str, ...]] = (
        "sessions of the JetBrains plug-in (~/.copilot/jb)",
        "no parent: subagents are inside of their session",
    )

    def _homes(self, places: Places) -> list[str]:
        state = places.given("XDG_STATE_HOME", "/.copilot")
        return distinct(places.given("COPILOT_HOME"), state, f"{places.home}/.copilot")

    def roots(self, places: Places) -> Iterable[Root]:
        """Name both directories of states: before 0.0.342 it was `history-session-state`."""
        for home in self._homes(places):
            yield Root(path=f"{home}/session-state", depth=1, skip=ELSEWHERE)
            yield Root(path=f"{home}/history-session-state", depth=1, skip=ELSEWHERE)

    def unit(self, relative: str) -> Unit | None:
        """Tell events, of a directory (1.0) or flat (before), and the file that knows a session's name."""
        if found := EVENTS.fullmatch(relative):
            return Unit(native_id=found[1])
        if found := WORKSPACE.fullmatch(relative):
            return Unit(kind=Kind.DOCUMENT, native_id=found[1], stream="workspace")
        return None

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Keep of workspace.yaml what does not change with every event; its values are plain or one line of text."""
        for content in files.values():
            said = {key: value.strip("\"' ") for key, value in SCALAR.findall(content.decode("utf-8", "replace"))}
            yield Portrait(native_id=unit.native_id or "", stream="workspace", records=[encode(said)])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an event says."""
        return entry_of(record, memory)

    def live(self, places: Places) -> Iterable[str]:
        """Name the sessions whose process runs."""
        for home in self._homes(places):
            yield from live_below(f"{home}/session-state")
