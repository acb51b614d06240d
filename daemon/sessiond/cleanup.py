"""Retention of the tools: when they delete sessions, which may not be captured yet."""

from __future__ import annotations

from collections.abc import Mapping

from sessiond.sources import find_sources
from sessiond.sources.base import Retention, UserDirs

DUE_DAYS = 7
"""Sessions that a tool may delete within so many days are due: they are captured first."""
DAY_MS = 86_400_000


def find_retention(environ: Mapping[str, str]) -> dict[str, Retention]:
    """Return the retention of each tool that deletes sessions by itself."""
    dirs = UserDirs.current(environ)
    found = ((source.tool, source.retention(dirs)) for source in find_sources())
    return {tool: retention for tool, retention in found if retention is not None}


def due_before(environ: Mapping[str, str], now_ms: int) -> dict[str, int]:
    """Return for each tool that deletes sessions the time (unix ms) before which an unchanged session is due."""
    return {tool: now_ms - (kept.days - DUE_DAYS) * DAY_MS for tool, kept in find_retention(environ).items()}
