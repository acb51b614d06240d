"""Inventory of the tools on this machine: their sessions, and when the tools delete them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sessiond.cleanup import DAY_MS, DUE_DAYS, find_retention
from sessiond.config import Config
from sessiond.ingest import locate
from sessiond.sources import find_roots
from sessiond.watch.scan import scan


class ToolInventory(msgspec.Struct, frozen=True, kw_only=True):
    """The sessions of one tool. Times are unix milliseconds."""

    tool: str
    sessions: int
    bytes: int
    oldest_ms: int
    """The last change of the session that has been unchanged the longest."""
    days: int | None
    """Days without a change after which the tool deletes a session; None if it keeps them."""
    hint: str | None
    """How to make the tool keep them."""
    due: int
    """Sessions that the tool may delete within a week."""


def scan_tools(config: Config, environ: Mapping[str, str], now_ms: int) -> list[ToolInventory]:
    """Scan every root once. Only directories and the settings of tools that delete sessions are read."""
    places = find_roots(config, environ)
    times: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    for source, root in places:
        for path, stat in scan(root):
            for place in locate([(source, root)], path):
                if (source.tool, path) in seen:
                    continue
                seen.add((source.tool, path))
                sizes[source.tool] = sizes.get(source.tool, 0) + stat.st_size
                if place.relative == place.below:
                    times.setdefault(source.tool, []).append(stat.st_mtime_ns // 1_000_000)
    retention = find_retention(environ)
    found = []
    for tool, stamps in sorted(times.items()):
        kept = retention.get(tool)
        limit = 0 if kept is None else now_ms - (kept.days - DUE_DAYS) * DAY_MS
        due = sum(stamp < limit for stamp in stamps)
        found.append(
            ToolInventory(
                tool=tool,
                sessions=len(stamps),
                bytes=sizes[tool],
                oldest_ms=min(stamps),
                days=kept.days if kept else None,
                hint=kept.hint if kept else None,
                due=due,
            )
        )
    return found
