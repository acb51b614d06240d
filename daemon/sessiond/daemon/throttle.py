"""What holds the backlog back: its share of a core and of the line, the battery, a metered network.

Live changes never ask here. A thread asks before each part of the backlog, and says afterwards what it cost.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from sessiond.config import Backlog
from sessiond.daemon.power import ON_BATTERY, ON_METERED, PowerAndNetwork
from sessiond.logs import log

ASK_AGAIN = 30.0
"""Seconds between two questions to the system, while there is a backlog."""
LEAST_BATCH = 32 << 10
"""Bytes of a batch, however low the limit is: it is the size of one segment that travels as text."""
FREE = Backlog(on_battery="go on", on_metered="go on")
READING, PUSHING = "reading", "pushing"


class Override:
    """Whether somebody asked for all of it now (`sync`): then nothing is held back until it is done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.works: frozenset[str] = frozenset()
        """Which of the two threads are in haste."""

    def ask(self) -> None:
        """Hold nothing back from now on."""
        with self._lock:
            self.works = frozenset((READING, PUSHING))

    def end(self, work: str) -> bool:
        """Note that one of the two is done, and tell whether it was in haste until now.

        What is still being read is pushed in haste too.
        """
        with self._lock:
            before = self.works
            self.works -= {work} if work == READING or READING not in before else set()
            return self.works != before


class Throttle:
    """What holds back one of the two threads. Only that thread uses it, but `apply`, which any may call."""

    def __init__(
        self,
        work: str,
        settings: Backlog = FREE,
        *,
        override: Override | None = None,
        power: PowerAndNetwork | None = None,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        """`work` is READING or PUSHING: a metered network matters to the second alone."""
        self._work, self._settings, self._override = work, settings, override or Override()
        self._power = power or PowerAndNetwork()
        self._clock, self._cpu = clock, cpu
        self._until = self._ask_at = self._began = -math.inf
        self._since = 0.0
        self.reason: str | None = None
        """Why the backlog waits, in words."""

    def apply(self, settings: Backlog) -> None:
        """Take over other settings: what was to be waited for under the old ones is forgotten."""
        if settings != self._settings:
            self._settings = settings
            self._until = self._ask_at = -math.inf

    def override(self) -> None:
        """Hold nothing back until all is read and pushed: somebody asked for it."""
        self._override.ask()

    def rest(self) -> float:
        """Tell how many seconds are left of the rest that the last part asked for."""
        return 0.0 if self._override.works else max(0.0, self._until - self._clock())

    def left(self) -> float:
        """Tell in how many seconds it is worth to ask `open` again; 0 where the backlog may go on."""
        if self._override.works:
            return 0.0
        return max(0.0, self._until - self._clock(), 0.0 if self.reason is None else self._ask_at - self._clock())

    def open(self) -> bool:
        """Tell whether the backlog may go on now."""
        if self._override.works:
            self._note(None)
            return True
        now = self._clock()
        if now < self._until:
            return False
        if now >= self._ask_at:
            self._ask_at = now + ASK_AGAIN
            self._note(self._why())
        return self.reason is None

    def _why(self) -> str | None:
        if self._settings.on_battery == "pause" and self._power.on_battery():
            return ON_BATTERY
        metered = self._work == PUSHING and self._settings.on_metered == "pause"
        return ON_METERED if metered and self._power.on_metered() else None

    def _note(self, reason: str | None) -> None:
        before, self.reason = self.reason, reason
        if reason is not None and before is None:
            self._since = self._clock()
            log.info("backlog.paused", work=self._work, reason=reason)
        elif reason is None and before is not None:
            log.info("backlog.resumed", work=self._work, seconds=round(self._clock() - self._since))

    def begin(self) -> None:
        """Begin a part of the backlog."""
        self._began = self._cpu()

    def end(self) -> None:
        """End it: rest so long that the CPU time it took is the share which is allowed."""
        self._until = self._clock() + (self._cpu() - self._began) * (100 / self._settings.max_cpu - 1)

    @property
    def limited(self) -> bool:
        """Whether the line is for live changes first."""
        return self._settings.max_upload > 0 and not self._override.works

    def batch(self, most: int) -> int:
        """Tell how many bytes a batch may have: what goes through in a second, so that nothing live waits for long."""
        return min(most, max(self._settings.max_upload, LEAST_BATCH)) if self.limited else most

    def sent(self, count: int) -> None:
        """Rest so long that `count` bytes on the wire are the rate which is allowed."""
        if self.limited:
            self._until = self._clock() + count / self._settings.max_upload

    def done(self) -> bool:
        """Note that nothing is left of the backlog; tell whether that ends somebody's haste."""
        if self.reason is not None:
            self._note(None)
            self._ask_at = -math.inf
        return self._override.end(self._work)
