"""The tools' own clean-up: after how long they delete what nobody has captured yet."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import msgspec

from sessiond.config.units import parse_duration
from sessiond.errors import ConfigError

CLAUDE_DAYS = 30
"""Claude Code's default `cleanupPeriodDays`; at each start it removes transcripts by their mtime."""
GEMINI_DAYS = 30
"""Gemini CLI's default `general.sessionRetention.maxAge`."""
DUE_DAYS = 7
"""What a tool may delete within so many days is due."""
DAY_MS = 86_400_000
_COMMENT = re.compile(r'("(?:\\.|[^"\\\n])*")|//[^\n]*|/\*(?s:.)*?\*/')


def deleted_after(environ: Mapping[str, str]) -> dict[str, int | None]:
    """Tell after how many days without a change a tool deletes a session; None where that is switched off."""
    return {"claude-code": claude_days(environ), "gemini": gemini_days(environ)}


def due_before(environ: Mapping[str, str], now_ms: int) -> dict[str, int]:
    """Tell of each tool that deletes since when (unix ms) a session was not changed that is due."""
    return {tool: now_ms - (days - DUE_DAYS) * DAY_MS for tool, days in deleted_after(environ).items() if days}


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
