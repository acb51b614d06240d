"""The backlog: files that a scan found and that are still to be read, the newest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

RECENT_MS = 3_600_000
"""A file changed within this time counts as a live change, which is not throttled."""


class Rank(IntEnum):
    """The urgency of a file."""

    OLD = 0
    """Files that have not changed for an hour. `[backlog]` in the configuration throttles them."""
    RECENT = 1
    CHANGED = 2
    """Read before and changed since: a live change whose event was missed."""


class Entry(NamedTuple):
    """A unit to read. Entries are sorted by their fields, in this order."""

    rank: Rank
    mtime_ns: int
    path: str
    size: int
    """Estimated bytes to read."""


class Backlog:
    """The entries of the backlog; a part of the work queue."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._last: list[Entry] = []
        """Read after all others: files in which the end of a record is still being searched for."""
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries) + len(self._last)

    @property
    def old(self) -> bool:
        """Whether only files of rank OLD are left; False for an empty backlog."""
        return bool(self._entries) and self._entries[-1].rank is Rank.OLD

    def add(self, entries: Iterable[Entry]) -> None:
        """Add files."""
        self._entries += entries
        self._entries.sort()
        self.size = sum(entry.size for entry in (*self._entries, *self._last))

    def newest(self) -> Iterator[Entry]:
        """Return the entries in the order in which they are read."""
        return reversed(self._entries)

    def drop(self, count: int) -> None:
        """Remove the `count` newest entries, which were read."""
        if count:
            self.size -= sum(entry.size for entry in self._entries[-count:])
            del self._entries[-count:]
        if not self._entries and self._last:
            self._entries, self._last = sorted(self._last), []

    def put_last(self, entry: Entry) -> None:
        """Add an entry that is read again only after all others (rule 9)."""
        self._last.append(entry)
        self.size += entry.size
