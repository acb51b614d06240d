"""Turns: the files that changed, and a slice of each is read before any has its next one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from sessiond.spool import Spool

SLICE_BYTES, SLICE_SECONDS = 8 << 20, 0.25
"""What one commit holds: nothing live waits longer for the backlog."""
SLICE_OF_FILE = 4 << 20
"""Bytes of one file that are read before others have their turn."""

Read = Callable[[str], tuple[int, bool]]
"""Reads a path: (bytes, whether there is more)."""


class ChangedFiles:
    """The paths of live changes. Only the thread that captures uses it."""

    def __init__(self) -> None:
        self._fresh: dict[str, None] = {}
        self._unfinished: dict[str, None] = {}
        """Of these a slice was read: they are long, or grow faster than they are read."""

    def __bool__(self) -> bool:
        return bool(self._fresh or self._unfinished)

    def __contains__(self, path: str) -> bool:
        return path in self._fresh or path in self._unfinished

    def add(self, paths: Iterable[str]) -> None:
        """Take in paths that changed."""
        self._fresh |= dict.fromkeys(paths)

    def go_on(self, path: str) -> None:
        """Take in a path of which a slice was read elsewhere."""
        self._unfinished[path] = None

    def fresh(self, spool: Spool, read: Read) -> Iterator[None]:
        """Read all that changed, several in one commit; yields after each. On a full disk they stay."""
        while self._fresh:
            done: list[str] = []
            size, until = 0, time.monotonic() + SLICE_SECONDS
            with spool.transaction():
                for path in self._fresh:
                    one, more = read(path)
                    size += one
                    done.append(path)
                    if more:
                        self.go_on(path)
                    if size > SLICE_BYTES or time.monotonic() > until:
                        break
            for path in done:
                del self._fresh[path]
            yield

    def next(self, spool: Spool, read: Read) -> None:
        """Read the next slice of one that is unfinished, if there is one; then it is behind the others."""
        path = next(iter(self._unfinished), None)
        if path is None:
            return
        with spool.transaction():
            _, more = read(path)
        del self._unfinished[path]
        if more:
            self.go_on(path)
