"""The records of watching: a root with its owner, a batch of what is dirty, the state of a root."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from sessiond.sources.base import Root, Watch


class WatchedRoot(msgspec.Struct, frozen=True, kw_only=True):
    """A root and the source it belongs to; several may share or nest their directories."""

    root: Root
    owner: str
    """The source's tool, for states."""


class RescanReason(StrEnum):
    """Why roots are to be looked at as a whole."""

    START = "start"
    DUE = "due"
    POLL = "poll"
    """A root without events."""
    FOUND = "found"
    """A root appeared, vanished, was replaced, or got its watch back: what happened before is unknown."""
    OVERFLOW = "overflow"
    """The kernel dropped events, or there were too many dirty paths to name."""
    WAKE = "wake"
    """The machine slept or this process was stopped."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What is dirty now."""

    paths: frozenset[str] = frozenset()
    """Paths below roots, named from `Root.path` on (surrogateescape). One may be gone; the name of a directory
    that is gone stands for all that was known below it."""
    rescan: tuple[WatchedRoot, ...] = ()
    """Roots to look at as a whole."""
    why: frozenset[RescanReason] = frozenset()
    """Empty if `rescan` is."""


class WatchMode(StrEnum):
    """How a root is watched."""

    WATCHED = "watched"
    MISSING = "missing"
    POLLED = "polled"
    SCANNED = "scan only"
    UNREADABLE = "unreadable"


class RootState(msgspec.Struct, frozen=True, kw_only=True):
    """How a root is watched now, and what the user may do about it."""

    watched: WatchedRoot
    mode: WatchMode
    detail: str = ""
    """Why it is not simply watched; no final period."""
    hint: str = ""
    """What to do about it."""
    directories: int = 0
    """How many directories the last look went into."""
    unreadable: tuple[str, ...] = ()
    """Directories that the last look could not go into (the first few)."""

    def __str__(self) -> str:
        return f"{self.mode}: {self.detail}" if self.detail else str(self.mode)


class Route:
    """How a path that an event names becomes a path below a root, if the root wants it.

    Events name paths below the resolved root; batches and scans name them below the root as its source does,
    so that a root behind a link has one name for each file.
    """

    __slots__ = ("_depth", "_prefix", "_skip", "name", "watched")

    def __init__(self, watched: WatchedRoot, resolved: str) -> None:
        root = watched.root
        self.watched = watched
        self.name = root.path.rstrip("/") + "/"
        self._prefix = resolved.rstrip("/") + "/"
        self._skip = root.skip
        self._depth = 0 if root.watch is Watch.FLAT else root.depth

    def __call__(self, path: str) -> str | None:
        """Name the path below the root; None for what is outside, too deep or skipped."""
        if not path.startswith(self._prefix):
            return None
        relative = path[len(self._prefix) :]
        levels = relative.count("/")
        if levels > self._depth or not relative:
            return None
        if levels and self._skip and not self._skip.isdisjoint(relative.split("/")[:-1]):
            return None
        return self.name + relative
