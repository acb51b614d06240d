"""When roots are scanned."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Sequence

from sessiond.watch.roots import RescanReason, WatchedRoot

_SCAN_SHARE = 2_000
"""The time between two scans is at least this many times their CPU time: 0.05 % of a core."""
_POLL_SHARE = 200
"""The same for a root without events, where only scans find changes: 0.5 %."""
_LONGEST = 900.0


class RescanSchedule:
    """The scans that are due. Times are in seconds; points in time are monotonic."""

    def __init__(self, roots: Sequence[WatchedRoot], rescan: float, poll: float) -> None:
        self._roots = roots
        self._rescan, self._poll = rescan, poll
        self._due: dict[WatchedRoot, RescanReason] = {}
        self._costs: dict[WatchedRoot, float] = {}
        self._scanned: dict[WatchedRoot, float] = {}
        self._full = -math.inf
        self._pause = rescan
        """The seconds between two scans of everything. Each change of a file asks for it."""

    @property
    def complete(self) -> bool:
        """Whether every root is due."""
        return len(self._due) == len(self._roots)

    def add(self, roots: Sequence[WatchedRoot]) -> None:
        """Add roots."""
        self._roots = (*self._roots, *roots)

    def ask(self, why: RescanReason, roots: Iterable[WatchedRoot] | None = None) -> None:
        """Make a scan of these roots due now, by default of all. The first reason is kept."""
        for watched in self._roots if roots is None else roots:
            self._due.setdefault(watched, why)

    def next(self, polled: Collection[WatchedRoot]) -> float:
        """Return when the next root is due."""
        if self._due:
            return -math.inf
        return min([self._next_full(), *(self._next_poll(watched) for watched in polled)])

    def tick(self, polled: Collection[WatchedRoot]) -> None:
        """Add the roots that became due by the clock."""
        now = time.monotonic()
        if now >= self._next_full():
            self.ask(RescanReason.DUE)
        self.ask(RescanReason.POLL, [watched for watched in polled if now >= self._next_poll(watched)])

    def take(self) -> dict[WatchedRoot, RescanReason]:
        """Remove and return the due roots. They count as scanned from now on, whether or not the caller scans them."""
        now = time.monotonic()
        if self.complete:
            self._full = now
        self._scanned.update(dict.fromkeys(self._due, now))
        due, self._due = self._due, {}
        return due

    def record_scan(self, watched: WatchedRoot, cost: float) -> None:
        """Record the end of a scan, and the CPU time it took."""
        self._costs[watched] = cost
        self._pause = max(self._rescan, min(_SCAN_SHARE * sum(self._costs.values()), _LONGEST))
        self._scanned[watched] = time.monotonic()

    def _next_full(self) -> float:
        return self._full + self._pause

    def _next_poll(self, watched: WatchedRoot) -> float:
        pause = max(self._poll, min(_POLL_SHARE * self._costs.get(watched, 0.0), _LONGEST))
        return self._scanned.get(watched, self._full) + pause
