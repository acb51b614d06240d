"""Remembers how far records without a newline were searched, so that their bytes are not read again each time.

Otherwise, a record that grows by a megabyte every 0.3 s would be read from its start each time, and a sparse file of
ten gigabytes would be read whole while every other session waits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import msgspec

from sessiond.decoding import json_decoder
from sessiond.ingest.line_reader import Newlines, skip_hole
from sessiond.line_ends import find_end
from sessiond.reader import CHUNK, PROBE, Digest, pread
from sessiond.spool import Spool

REMEMBERED = 1000
"""Files whose searches are remembered; the least recently used one is forgotten first."""
RATE = 16 << 20
"""Bytes a second, on average, that are searched again after a record has changed in the part already searched."""
REPORTED = 64 << 20
"""Bytes without a newline after which `status` reports the file: no tool writes records this long on purpose."""


SAVED = 64 << 20
"""Bytes that are searched between two saves, and the length from which on a search is saved: a restart repeats less."""
SEARCHES = "endings"
"""Meta key: the long searches, as JSON by "device:inode"."""


class Search(msgspec.Struct, kw_only=True):
    """How far one record was searched, and what identifies the file's state then."""

    start: int
    searched: int
    """There is no newline between `start` and this offset; there may be one at it."""
    hole: int | None = None
    """Offset of the first zero byte, in a hole or not: a tool that preallocates its file fills it in later."""
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
    """Monotonic time before which the search does not begin at the start again."""


class Endings:
    """The searches of all files. Only the capture thread uses it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, spool: Spool | None = None) -> None:
        """Continue the long searches that are stored in the spool, if there is one."""
        self._clock = clock
        self._spool = spool
        self._searches = {} if spool is None else _load(spool)
        self._unsaved = 0
        self.bytes_read = 0
        """Bytes read by all searches so far."""

    def of(self, descriptor: int, digest: Digest, budget: int | None) -> FileEndings:
        """Return the search in an open file. It reads about `budget` bytes of unended records (None: all)."""
        return FileEndings(self, descriptor, digest, budget)

    def get(self, key: tuple[int, int]) -> Search | None:
        """Return the search of a file, by device and inode."""
        found = self._searches.pop(key, None)
        if found is not None:
            self._searches[key] = found
        return found

    def put(self, key: tuple[int, int], search: Search | None) -> None:
        """Store the search of a file; None removes it."""
        self._searches.pop(key, None)
        if search is not None:
            self._searches[key] = search
        while len(self._searches) > REMEMBERED:
            del self._searches[next(iter(self._searches))]
        if self._unsaved >= SAVED:
            self._save()

    def count(self, size: int) -> None:
        """Count bytes that were read."""
        self.bytes_read += size
        self._unsaved += size

    def _save(self) -> None:
        """Store the long searches: a file of gigabytes would be searched from the start again after each restart."""
        self._unsaved = 0
        if self._spool is not None:
            long = {
                f"{dev}:{ino}": one for (dev, ino), one in self._searches.items() if one.searched - one.start >= SAVED
            }
            self._spool.set_meta(SEARCHES, msgspec.json.encode(long).decode() if long else None)

    def now(self) -> float:
        """Return the monotonic time."""
        return self._clock()


class FileEndings(Newlines):
    """The search in one open file during one scan."""

    def __init__(self, all_files: Endings, descriptor: int, digest: Digest, budget: int | None) -> None:
        self._all = all_files
        self._descriptor = descriptor
        self._digest = digest
        self._left = budget
        self._found = os.fstat(descriptor)
        self.read = 0
        """Bytes read by this scan."""
        self.more = False
        """Whether the budget is used up: go on after other files had their turn."""
        self.later = False
        """Whether the search has to begin at the start again, but did so only a moment ago: try again later."""
        self.unended = 0
        """Bytes of the record without a newline at the end of the file, as far as they were searched."""

    @property
    def _key(self) -> tuple[int, int]:
        return self._found.st_dev, self._found.st_ino

    def known(self, offset: int) -> int | None:
        """Return the offset up to which the record at `offset` has no newline; None if that is unknown."""
        search = self._all.get(self._key)
        if search is None or search.start != offset or search.searched > self._found.st_size:
            return None
        if (search.size, search.times) == self._state():
            return search.searched
        grown = self._found.st_size > search.size and self._is_unchanged(search)
        if grown and search.hole is None:
            return search.searched
        # Bytes already searched may have changed, so they must be read again. Rule 9: at a bounded rate, or a file that
        # changes all the time would be read all the time.
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
        """Begin the search for the end of the record at `start`, whose first bytes are `data`."""
        zero = data.find(b"\0")
        search = Search(start=start, searched=start + len(data), hole=None if zero < 0 else start + zero)
        before = self._all.get(self._key)
        if before is not None and before.start == start:
            search.again_at = before.again_at
        self._count(search, len(data))
        self._all.put(self._key, search)

    def find(self, descriptor: int, start: int, offset: int, size: int) -> int | None:
        """Search on from `offset`, as far as the budget allows."""
        if self.later:
            return None
        search = self._all.get(self._key)
        if search is None or search.start != start:  # forgotten, as when another link to the file was read in between
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
            end = find_end(descriptor, position, data)
            if end:
                self._remember(search, position + end - 1)  # this scan or the next may ask for the record again
                self.unended = 0
                return position + end
            position += len(data)
        self._remember(search, position)
        return None

    def _count(self, search: Search, count: int) -> None:
        self.read += count
        search.cost += count
        self._all.count(count)

    def _remember(self, search: Search, searched: int) -> None:
        search.searched = searched
        search.head_length = min(PROBE, searched - search.start)
        search.head = self._digest(pread(self._descriptor, search.head_length, search.start))
        search.tail = self._digest(self._tail(search))
        search.size, search.times = self._state()
        self.unended = searched - search.start
        self._all.put(self._key, search)

    def _is_unchanged(self, search: Search) -> bool:
        head = pread(self._descriptor, search.head_length, search.start)
        return self._digest(head) == search.head and self._digest(self._tail(search)) == search.tail

    def _tail(self, search: Search) -> bytes:
        length = min(PROBE, search.searched - search.start)
        return pread(self._descriptor, length, search.searched - length)

    def _state(self) -> tuple[int, tuple[int, int]]:
        return self._found.st_size, (self._found.st_mtime_ns, self._found.st_ctime_ns)


def _load(spool: Spool) -> dict[tuple[int, int], Search]:
    try:
        stored = json_decoder(dict[str, Search]).decode(spool.meta(SEARCHES) or "{}")
        # The clock began at another time: a search may begin at the start again at once.
        return {_key(name): msgspec.structs.replace(search, again_at=0.0) for name, search in stored.items()}
    except (msgspec.MsgspecError, ValueError):
        return {}  # they are only searched again


def _key(name: str) -> tuple[int, int]:
    dev, _, ino = name.partition(":")
    return int(dev), int(ino)
