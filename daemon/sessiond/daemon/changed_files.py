"""The queue of changed files. Each gets one slice read before any gets a second one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from sessiond.spool import Spool

SLICE_BYTES, SLICE_SECONDS = 8 << 20, 0.25
"""Limits of one commit, so that live changes never wait longer for the backlog."""
SLICE_OF_FILE = 4 << 20
"""Bytes of one file that are read before the next file."""

Read = Callable[[str], tuple[int, bool]]
"""Reads a path; returns the bytes read and whether there is more."""


class ChangedFiles:
    """The paths of live changes. Only the capture thread uses it."""

    def __init__(self) -> None:
        self._fresh: dict[str, None] = {}
        self._unfinished: dict[str, None] = {}
        """Files of which one slice was read: they are long, or grow faster than they are read."""

    def __bool__(self) -> bool:
        return bool(self._fresh or self._unfinished)

    def __contains__(self, path: str) -> bool:
        return path in self._fresh or path in self._unfinished

    def add(self, paths: Iterable[str]) -> None:
        """Add changed paths."""
        self._fresh |= dict.fromkeys(paths)

    def go_on(self, path: str) -> None:
        """Add a path of which one slice was read already."""
        self._unfinished[path] = None

    def fresh(self, spool: Spool, read: Read) -> Iterator[None]:
        """Read all changed files, several in one commit; yield after each commit. On a full disk they stay queued."""
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
        """Read the next slice of the first unfinished file, if there is one, and move the file to the end."""
        path = next(iter(self._unfinished), None)
        if path is None:
            return
        with spool.transaction():
            _, more = read(path)
        del self._unfinished[path]
        if more:
            self.go_on(path)
