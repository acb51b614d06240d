"""Detects a thread of the daemon that hangs, so that the service manager's watchdog restarts it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

PATIENCE = 120.0
"""Seconds within which each thread has to start another iteration."""


class MonitoredLoop(Protocol):
    """A thread's loop."""

    iterations: int
    """Incremented on each iteration."""


class Heartbeat:
    """Remembers when each loop last made progress."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, float]] = {}

    def alive(self, loops: Iterable[MonitoredLoop], now: float, patience: float = PATIENCE) -> bool:
        """Return whether every loop started an iteration within `patience` seconds before `now` (monotonic).

        A loop that has never done so counts from the first call. One hung thread is enough for False: a daemon that
        only uploads, or only captures, looks alive and protects no data.
        """
        alive = True
        for loop in loops:
            iterations, since = self._last.get(id(loop), (-1, 0.0))
            if iterations != loop.iterations:
                iterations, since = self._last[id(loop)] = loop.iterations, now
            alive &= now - since < patience
        return alive
