"""Decides when to read a file again: one found in a rewrite, or a large one that changes all the time."""

from __future__ import annotations

import math

from sessiond.ingest import Location, Outcome
from sessiond.logs import log

TORN_WAITS = (0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)  # seconds between two attempts
FREE = 4 << 20
"""A document, folder or compressed file of up to this many bytes is read after each change."""
RATE = 32 << 20
"""Average bytes per second that are read of a larger one, which has to be read as a whole each time (rule 9)."""


class Retries:
    """Files to read again. Only the capture thread uses it. Points in time are in monotonic seconds."""

    def __init__(self) -> None:
        self._torn: dict[str, tuple[int, float]] = {}
        self._troubled: set[str] = set()
        self._resting: dict[str, float] = {}
        """When each large unit may be read again."""
        self._changed: dict[str, str] = {}
        """The paths that changed before their large unit may be read again, each with its unit."""

    def __len__(self) -> int:
        return len(self._torn)

    def next(self) -> float:
        """Return when the next file is due; infinity without one."""
        dues = [due for _, due in self._torn.values()]
        dues += [self._resting.get(unit, -math.inf) for unit in self._changed.values()]
        return min(dues, default=math.inf)

    def due(self, now: float) -> list[str]:
        """Return the paths to read now. A file found in a rewrite stays due until `note` has its next outcome."""
        rested = [path for path, unit in self._changed.items() if self._resting.get(unit, -math.inf) <= now]
        for path in rested:
            del self._changed[path]
        return [path for path, (_, due) in self._torn.items() if due <= now] + rested

    def rests(self, path: str, unit: str, now: float) -> bool:
        """Return whether a changed path has to wait, because its unit is large and was read just now.

        `due` returns the path when the wait is over.
        """
        until = self._resting.get(unit)
        if until is None:
            return False
        if until <= now:
            del self._resting[unit]
            return False
        self._changed[path] = unit
        return True

    def forget(self, path: str) -> None:
        """Forget a path that no source owns."""
        self._torn.pop(path, None)

    def note(self, path: str, location: Location, outcome: Outcome, now: float) -> None:
        """Record the outcome of reading a path, and log it. A lasting problem is logged once."""
        tool = location.source.tool
        if outcome.cost > FREE:
            self._resting[location.path] = now + outcome.cost / RATE
        if outcome.retry:
            tries = self._torn.get(path, (0, 0.0))[0]
            self._torn[path] = (tries + 1, now + TORN_WAITS[min(tries, len(TORN_WAITS) - 1)])
        else:
            self._torn.pop(path, None)
        if outcome.trouble is None:
            self._troubled.discard(path)
        elif path not in self._troubled and (not outcome.retry or self._torn[path][0] > len(TORN_WAITS)):
            self._troubled.add(path)
            log.warning("ingest.skipped", tool=tool, path=path, reason=outcome.trouble)
        if outcome.damaged:
            log.warning("ingest.damaged", tool=tool, path=path, records=outcome.damaged)
        if outcome.read:
            log.debug("ingest.captured", tool=tool, bytes=outcome.read)
