"""The lock of the spool's connection, which the threads share."""

from __future__ import annotations

from _thread import allocate_lock, get_ident  # `threading` would add a twentieth to the time of `status`


class FairLock:
    """A re-entrant lock that a waiting thread gets before the thread that releases it can take it again.

    A `threading.RLock` is not fair: a thread that read a long file took it again within microseconds, and the uploader
    waited seconds for it.
    """

    def __init__(self) -> None:
        self._turn, self._lock = allocate_lock(), allocate_lock()
        self._owner: int | None = None
        self._depth = 0

    @property
    def held(self) -> bool:
        """Whether this thread holds the lock."""
        return self._owner == get_ident()

    def __enter__(self) -> None:
        me = get_ident()
        if self._owner != me:
            with self._turn:  # held by the thread that is next, so no other can overtake it
                self._lock.acquire()
            self._owner = me
        self._depth += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._lock.release()
