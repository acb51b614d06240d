"""The wall clock in the unit of every stored time, and the clocks of an engine."""

from __future__ import annotations

import time
from typing import Protocol


def now_ms() -> int:
    """Return the current time in unix milliseconds."""
    return time.time_ns() // 1_000_000


class Clock(Protocol):
    """The clocks of an engine."""

    def now_ms(self) -> int:
        """Return the current time in unix milliseconds. The user may set this clock."""

    def monotonic(self) -> float:
        """Return seconds. This clock can't be set; it may stand still while the machine sleeps."""


class SystemClock:
    """The clocks of the machine."""

    now_ms = staticmethod(now_ms)
    monotonic = staticmethod(time.monotonic)
