"""What the tools have on this machine, and when their own clean-up takes it: for `init` and `doctor`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import msgspec

from sessiond.config import Config
from sessiond.config.units import parse_duration
from sessiond.errors import ConfigError
from sessiond.ingest import locate
from sessiond.sources import find_places
from sessiond.watch.scan import scan

CLAUDE_DAYS = 30
"""Claude Code's default `cleanupPeriodDays`; at each start it removes transcripts by their mtime."""
GEMINI_DAYS = 30
"""Gemini CLI's default `general.sessionRetention.maxAge`."""
DAY_MS = 86_400_000
_COMMENT = re.compile(r'("(?:\\.|[^"\\\n])*")|//[^\n]*|/\*(?s:.)*?\*/')


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What one tool has. Times are unix milliseconds."""

    tool: str
    sessions: int
    bytes: int
    oldest_ms: int
    """When the session that was left alone the longest was last changed."""
    days: int | None
    """After how many days without a change the tool deletes a session; None where it keeps them."""
    due: int
    """Sessions that it may delete within a week."""


def survey(config: Config, environ: Mapping[str, str], now_ms: int) -> list[Found]:
    """Look at every root once; nothing is read but directories and, for Claude Code and Gemini, their settings."""
    places = find_places(config, environ)
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
    keeping = {"claude-code": claude_days(environ), "gemini": gemini_days(environ)}
    found = []
    for tool, stamps in sorted(times.items()):
        days = keeping.get(tool)
        limit = 0 if days is None else now_ms - (days - 7) * DAY_MS
        due = sum(stamp < limit for stamp in stamps)
        found.append(
            Found(tool=tool, sessions=len(stamps), bytes=sizes[tool], oldest_ms=min(stamps), days=days, due=due)
        )
    return found


def claude_days(environ: Mapping[str, str]) -> int:
    """Read after how many days Claude Code deletes transcripts; of several directories the shortest counts."""
    home = environ.get("HOME") or os.path.expanduser("~")
    folders = [part.strip() for part in environ.get("CLAUDE_CONFIG_DIR", "").split(",") if part.strip()]
    days = []
    for folder in folders or [os.path.join(home, ".claude")]:
        value = _settings(os.path.join(folder, "settings.json")).get("cleanupPeriodDays", CLAUDE_DAYS)
        days.append(value if isinstance(value, int) and value > 0 else CLAUDE_DAYS)
    return min(days)


def gemini_days(environ: Mapping[str, str]) -> int | None:
    """Read after how many days Gemini CLI deletes sessions; None where that is switched off."""
    home = environ.get("GEMINI_CLI_HOME") or environ.get("HOME") or os.path.expanduser("~")
    general = _settings(os.path.join(home, ".gemini", "settings.json")).get("general")
    kept = general.get("sessionRetention") if isinstance(general, dict) else None
    if not isinstance(kept, dict):
        return GEMINI_DAYS
    if kept.get("enabled") is False:
        return None
    try:
        return max(1, int(parse_duration(str(kept.get("maxAge", f"{GEMINI_DAYS}d"))) // 86_400))
    except (ValueError, ConfigError):
        return GEMINI_DAYS


def _settings(path: str) -> dict[str, object]:
    """Read a tool's settings: JSON that may have comments; what can't be read has none."""
    try:
        with open(path, encoding="utf-8") as file:
            text = _COMMENT.sub(lambda match: match[1] or "", file.read())
        return msgspec.json.decode(text, type=dict[str, object])
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError):
        return {}
