"""The times of the last use of tokens."""

from __future__ import annotations

import threading

from sessiond import clock
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.tokens import Access

WRITE_INTERVAL_MS = 60_000
"""A token's last use is written at most this often."""


class LastUses:
    """The times of the last use of each token, written at most once a minute, so that not each read costs a write.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._written: dict[str, int] = {}
        self._pending: dict[str, int] = {}

    def note(self, access: Access) -> bool:
        """Record that a token is used now. Return whether the time should be written soon."""
        if access.name is None or not access.digest:  # it is not a token of the store
            return False
        now_ms = clock.now_ms()
        with self._lock:
            written = self._written.get(access.name)
            if (
                written is not None and 0 <= now_ms - written < WRITE_INTERVAL_MS
            ):  # negative: the clock was ahead before
                return False
            self._pending[access.name] = now_ms
            return True

    def pending(self) -> bool:
        """Return whether there are times to write."""
        with self._lock:
            return bool(self._pending)

    def write(self, db: Database) -> None:
        """Write the pending times in the caller's transaction."""
        with self._lock:
            pending, self._pending = self._pending, {}
            self._written |= pending
        db.executemany(
            "UPDATE tokens SET used_ms = ? WHERE name = ?", [(ms, name) for name, ms in sorted(pending.items())]
        )
