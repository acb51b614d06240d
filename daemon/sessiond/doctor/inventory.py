"""Inventory of the tools on this machine: their sessions, and when the tools delete them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from sessiond.cleanup import DAY_MS, DUE_DAYS, find_retention
from sessiond.config import Config
from sessiond.errors import ReadError, Torn
from sessiond.ingest import Location, locate
from sessiond.ingest.history_document import open_history
from sessiond.ingest.prompt_lines import find_transcripts, read_prompts
from sessiond.reader import Digest, open_regular
from sessiond.session import session_id
from sessiond.sources import find_roots
from sessiond.sources.base import Kind, Root, Source
from sessiond.watch.scan import scan


class ToolInventory(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one tool's sessions. Times are unix milliseconds."""

    tool: str
    files: int
    """Units (files, folders, databases); a session may have several, and a database has many sessions."""
    bytes: int
    oldest_ms: int
    """The last change of the unit that has been unchanged the longest."""
    days: int | None
    """Days without a change after which the tool deletes a session; None if it keeps them."""
    hint: str | None
    """How to make the tool keep them."""
    due: int
    """Units that the tool may delete within a week."""
    prompts_only: int = 0
    """Sessions that the tool deleted, so that only their prompts are left in its history."""


def scan_tools(config: Config, environ: Mapping[str, str], now_ms: int) -> list[ToolInventory]:
    """Scan every root once. Only directories and the settings of tools that delete sessions are read."""
    places = find_roots(config, environ)
    times: dict[str, dict[str, int]] = {}
    sizes: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    histories: dict[str, list[Location]] = {}
    for source, root in places:
        for path, stat in scan(root):
            for place in locate([(source, root)], path):
                if (source.tool, path) in seen:
                    continue
                seen.add((source.tool, path))
                sizes[source.tool] = sizes.get(source.tool, 0) + stat.st_size
                if place.unit.kind is Kind.HISTORY:
                    histories.setdefault(source.tool, []).append(place)
                elif place.unit.kind not in (Kind.FILE, Kind.TITLES):
                    units = times.setdefault(source.tool, {})  # a folder has several files, a database may have two
                    units[place.path] = max(units.get(place.path, 0), stat.st_mtime_ns // 1_000_000)
    retention = find_retention(environ)
    found = []
    for tool in sorted(times.keys() | histories.keys()):
        stamps = times.get(tool, {}).values()
        kept = retention.get(tool)
        limit = 0 if kept is None else now_ms - (kept.days - DUE_DAYS) * DAY_MS
        due = sum(stamp < limit for stamp in stamps)
        found.append(
            ToolInventory(
                tool=tool,
                files=len(stamps),
                bytes=sizes[tool],
                oldest_ms=min(stamps, default=now_ms),
                days=kept.days if kept else None,
                hint=kept.hint if kept else None,
                due=due,
                prompts_only=_count_prompts_only(places, tool, histories.get(tool, []), now_ms),
            )
        )
    return [each for each in found if each.files or each.prompts_only]


def _count_prompts_only(places: list[tuple[Source, Root]], tool: str, histories: list[Location], now_ms: int) -> int:
    """Return how many sessions are named in a tool's histories of prompts, and have no transcript any more."""
    named: set[str] = set()
    for location in histories:
        with suppress(ReadError, Torn, OSError):
            descriptor = open_regular(location.root, location.below)
            try:
                prompts = read_prompts(location.source, open_history(location, descriptor, Digest(0), now_ms))
                named |= {each.native_id for each in prompts if each.native_id and each.typed}
            finally:
                os.close(descriptor)
    if not named:
        return 0
    transcripts = find_transcripts(places, tool, "")
    return sum(not transcripts.has(session_id(tool, native_id), native_id) for native_id in named)
