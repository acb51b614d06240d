"""The wall clock in the unit of every stored time, and the clocks of an engine."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the current time in unix milliseconds."""
    return time.time_ns() // 1_000_000


class Clock:
    """The clocks of the machine. A test passes a subclass whose time it moves."""

    now_ms = staticmethod(now_ms)
    """Return the current time in unix milliseconds. The user may set this clock."""

    monotonic = staticmethod(time.monotonic)
    """Return seconds. This clock can't be set; it may stand still while the machine sleeps."""
