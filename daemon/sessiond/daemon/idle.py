"""Ends ongoing sessions that have been idle for long."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set

from sessiond.ingest import IngestContext, sweep_idle
from sessiond.sources.base import Source

LEAST = 60.0
"""Fewest seconds between two checks: a session whose process runs stays ongoing, however long it is idle."""


class Idle:
    """Finds the session that has been idle longest. Only the capture thread uses it."""

    def __init__(self, context: IngestContext, sources: Mapping[str, Source]) -> None:
        self._context, self._sources = context, sources
        self._since_ms: int | None = None

    def sweep(self, live: Set[tuple[str, str]] = frozenset()) -> bool:
        """End the sessions that have become idle and are not `live` (see Turn); return whether there were any."""
        context, ended = self._context, 0
        self._since_ms = context.spool.catalog.next_idle_ms()
        if self._since_ms is not None and self._since_ms <= context.now_ms() - context.idle_after_ms:
            ended = sweep_idle(context, self._sources, live)
            self._since_ms = context.spool.catalog.next_idle_ms()
        return ended > 0

    def left(self) -> float:
        """Return the seconds until the next session may be idle; infinity without an ongoing one."""
        if self._since_ms is None:
            return math.inf
        return max((self._since_ms + self._context.idle_after_ms - self._context.now_ms()) / 1000 + 1, LEAST)
