"""The wait of live pushes for those of other devices, so that one transaction stores many of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from uuid import UUID

LINGER = 0.04
"""Seconds that a live push waits for those of other devices that also pushed in this time. A transaction costs as much
as five of its pushes, and it writes whole pages of the file."""


class Gathering:
    """Decides for how long live pushes wait for others, of which a transaction stores at most `most`.

    A device that pushes alone never waits. Use it from one event loop only.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._wanted = 0
        self._enough = asyncio.Event()
        self._recent: OrderedDict[UUID, float] = OrderedDict()
        """The devices that pushed last, and when."""

    def note(self, device: UUID, waiting: int) -> None:
        """Note that a device pushed. `waiting`: the pushes that wait now."""
        self._recent[device] = asyncio.get_running_loop().time()
        self._recent.move_to_end(device)
        self._forget()  # here too: while bulk pushes wait, nobody calls `wait`
        if waiting >= self._wanted:
            self._enough.set()

    async def wait(self, waiting: int, since: float) -> None:
        """Wait until as many pushes wait as devices pushed lately, or until the first one has waited for LINGER.

        `waiting`: the pushes that wait already; `since`: the time of the event loop at which the first one came.
        """
        self._forget()
        self._wanted = min(len(self._recent), self._most)
        if waiting >= self._wanted:
            return
        self._enough.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(since + LINGER):
                await self._enough.wait()

    def _forget(self) -> None:
        """Forget the devices that have not pushed for LINGER."""
        oldest = asyncio.get_running_loop().time() - LINGER
        while self._recent and next(iter(self._recent.values())) < oldest:
            self._recent.popitem(last=False)
