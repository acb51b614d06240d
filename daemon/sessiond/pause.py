"""What the user has paused, stored in the state directory so that it survives a restart."""

from __future__ import annotations

import os
from datetime import datetime

from sessiond import clock
from sessiond.atomic import atomic_write
from sessiond.frozen_record import FrozenRecord, parse_object, to_json

FILE = "paused.json"
ALL = ""
"""The name under which pushing as a whole is paused; the other names are tools."""
INDEFINITELY = 0
"""Stands for a time: the pause lasts until `sessiond unpause`."""


class Paused(FrozenRecord):
    """What is paused until when, in unix milliseconds; `sources` by the tool's name."""

    pushing: int | None = None
    sources: dict[str, int] = {}  # noqa: RUF012 - each has its own

    def next_end_ms(self) -> int | None:
        """Return when the first pause ends by itself; None if none does."""
        ends = [end for end in (self.pushing, *self.sources.values()) if end]
        return min(ends) if ends else None


def read(directory: str, now_ms: int) -> Paused:
    """Return the pauses in force. Pauses that ended are left out; an unreadable file counts as no pause."""
    try:
        with open(os.path.join(directory, FILE), "rb") as file:
            kept = parse_object(file.read())
        now = {name: end for name, end in kept.items() if end == INDEFINITELY or end > now_ms}
        return Paused.from_json({"pushing": now.pop(ALL, None), "sources": now})
    except (OSError, ValueError, TypeError):
        return Paused()  # a power cut may damage the file; pushing too early is the lesser harm


def write(directory: str, paused: Paused) -> None:
    """Store what is paused. Raises: OSError."""
    path = os.path.join(directory, FILE)
    everything = {**({} if paused.pushing is None else {ALL: paused.pushing}), **paused.sources}
    if not everything:
        if os.path.exists(path):
            os.unlink(path)
        return
    atomic_write(path, to_json(everything).encode())


def until(end_ms: int) -> str:
    """Format the end of a pause: the time, with the date if it is not today."""
    if end_ms == INDEFINITELY:
        return "until `sessiond unpause`"
    end = datetime.fromtimestamp(end_ms / 1000).astimezone()
    today = end.date() == datetime.fromtimestamp(clock.now_ms() / 1000, end.tzinfo).date()
    return f"until {end:%H:%M}" if today else f"until {end:%Y-%m-%d %H:%M}"
