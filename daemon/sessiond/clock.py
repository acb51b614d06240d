"""The wall clock in the unit of every stored time, and the clocks of an engine."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the current time in unix milliseconds."""
    return time.time_ns() // 1_000_000


class Clock:
    """The clocks of an engine. A test moves its own."""

    def now_ms(self) -> int:
        """Return the current time in unix milliseconds. The user may set it."""
        return now_ms()

    def monotonic(self) -> float:
        """Return the seconds since some moment. Nobody can set this clock, but it stops while the machine sleeps."""
        return time.monotonic()
