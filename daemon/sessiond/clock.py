"""The wall clock in the unit of every stored time."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the current time in unix milliseconds."""
    return time.time_ns() // 1_000_000
