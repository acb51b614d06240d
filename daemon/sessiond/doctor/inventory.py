"""What the tools have on this machine, and when their own clean-up takes it: for `init` and `doctor`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sessiond.cleanup import DAY_MS, DUE_DAYS, find_retention
from sessiond.config import Config
from sessiond.ingest import locate
from sessiond.sources import find_roots
from sessiond.watch.scan import scan


class ToolInventory(msgspec.Struct, frozen=True, kw_only=True):
    """What one tool has. Times are unix milliseconds."""

    tool: str
    sessions: int
    bytes: int
    oldest_ms: int
    """When the session that was left alone the longest was last changed."""
    days: int | None
    """After how many days without a change the tool deletes a session; None where it keeps them."""
    hint: str | None
    """How the user makes the tool keep them."""
    due: int
    """Sessions that it may delete within a week."""


def scan_tools(config: Config, environ: Mapping[str, str], now_ms: int) -> list[ToolInventory]:
    """Look at every root once; nothing is read but directories and the settings of tools that delete sessions."""
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
