"""Compares the directories of a scan with those that the kernel watches: watchdog ignores failures below a tree."""

from __future__ import annotations

import math
import os
import time

from msgspec.structs import replace

from sessiond.watch import kernel
from sessiond.watch.roots import RootState, WatchedRoot, WatchMode
from sessiond.watch.scan import ScanStats
from sessiond.watch.targets import WatchTarget


class CoverageCheck:
    """Remembers which directories are known to be watched. A tree with gaps is registered again now and then."""

    def __init__(self, retry: float) -> None:
        """`retry` is the fewest seconds between two registrations of a tree."""
        self._retry = retry
        self._covered: dict[WatchedRoot, int] = {}
        """A hash of the directories of each root that were all watched."""
        self._retried: dict[WatchTarget, float] = {}

    def forget(self) -> None:
        """Check every root again at its next scan."""
        self._covered.clear()

    def is_known(self, state: RootState, stats: ScanStats) -> bool:
        """Return whether the directories are those of the last check. A check costs half a scan."""
        return state.mode is WatchMode.WATCHED and self._covered.get(state.watched) == _hash(stats)

    def may_retry(self, target: WatchTarget) -> bool:
        """Return whether to register a tree again: the limit may be free, or an unreadable directory readable."""
        now = time.monotonic()
        if now < self._retried.get(target, -math.inf) + self._retry:
            return False
        self._retried[target] = now
        return True

    def conclude(self, state: RootState, stats: ScanStats, unwatched: int) -> RootState:
        """Return the state of a root with this many `unwatched` directories: polled if there are any."""
        if unwatched:
            self._covered.pop(state.watched, None)
            detail, hint = kernel.watch_limit()
            detail = f"{unwatched} of {state.directories} directories have no watch, {detail}"
            return replace(state, mode=WatchMode.POLLED, detail=detail, hint=hint)
        self._covered[state.watched] = _hash(stats)
        return replace(state, mode=WatchMode.WATCHED, detail="", hint="")


def count_unwatched(target: WatchTarget, stats: ScanStats) -> int:
    """Return the number of directories of a scan that the kernel does not watch."""
    inodes = kernel.watched_inodes()
    if inodes is None or target.inode not in inodes:
        return 0  # the kernel has other inodes than stat (some overlays); scans find the changes
    unwatched = 0
    for inode in stats.directories.keys() - inodes:
        try:
            # Checked again: it may be gone, and a mount point has another inode in its parent's listing.
            unwatched += os.stat(stats.directories[inode]).st_ino not in inodes
        except OSError:
            continue
    return unwatched


def _hash(stats: ScanStats) -> int:
    return hash(frozenset(stats.directories))
