"""Background work on stored bytes: packing, moving chunks to the object store, the sweep, and what is too old."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import anyio.to_thread

from sessiond.clock import now_ms
from sessiond.endpoint.server.keeping import expire
from sessiond.endpoint.server.offloader import LARGE, SMALLEST, offload
from sessiond.endpoint.server.packer import MANY, pack
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.sweeper import sweep, sweep_unknown
from sessiond.errors import SessiondError
from sessiond.logs import log

SOON = 20.0
"""Seconds after a push until generations with many small chunks are packed, and large ones are moved."""
LATER = 600.0
"""Seconds after a push until all others are."""
RETRY = 30.0
LONGEST_RETRY = 600.0
"""Seconds until work that failed is tried again; they double up to the second one."""
SWEEP = 3600.0
"""Seconds between two sweeps, and between two searches for sessions that are too old."""


class Upkeep:
    """Runs this work some time after pushes, one step at a time. Use it from one event loop only.

    Without pushes, it sweeps the object store, if there is one, and lets sessions go that are too old.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._limiter = anyio.CapacityLimiter(1)
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._retry = RETRY

    def start(self) -> None:
        """Do what an earlier process left undone, and sweep from now on."""
        if self._store.blobs is not None:
            self._later(SOON, self._all)
            self._later(SOON, self._sweep)
        self._later(SOON, self._expire)

    def note_push(self) -> None:
        """Pack later, because a push was stored."""
        self._later(SOON, self._large)
        self._later(LATER, self._all)

    def stop(self) -> None:
        """Start no more work. What runs ends with its transaction."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        if work not in self._timers:
            self._timers[work] = asyncio.get_running_loop().call_later(seconds, self._start, work)

    def _start(self, work: Callable[[], None]) -> None:
        del self._timers[work]
        task = asyncio.ensure_future(self._run(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, work: Callable[[], None]) -> None:
        try:
            await anyio.to_thread.run_sync(work, limiter=self._limiter)
            self._retry = RETRY
        except SessiondError as error:
            # Nothing is lost: what could not be packed or moved stays where it is.
            log.warning("upkeep.failed", reason=str(error), retry_in=self._retry)
            self._later(self._retry, work)
            self._retry = min(self._retry * 2, LONGEST_RETRY)
        if work in (self._sweep, self._expire):
            self._later(SWEEP, work)

    def _large(self) -> None:
        self._pack(MANY, LARGE)

    def _all(self) -> None:
        self._pack(1, SMALLEST)

    def _pack(self, chunks: int, size: int) -> None:
        while pack(self._store, chunks):
            pass
        if self._store.blobs is not None:
            while offload(self._store, size):
                pass

    def _expire(self) -> None:
        count = expire(self._store, now_ms())
        if count:
            log.info("upkeep.expired", sessions=count)
            if self._store.blobs is not None:
                sweep(self._store, now_ms())
        self._store.scrub()  # also what an earlier attempt left

    def _sweep(self) -> None:
        sweep(self._store, now_ms())
        sweep_unknown(self._store, now_ms())
