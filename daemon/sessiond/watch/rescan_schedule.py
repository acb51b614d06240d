"""When roots are looked at as a whole."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Sequence

from sessiond.watch.roots import RescanReason, WatchedRoot

_LOOK_SHARE = 2_000
"""A rescan comes after this many times the CPU time it takes, at the earliest: 0.05 % of a core."""
_POLL_SHARE = 200
"""The same for a root without events, where a look finds what nothing else does: 0.5 %."""
_LONGEST = 900.0


class RescanSchedule:
    """The looks that are due. Times are in seconds, points in time monotonic."""

    def __init__(self, roots: Sequence[WatchedRoot], rescan: float, poll: float) -> None:
        self._roots = roots
        self._rescan, self._poll = rescan, poll
        self._due: dict[WatchedRoot, RescanReason] = {}
        self._costs: dict[WatchedRoot, float] = {}
        self._looked: dict[WatchedRoot, float] = {}
        self._full = -math.inf

    @property
    def complete(self) -> bool:
        """Whether every root is due."""
        return len(self._due) == len(self._roots)

    def add(self, roots: Sequence[WatchedRoot]) -> None:
        """Look at more roots from now on."""
        self._roots = (*self._roots, *roots)

    def ask(self, why: RescanReason, roots: Iterable[WatchedRoot] | None = None) -> None:
        """Have these roots looked at now, by default all; the first reason stands."""
        for watched in self._roots if roots is None else roots:
            self._due.setdefault(watched, why)

    def next(self, polled: Collection[WatchedRoot]) -> float:
        """Tell when the next root is due."""
        if self._due:
            return -math.inf
        return min([self._next_full(), *(self._next_poll(watched) for watched in polled)])

    def tick(self, polled: Collection[WatchedRoot]) -> None:
        """Ask for what became due by the clock."""
        now = time.monotonic()
        if now >= self._next_full():
            self.ask(RescanReason.DUE)
        self.ask(RescanReason.POLL, [watched for watched in polled if now >= self._next_poll(watched)])

    def take(self) -> dict[WatchedRoot, RescanReason]:
        """Hand over what is due. It counts as looked at from now on, whether or not somebody looks."""
        now = time.monotonic()
        if self.complete:
            self._full = now
        self._looked.update(dict.fromkeys(self._due, now))
        due, self._due = self._due, {}
        return due

    def record_scan(self, watched: WatchedRoot, cost: float) -> None:
        """Note the end of a look, and the CPU time it took."""
        self._costs[watched] = cost
        self._looked[watched] = time.monotonic()

    def _next_full(self) -> float:
        pause = max(self._rescan, min(_LOOK_SHARE * sum(self._costs.values()), _LONGEST))
        return self._full + pause

    def _next_poll(self, watched: WatchedRoot) -> float:
        pause = max(self._poll, min(_POLL_SHARE * self._costs.get(watched, 0.0), _LONGEST))
        return self._looked.get(watched, self._full) + pause
