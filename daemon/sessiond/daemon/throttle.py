"""Throttles the backlog: its share of a core, its upload rate, pauses on battery and on a metered network.

Live changes are never throttled. A thread asks before each chunk of the backlog, and reports afterwards what it cost.
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
"""Seconds between two checks of power and network while there is a backlog."""
LEAST_BATCH = 32 << 10
"""Smallest batch in bytes, however low the limit is: the size of a segment that is sent as text."""
UNLIMITED = Backlog(on_battery="continue", on_metered="continue")
READING, PUSHING = "reading", "pushing"


class Override:
    """Lifts all limits until reading and pushing are done, because the user asked for it (`sync`)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.works: frozenset[str] = frozenset()
        """The works, READING or PUSHING, that are unlimited."""

    def start(self) -> None:
        """Lift all limits from now on."""
        with self._lock:
            self.works = frozenset((READING, PUSHING))

    def finish(self, work: str) -> bool:
        """End the override for one of the two; return whether it was in force until now.

        Pushing stays unlimited until reading is done: what was read has to be pushed too.
        """
        with self._lock:
            before = self.works
            self.works -= {work} if work == READING or READING not in before else set()
            return self.works != before


class Throttle:
    """The limits of one thread. Only that thread uses it, except for `apply_limits`, which any thread may call."""

    def __init__(
        self,
        work: str,
        limits: Backlog = UNLIMITED,
        *,
        override: Override | None = None,
        power: PowerAndNetwork | None = None,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        """`work` is READING or PUSHING. A metered network pauses only PUSHING."""
        self._work, self._limits, self._override = work, limits, override or Override()
        self._power = power or PowerAndNetwork()
        self._clock, self._cpu = clock, cpu
        self._until = self._ask_at = self._cpu_start = -math.inf
        self._paused_at = 0.0
        self.reason: str | None = None
        """Why the backlog is paused, in words; None if it is not."""

    def apply_limits(self, limits: Backlog) -> None:
        """Replace the limits. A pause that follows from the old ones ends."""
        if limits != self._limits:
            self._limits = limits
            self._until = self._ask_at = -math.inf

    def override(self) -> None:
        """Lift all limits until everything is read and pushed."""
        self._override.start()

    def pause_left(self) -> float:
        """Return the seconds that are left of the pause after the last chunk."""
        return 0.0 if self._override.works else max(0.0, self._until - self._clock())

    def seconds_until_open(self) -> float:
        """Return the seconds until `allows` may return True; 0 if the backlog may continue now."""
        if self._override.works:
            return 0.0
        return max(0.0, self._until - self._clock(), 0.0 if self.reason is None else self._ask_at - self._clock())

    def allows(self) -> bool:
        """Return whether the backlog may continue now."""
        if self._override.works:
            self._set_reason(None)
            return True
        now = self._clock()
        if now < self._until:
            return False
        if now >= self._ask_at:
            self._ask_at = now + ASK_AGAIN
            self._set_reason(self._find_reason())
        return self.reason is None

    def _find_reason(self) -> str | None:
        if self._limits.on_battery == "pause" and self._power.on_battery():
            return ON_BATTERY
        return ON_METERED if self._work == PUSHING and self.spares_network() else None

    def spares_network(self) -> bool:
        """Return whether the network is metered, and the limits pause what can wait then."""
        return self._limits.on_metered == "pause" and self._power.on_metered()

    def _set_reason(self, reason: str | None) -> None:
        before, self.reason = self.reason, reason
        if reason is not None and before is None:
            self._paused_at = self._clock()
            log.info("backlog.paused", work=self._work, reason=reason)
        elif reason is None and before is not None:
            log.info("backlog.resumed", work=self._work, seconds=round(self._clock() - self._paused_at))

    def start(self) -> None:
        """Start a chunk of the backlog."""
        self._cpu_start = self._cpu()

    def finish(self) -> None:
        """Finish the chunk: pause long enough to keep the average CPU time within the limit."""
        self._until = self._clock() + (self._cpu() - self._cpu_start) * (100 / self._limits.max_cpu - 1)

    @property
    def limits_upload(self) -> bool:
        """Whether the upload rate is limited, so that live changes have to be pushed first."""
        return self._limits.max_upload > 0 and not self._override.works

    def batch_size(self, maximum: int) -> int:
        """Return the size of a batch in bytes: what the rate allows in a second, so that live changes wait briefly."""
        return min(maximum, max(self._limits.max_upload, LEAST_BATCH)) if self.limits_upload else maximum

    def record_sent(self, count: int) -> None:
        """Pause long enough to keep the average upload rate within the limit, after `count` bytes were sent."""
        if self.limits_upload:
            self._until = self._clock() + count / self._limits.max_upload

    def finish_backlog(self) -> bool:
        """Note that the backlog is empty; return whether that ends an override."""
        if self.reason is not None:
            self._set_reason(None)
            self._ask_at = -math.inf
        return self._override.finish(self._work)
