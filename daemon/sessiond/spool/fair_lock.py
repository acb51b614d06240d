"""The gate before the spool's connection, which the threads share."""

from __future__ import annotations

import threading


class FairLock:
    """A re-entrant lock that goes to whoever waits for it before the one that lets go of it gets it again.

    A `threading.RLock` does not: a thread that reads a long file takes it again within microseconds, and one that
    had waited for it to push a line waited for seconds.
    """

    def __init__(self) -> None:
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        if self._owner != me:
            with self._turn:  # whoever waits for the lock has this, and nobody passes by
                self._lock.acquire()
            self._owner = me
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._lock.release()
