"""Parse sizes and durations as people write them: "512 MB", "1h30m"."""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _BYTES[_letter] = _BYTES[f"{_letter}b"] = 1000**_power
    _BYTES[f"{_letter}i"] = _BYTES[f"{_letter}ib"] = 1024**_power

# Not compiled at import: `sessiond status` has a budget of 100 ms, and most configurations use none of them.
_DURATION = r"(?:\d+(?:\.\d+)?\s*(?:ms|[smhdw])\s*)+"
_PART = r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])"
_NUMBER = r"\d+(?:\.\d+)?"
_SIZE = r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b?)"


def parse_duration(text: str) -> float:
    """Parse "90s", "30m", "1h30m", "1.5 h", "2d" or a plain number as seconds.

    Raises: ValueError for other text.
    """
    plain = text.strip().lower()
    if re.fullmatch(_NUMBER, plain):
        return float(plain)
    if not re.fullmatch(_DURATION, plain):
        raise ValueError("not a duration")
    return sum(float(count) * _SECONDS[unit] for count, unit in re.findall(_PART, plain))


def parse_rate(text: str) -> int:
    """Parse "1MB/s", "200 kB/s" or a size as bytes per second.

    Raises: ValueError for other text.
    """
    return parse_size(text.strip().removesuffix("/s"))


def parse_percent(text: str) -> float:
    """Parse "50%" or a plain number. Raises: ValueError for other text."""
    plain = text.strip().removesuffix("%").rstrip()
    if not re.fullmatch(_NUMBER, plain):
        raise ValueError("not a percentage")
    return float(plain)


def parse_backfill(text: str) -> float | None:
    """Parse "90d" as seconds; "none" is 0, and "all" is None (no limit).

    Raises: ValueError for other text.
    """
    plain = text.strip().lower()
    if plain in ("all", "none"):
        return None if plain == "all" else 0.0
    if not re.fullmatch(_DURATION, plain):
        raise ValueError("not an age")
    return parse_duration(plain)


def parse_size(text: str) -> int:
    """Parse "512 MB" or "512M" (powers of 1000, as sizes are shown), "512 MiB" (of 1024) or a plain number as bytes.

    Raises: ValueError for other text.
    """
    match = re.fullmatch(_SIZE, text.strip().lower())
    if match is None or match[2] not in _BYTES:
        raise ValueError("not a size")
    return round(float(match[1]) * _BYTES[match[2]]) if "." in match[1] else int(match[1]) * _BYTES[match[2]]
