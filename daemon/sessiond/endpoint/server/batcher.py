"""Stores the pushes that wait at the same time in one transaction.

A transaction ends with a sync of the disk, which takes as long for a hundred pushes as for one. While one transaction
is written, the next pushes gather. Live pushes are small and somebody waits for them, so they go before bulk ones.

The thread that writes also decodes the live pushes of a transaction, before it begins. For so little work, a thread
for each push would cost more than the work. The event loop's thread does both while nobody else writes and the disk
is fast: to pass the work to a thread on another core took a quarter of the time of a push.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import anyio
import anyio.to_thread
import msgspec

from sessiond.endpoint.server.gathering import Gathering
from sessiond.endpoint.server.last_uses import LastUses
from sessiond.endpoint.server.push import CpuBudget, PushOutcome, PushRequest, apply
from sessiond.endpoint.server.store import Store, StoreBusy, StoreLost

TOGETHER = 128
"""Live pushes in one transaction."""
NAMES = 4000
"""Streams that the live pushes of one transaction name, unless a single push names more."""
DECODE_SECONDS = 0.1
"""CPU seconds in which the live pushes of one transaction are decoded. The other ones are left for the next."""

LIVE_SECONDS = 0.1
"""CPU seconds that one live push may take in the store. Its appends may have to be compared with stored bytes there."""
LIVE_TOTAL = 0.2
"""CPU seconds after which no other live push begins in the same transaction."""

STILL = 0.05
"""Seconds that the event loop may stand still for a transaction, because of a slow disk or of much work."""
APART = 1.0
"""Seconds for which the transactions after one that took longer have a thread."""

Stored = PushOutcome | Exception
"""The outcome of a push, or why nothing of it is stored."""


class _Waiting(msgspec.Struct, frozen=True):
    push: PushRequest
    stored: asyncio.Future[PushOutcome]
    since: float
    """The time of the event loop."""


class Batcher:
    """Stores prepared pushes, one transaction after another. Use it from one event loop only."""

    def __init__(self, store: Store, uses: LastUses, *, clock: Callable[[], float] = time.thread_time) -> None:
        self._store = store
        self._uses = uses
        self._clock = clock
        self._live: deque[_Waiting] = deque()
        self._bulk: deque[_Waiting] = deque()
        self._is_live = False  # whether the last transaction was one of live pushes
        self._gathering = Gathering(TOGETHER)
        self._apart_until = 0.0
        self._task: asyncio.Task[None] | None = None
        self._writer = anyio.CapacityLimiter(1)
        self.transactions = 0
        """Transactions of pushes so far, also those that failed."""

    async def store(self, push: PushRequest, *, live: bool) -> PushOutcome:
        """Store a push and return its outcome once it is on the disk.

        Raises:
            HttpError: the body of the push can't be decoded.
            WrongDevice: the token belongs to another device.
            Revoked: the token was revoked after the request began.
            StateError: the store can't be written; nothing of this push is stored.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(push, loop.create_future(), loop.time())
        (self._live if live else self._bulk).append(waiting)
        if live:
            self._gathering.note(push.sender.device, len(self._live))
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())
        return await waiting.stored

    @property
    def waiting(self) -> dict[str, int]:
        """The pushes that wait for a transaction, by class."""
        return {"live": len(self._live), "bulk": len(self._bulk)}

    async def _run(self) -> None:
        try:
            while self._live or self._bulk:
                if not self._bulk:
                    await self._gathering.wait(len(self._live), self._live[0].since)
                batch = self._next()
                pushes = [each.push for each in batch]
                self.transactions += 1
                stored = self._store_here(pushes) if self._is_live else None
                if stored is None:
                    store_all = partial(self._store_all, pushes, live=self._is_live)
                    stored = await anyio.to_thread.run_sync(store_all, limiter=self._writer)
                rest = []
                for waiting, result in zip(batch, stored, strict=True):
                    if result is None:
                        rest.append(waiting)
                    else:
                        _set(waiting.stored, result)
                # The time was used up before these: they are first in the next transaction.
                self._live.extendleft(reversed(rest))
                await asyncio.sleep(0)  # the answers are sent before the next transaction
        finally:
            self._task = None

    def _store_here(self, pushes: Sequence[PushRequest]) -> list[Stored | None] | None:
        """Store live pushes in this thread; return None if they have to wait for others, or may take long."""
        now = time.monotonic()
        if now < self._apart_until:
            return None
        with self._store.without_waiting() as is_free:
            if not is_free:
                return None
            stored = self._store_all(pushes, live=True)
            if time.monotonic() - now > STILL:
                self._apart_until = time.monotonic() + APART
        is_busy = any(isinstance(each, StoreBusy) for each in stored)  # another process writes just now
        is_begun = any(isinstance(each, PushOutcome) and each.results for each in stored)
        return None if is_busy and not is_begun else stored

    def _next(self) -> list[_Waiting]:
        """Remove and return the pushes of the next transaction: live ones, or one bulk push after those.

        Between two batches of live pushes one bulk push is stored, so that neither kind keeps the other waiting.
        """
        if self._bulk and (self._is_live or not self._live):
            self._is_live = False
            return [self._bulk.popleft()]
        self._is_live = True
        return [self._live.popleft() for _ in range(min(len(self._live), TOGETHER))]

    def _store_all(self, pushes: Sequence[PushRequest], *, live: bool) -> list[Stored | None]:
        """Decode pushes and store them in one transaction; return what became of each.

        None: it has to wait for the next transaction. The first push never has to.
        """
        stored: list[Stored | None] = [None] * len(pushes)
        decoded: list[int] = []
        names, begun = 0, self._clock()
        for index, push in enumerate(pushes):
            if decoded and self._clock() - begun > DECODE_SECONDS:
                break
            try:
                has_lines = push.read()
            except Exception as error:  # noqa: BLE001 - the request that waits for this push raises it
                stored[index] = error
                continue
            if not has_lines:
                stored[index] = PushOutcome([], {})
                continue
            if decoded and names + push.names > NAMES:
                break
            names += push.names
            decoded.append(index)
        for index, result in zip(decoded, self._apply([pushes[index] for index in decoded], live), strict=False):
            stored[index] = result
        return stored

    def _apply(self, pushes: Sequence[PushRequest], live: bool) -> Sequence[Stored]:
        """Store decoded pushes in one transaction; return what became of them, at least of the first one.

        If it fails, each push has a transaction of its own: one that is too large for the disk must not fail others.
        A store that is locked or gone fails all of them at once; each would wait ten seconds for the same lock.
        """
        if not pushes:
            return []
        try:
            with self._store.write() as db:
                stored = apply(self._store, db, pushes, self._budget(live))
                self._uses.write(db)
            return stored
        except (StoreBusy, StoreLost) as error:
            return [error for _ in pushes]
        except Exception as error:  # noqa: BLE001 - the request that waits for this push raises it
            if len(pushes) == 1:
                return [error]
            return [outcome for push in pushes for outcome in self._apply([push], live)]

    def _budget(self, live: bool) -> CpuBudget:
        return CpuBudget(self._clock, push=LIVE_SECONDS, total=LIVE_TOTAL) if live else CpuBudget(self._clock)


def _set(future: asyncio.Future[PushOutcome], stored: Stored) -> None:
    if future.done():  # the request was cancelled when the server shut down
        return
    if isinstance(stored, Exception):
        future.set_exception(stored)
    else:
        future.set_result(stored)
