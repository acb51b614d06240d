"""A timer that each request sets, and that almost never fires."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LazyTimer:
    """Calls a function once a limit is reached. A new limit replaces the one before.

    A later limit costs no new timer of the event loop: the one that is set wakes first, and is then set again. Use it
    from one event loop only.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._loop, self._call = loop, call
        self._due: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def set(self, seconds: float | None) -> None:
        """Set the limit: `seconds` from now; None: there is none."""
        self._due = None if seconds is None else self._loop.time() + seconds
        if self._due is not None and (self._handle is None or self._due < self._handle.when()):
            self._schedule(self._due)

    def close(self) -> None:
        """Remove the limit, and never call the function again. It is forgotten, so that its object can be freed."""
        self._due, self._call = None, _nothing
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self, time: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_at(time, self._wake)

    def _wake(self) -> None:
        due, self._handle = self._due, None
        if due is None:
            return
        if due > self._loop.time():
            self._schedule(due)
            return
        self._due = None
        self._call()


def _nothing() -> None: ...
