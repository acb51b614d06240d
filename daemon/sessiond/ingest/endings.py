"""Remembers how far records without a newline were searched, so that none is read again and again.

A record that grows by a megabyte every 0.3 s would otherwise be read from its start each time, and a sparse file of
ten gigabytes as a whole, while every other session waits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import msgspec

from sessiond.reader import CHUNK, PROBE, Digest, Newlines, pread, skip_hole

REMEMBERED = 1000
"""Files whose searches are remembered; the one that was used least lately is forgotten first."""
RATE = 16 << 20
"""Bytes a second, on average, that are searched again from the start of a record that changed where it was searched."""
REPORTED = 64 << 20
"""Bytes without a newline after which a record is named in `status`: no tool writes such a record on purpose."""


class Search(msgspec.Struct, kw_only=True):
    """How far one record was searched, and what the file looked like then."""

    start: int
    searched: int
    """No newline lies between `start` and here; here may be one."""
    hole: int | None = None
    """Where the first zeros are, of a hole or not: a tool that allocates its file first fills them later."""
    size: int = 0
    times: tuple[int, int] = (0, 0)
    head: bytes = b""
    """Digest of the record's first bytes."""
    tail: bytes = b""
    """Digest of the last bytes before `searched`."""
    head_length: int = 0
    cost: int = 0
    """Bytes read since the search last began at the start."""
    again_at: float = 0.0
    """Monotonic time before which it does not begin at the start again."""


class Endings:
    """The searches of all files. Only the thread that captures uses it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._searches: dict[tuple[int, int], Search] = {}
        self.bytes_read = 0
        """Bytes read by all searches so far."""

    def of(self, descriptor: int, digest: Digest, budget: int | None) -> FileEndings:
        """Begin a look at an open file, which reads about `budget` bytes of unended records at most (None: all)."""
        return FileEndings(self, descriptor, digest, budget)

    def get(self, key: tuple[int, int]) -> Search | None:
        """Return the search of a file, by device and inode."""
        found = self._searches.pop(key, None)
        if found is not None:
            self._searches[key] = found
        return found

    def put(self, key: tuple[int, int], search: Search | None) -> None:
        """Remember the search of a file, or that it has come to its end."""
        self._searches.pop(key, None)
        if search is not None:
            self._searches[key] = search
        while len(self._searches) > REMEMBERED:
            del self._searches[next(iter(self._searches))]

    def now(self) -> float:
        """Return the monotonic time."""
        return self._clock()


class FileEndings(Newlines):
    """The search in one open file, for one look at it."""

    def __init__(self, all_files: Endings, descriptor: int, digest: Digest, budget: int | None) -> None:
        self._all = all_files
        self._descriptor = descriptor
        self._digest = digest
        self._left = budget
        self._found = os.fstat(descriptor)
        self.read = 0
        """Bytes read by this look."""
        self.more = False
        """Whether the search ended with the budget, and is to go on after others had their turn."""
        self.later = False
        """Whether the search has to begin at the record's start again and was begun a moment ago: come back later."""
        self.unended = 0
        """Bytes of the record without a newline at the end of the file, as far as they were searched."""

    @property
    def _key(self) -> tuple[int, int]:
        return self._found.st_dev, self._found.st_ino

    def known(self, offset: int) -> int | None:
        """Return up to where the record at `offset` has no newline, if what was searched still stands."""
        search = self._all.get(self._key)
        if search is None or search.start != offset or search.searched > self._found.st_size:
            return None
        if (search.size, search.times) == self._looks():
            return search.searched
        grown = self._found.st_size > search.size and self._stands(search)
        if grown and search.hole is None:
            return search.searched
        # Something changed before the end of the search: only reading it again tells what. Rule 9: at a bounded rate,
        # or a file that is changed all the time would be read all the time.
        if self._all.now() < search.again_at:
            self.later = True
            return search.searched
        if search.cost > CHUNK:
            search.again_at = self._all.now() + search.cost / RATE
        search.cost = 0
        restart = search.hole if grown and search.hole is not None else offset
        search.searched, search.hole = restart, None
        return restart if restart > offset else None

    def begin(self, start: int, data: bytes) -> None:
        """Begin the search for the end of the record at `start`."""
        zero = data.find(b"\0")
        search = Search(start=start, searched=start + len(data), hole=None if zero < 0 else start + zero)
        before = self._all.get(self._key)
        if before is not None and before.start == start:
            search.again_at = before.again_at
        self._count(search, len(data))
        self._all.put(self._key, search)

    def find(self, descriptor: int, start: int, offset: int, size: int) -> int | None:
        """Search on from `offset`, as far as the budget goes."""
        if self.later:
            return None
        search = self._all.get(self._key)
        if search is None or search.start != start:  # forgotten: another name of the file was read in between
            search = Search(start=start, searched=offset, hole=start)
        position = offset
        while position < size:
            if self._left is not None and self.read >= self._left:
                self.more = True
                break
            data_at = skip_hole(descriptor, position, size)
            if data_at > position and search.hole is None:
                search.hole = position
            position = data_at
            data = pread(descriptor, min(CHUNK, size - position), position)
            self._count(search, len(data))
            if search.hole is None and (zero := data.find(b"\0")) >= 0:
                search.hole = position + zero
            found = data.find(b"\n")
            if found >= 0:
                self._remember(search, position + found)  # the record may be asked for again in this look or the next
                self.unended = 0
                return position + found + 1
            position += len(data)
        self._remember(search, position)
        return None

    def _count(self, search: Search, count: int) -> None:
        self.read += count
        search.cost += count
        self._all.bytes_read += count

    def _remember(self, search: Search, searched: int) -> None:
        search.searched = searched
        search.head_length = min(PROBE, searched - search.start)
        search.head = self._digest(pread(self._descriptor, search.head_length, search.start))
        search.tail = self._digest(self._tail(search))
        search.size, search.times = self._looks()
        self.unended = searched - search.start
        self._all.put(self._key, search)

    def _stands(self, search: Search) -> bool:
        head = pread(self._descriptor, search.head_length, search.start)
        return self._digest(head) == search.head and self._digest(self._tail(search)) == search.tail

    def _tail(self, search: Search) -> bytes:
        length = min(PROBE, search.searched - search.start)
        return pread(self._descriptor, length, search.searched - length)

    def _looks(self) -> tuple[int, tuple[int, int]]:
        return self._found.st_size, (self._found.st_mtime_ns, self._found.st_ctime_ns)
