"""Kimi CLI and its successor Kimi Code: formats.md 2.27, field-notes B.2 "Kimi CLI 1.49.0"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit
from sessiond.sources.kimi.state import lay_out_state, told_beside
from sessiond.sources.kimi.wire import entry_of
from sessiond.sources.records import UUID

CLI = re.compile(rf"((?:\w+_)?[0-9a-f]{{32}})/({UUID})/(?:(?:subagents/([\w-]+)/)?wire\.jsonl|(state)\.json)", re.ASCII)
# `ses_<uuid>` is Kimi CLI's session <uuid>, imported; `conv-` one of the desktop (migration-legacy, migrate-one.ts).
CODE = re.compile(r"([\w.-]+/((?:session_|ses_|conv-)[\w-]+))/(?:agents/([\w-]+)/wire\.jsonl|(state)\.json)", re.ASCII)


class Kimi(BaseSource):
    """Wire logs, which are only ever appended to; context.jsonl repeats them without times and is rotated."""

    tool: ClassVar[str] = "kimi"
    versions: ClassVar[tuple[str, ...]] = ("1.49.0 (CLI)", "1.5 (Code)")
    gaps: ClassVar[tuple[str, ...]] = (
        "Kimi CLI keeps no model, version or branch; Kimi Code no version or branch",
        "sessions from before wire logs (context.jsonl alone, or a flat file) are not read",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the sessions of both programs, where KIMI_SHARE_DIR and KIMI_CODE_HOME say too, and of the desktop."""
        for variable, usual in (("KIMI_SHARE_DIR", ".kimi"), ("KIMI_CODE_HOME", ".kimi-code")):
            for home in places.homes(variable, f"{places.home}/{usual}"):
                yield Root(path=f"{home}/sessions", depth=4)
        desktop = f"{places.config}/kimi-desktop/daimon-share/daimon/runtime/kimi-code/home"
        yield Root(path=f"{desktop}/sessions", depth=4)

    def unit(self, relative: str) -> Unit | None:
        """Tell wire logs and states; a subagent's log is a stream of its session."""
        if found := CLI.fullmatch(relative):
            project, session, agent, state = found.groups()
            beside = () if agent else (f"{project}/{session}/state.json", "../kimi.json")
            return _unit(session, agent or "main", bool(agent), state, beside)
        if found := CODE.fullmatch(relative):
            directory, session, agent, state = found.groups()
            imported = session.startswith("ses_")
            stream = "imported" if imported and agent in (None, "main") else agent
            below = agent not in (None, "main")
            return _unit(session.removeprefix("ses_"), stream or "main", below, state, (f"{directory}/state.json",))
        return None

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Tell what the logs do not say: where Kimi CLI works, and what is a fork."""
        return told_beside(beside, unit)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Take of a state what is looked at."""
        return [lay_out_state(content, unit) for content in files.values()]

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a line of a wire log says, or what was taken of a state."""
        return entry_of(record, memory)


def _unit(native_id: str, stream: str, agent: bool, state: str | None, beside: tuple[str, ...]) -> Unit:
    if state:
        name = state if stream == "main" else f"{stream}-{state}"
        return Unit(kind=Kind.DOCUMENT, native_id=native_id, stream=name, beside=beside)
    return Unit(native_id=native_id, stream=stream, thread=not agent, beside=beside)


SOURCES = (Kimi(),)
