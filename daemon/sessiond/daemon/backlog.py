"""The backlog: what a look has found and nobody has read yet, the newest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

RECENT_MS = 3_600_000
"""What was changed within so long is as good as a live change: it waits for nothing."""


class Rank(IntEnum):
    """How urgent what was found is."""

    OLD = 0
    """It lies there for long: this is what `[backlog]` in the configuration holds back."""
    RECENT = 1
    CHANGED = 2
    """It was known and is another one now: a live change, of which no event told."""


class Entry(NamedTuple):
    """A unit that is to be read; entries are sorted by what comes first in them."""

    rank: Rank
    mtime_ns: int
    path: str
    size: int
    """Bytes that are to be read, as far as a look can tell."""


class Backlog:
    """What is to be read. Only the thread that captures uses it."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._last: list[Entry] = []
        """Read after all others: files with a record whose end is still searched for."""
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries) + len(self._last)

    @property
    def old(self) -> bool:
        """Whether nothing but the old is left; False for nothing at all."""
        return bool(self._entries) and self._entries[-1].rank is Rank.OLD

    def add(self, entries: Iterable[Entry]) -> None:
        """Add what was found."""
        self._entries += entries
        self._entries.sort()
        self.size = sum(entry.size for entry in (*self._entries, *self._last))

    def newest(self) -> Iterator[Entry]:
        """List the entries in the order in which they are to be read."""
        return reversed(self._entries)

    def drop(self, count: int) -> None:
        """Let go of so many of the newest: they were read."""
        if count:
            self.size -= sum(entry.size for entry in self._entries[-count:])
            del self._entries[-count:]
        if not self._entries and self._last:
            self._entries, self._last = sorted(self._last), []

    def put_last(self, entry: Entry) -> None:
        """Add an entry that is to be read again after all others, which are dropped first (rule 9)."""
        self._last.append(entry)
        self.size += entry.size
