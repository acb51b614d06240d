"""Clocks that the test moves."""

from __future__ import annotations

from sessiond.clock import Clock

NOW_MS = 1_790_000_000_000


class ManualClock(Clock):
    """A wall clock and a monotonic clock that stand still until the test moves them."""

    def __init__(self, ms: int = NOW_MS) -> None:
        self.ms, self.seconds = ms, 1000.0

    def now_ms(self) -> int:
        """Return the time of the wall clock."""
        return self.ms

    def monotonic(self) -> float:
        """Return the time of the monotonic clock."""
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self.ms += int(seconds * 1000)
        self.seconds += seconds

    def set(self, ms: int) -> None:
        """Set the wall clock. The monotonic clock moves along, but never back."""
        self.seconds += max(0.0, (ms - self.ms) / 1000)
        self.ms = ms
