"""What the user has paused: kept in the state directory, so that a restart keeps it."""

from __future__ import annotations

import os
from datetime import datetime

from sessiond.atomic import atomic_write
from sessiond.frozen_record import FrozenRecord, parse_object, to_json

FILE = "paused.json"
ALL = ""
"""The name under which pushing as a whole is paused; the other names are tools."""
INDEFINITELY = 0
"""Instead of a time: until `sessiond resume`."""


class Paused(FrozenRecord):
    """What is paused until when, in unix milliseconds; `sources` by the tool's name."""

    pushing: int | None = None
    sources: dict[str, int] = {}  # noqa: RUF012 - each has its own

    def next_end_ms(self) -> int | None:
        """Tell when the first of them ends by itself; None where none does."""
        ends = [end for end in (self.pushing, *self.sources.values()) if end]
        return min(ends) if ends else None


def read(directory: str, now_ms: int) -> Paused:
    """Read what is paused now; what has ended, or can't be read, is not."""
    try:
        with open(os.path.join(directory, FILE), "rb") as file:
            kept = parse_object(file.read())
        now = {name: end for name, end in kept.items() if end == INDEFINITELY or end > now_ms}
        return Paused.from_json({"pushing": now.pop(ALL, None), "sources": now})
    except (OSError, ValueError, TypeError):
        return Paused()  # a power cut may leave anything there; to push what should wait is the lesser harm


def write(directory: str, paused: Paused) -> None:
    """Keep what is paused. Raises: OSError."""
    path = os.path.join(directory, FILE)
    everything = {**({} if paused.pushing is None else {ALL: paused.pushing}), **paused.sources}
    if not everything:
        if os.path.exists(path):
            os.unlink(path)
        return
    atomic_write(path, to_json(everything).encode())


def until(end_ms: int) -> str:
    """Say in words when a pause ends: the hour, and the day where it is another one."""
    if end_ms == INDEFINITELY:
        return "until `sessiond resume`"
    end = datetime.fromtimestamp(end_ms / 1000).astimezone()
    today = end.date() == datetime.now(end.tzinfo).date()
    return f"until {end:%H:%M}" if today else f"until {end:%Y-%m-%d %H:%M}"
