"""What `status` shows of the capture loop, of the watched roots and of the configuration."""

from __future__ import annotations

import math
import os
from collections.abc import Container

from sessiond.config import Loaded
from sessiond.daemon.resources import Resources
from sessiond.daemon.scanner import Scanner
from sessiond.daemon.work_queue import WorkQueue
from sessiond.logs import log
from sessiond.spool import Spool
from sessiond.spool.health import (
    CONFIG,
    CaptureHealth,
    ConfigHealth,
    RootHealth,
    write,
    write_applied_config,
    write_progress,
)
from sessiond.watch import RootState


class CaptureReport:
    """The health of the capture loop in the spool, written only when it changed."""

    interval = 1.0
    """Seconds between two writes of a backlog's progress."""

    def __init__(self, resources: Resources, scanner: Scanner, queue: WorkQueue) -> None:
        self._spool, self._clock = resources.spool, resources.clock
        self._scanner, self._queue = scanner, queue
        self._roots = RootHealths(scanner.sources)
        self._health = CaptureHealth(pid=os.getpid(), machine_id=resources.machine_id)
        self._written = -math.inf
        """When it was last written (monotonic seconds)."""
        self.scanned_ms: int | None = None
        """When the last scan began that the user asked for; `sync` waits for it."""

    def begin(self) -> None:
        """Store that this process captures now. Raises: StateFull."""
        write(self._spool, self._health)

    def update(self, states: tuple[RootState, ...], waits: str | None) -> None:
        """Store the present state; `waits` is why the backlog is paused. Raises: StateFull.

        While a backlog is read, its progress is stored once a second. Its end and all else are stored at once.
        """
        queue, counts = self._queue, self._scanner.counts
        made = CaptureHealth(
            pid=self._health.pid,
            machine_id=self._health.machine_id,
            looked_ms=self.scanned_ms,
            torn=len(queue.retries),
            discovered=counts and counts.units,
            found_bytes=counts.size if counts else 0,
            unrecognized=counts.unrecognized if counts else {},
            backlog=len(queue.backlog),
            backlog_bytes=queue.backlog.size,
            waits=waits,
            left_out=len(queue.postponed.excluded),
            left_out_bytes=queue.postponed.excluded.size,
            sessionless=queue.postponed.sessionless.counts(),
            sessionless_bytes=queue.postponed.sessionless.size,
            roots=self._roots.of(states),
        )
        now = self._clock.monotonic()
        if made != self._health and not (self._is_progress(made) and now - self._written < self.interval):
            if made.roots is self._health.roots:
                write_progress(self._spool, made)
            else:
                write(self._spool, made)
            log_root_changes(self._health, made)
            self._health, self._written = made, now

    def _is_progress(self, made: CaptureHealth) -> bool:
        """Return whether only the rest of the backlog differs from what was stored."""
        old = self._health
        return made.backlog > 0 and made.replace(backlog=old.backlog, backlog_bytes=old.backlog_bytes) == old


class RootHealths:
    """The states of the roots of some tools as `status` shows them, converted only when they changed."""

    def __init__(self, tools: Container[str]) -> None:
        self._tools = tools
        self._states: tuple[RootState, ...] = ()
        self._converted: dict[RootState, RootHealth] = {}
        self._made: list[RootHealth] = []

    def of(self, states: tuple[RootState, ...]) -> list[RootHealth]:
        """Return the converted states, and the same list until one of them changes.

        The watcher returns the same tuple until it looks at the roots again. Then most states are as they were.
        """
        if states is not self._states:
            self._states = states
            ours = [state for state in states if state.watched.owner in self._tools]
            self._converted = {state: self._converted.get(state) or _root_health(state) for state in ours}
            made = list(self._converted.values())
            if made != self._made:
                self._made = made
        return self._made


def _root_health(state: RootState) -> RootHealth:
    return RootHealth(
        tool=state.watched.owner,
        path=state.watched.root.path.encode("utf-8", "backslashreplace").decode(),  # JSON allows no surrogates
        how=str(state.mode),
        detail=state.detail,
        hint=state.hint,
        directories=state.directories,
    )


def record_config_health(spool: Spool, loaded: Loaded, refused: str | None) -> None:
    """Store which configuration is in force, or why an edit of its files was refused."""
    config, taken = loaded.config, None
    if refused is None:
        taken = ConfigHealth(
            sums=loaded.sums, url=config.endpoint.url, machine_id=config.machine_id, redact=config.redact
        )
    with spool.transaction():
        spool.set_meta(CONFIG, refused)
        write_applied_config(spool, taken)


def log_root_changes(old_health: CaptureHealth, made: CaptureHealth) -> None:
    """Log changes in how roots are watched."""
    before = {(root.tool, root.path): root for root in old_health.roots}
    for root in made.roots:
        old = before.get((root.tool, root.path))
        if root.how == "polled" and (old is None or old.how != root.how):
            log.warning("watch.limited", root=root.path, reason=root.detail, hint=root.hint)
        elif root.how == "watched" and old is not None and old.how == "missing":
            log.info("watch.found", tool=root.tool, root=root.path)
        elif root.how == "missing" and old is not None and old.how != "missing":
            log.info("watch.lost", tool=root.tool, root=root.path)
