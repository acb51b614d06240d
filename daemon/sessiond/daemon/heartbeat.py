"""Detects a thread of the daemon that hangs, so that the service manager's watchdog restarts it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

PATIENCE = 120.0
"""Seconds in which each thread has to turn its loop once."""


class MonitoredLoop(Protocol):
    """A thread's loop."""

    iterations: int
    """Incremented with each turn of the loop."""


class Heartbeat:
    """Remembers when each loop last turned."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, float]] = {}

    def alive(self, loops: Iterable[MonitoredLoop], now: float, patience: float = PATIENCE) -> bool:
        """Return whether every loop has turned within `patience` seconds before `now` (monotonic).

        One that never turned counts from the first call. One hanging thread is enough for False: a daemon that only
        pushes, or only captures, looks alive and protects nobody.
        """
        lives = True
        for loop in loops:
            iterations, turned = self._last.get(id(loop), (-1, 0.0))
            if iterations != loop.iterations:
                iterations, turned = self._last[id(loop)] = loop.iterations, now
            lives &= now - turned < patience
        return lives
