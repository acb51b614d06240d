"""Types of watching: a root with its owner, a batch of dirty paths, the state of a root."""

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
    """Why roots are scanned."""

    START = "start"
    DUE = "due"
    POLL = "poll"
    """A root without events."""
    FOUND = "found"
    """A root appeared, vanished, was replaced, or is watched again: earlier changes are unknown."""
    OVERFLOW = "overflow"
    """The kernel dropped events, or there were too many dirty paths to list."""
    WAKE = "wake"
    """The machine slept or this process was stopped."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The dirty paths, and the roots to scan."""

    paths: frozenset[str] = frozenset()
    """Paths below `Root.path` (surrogateescape). A path may be gone; a directory that is gone includes everything
    that was known below it."""
    rescan: tuple[WatchedRoot, ...] = ()
    """Roots to scan."""
    why: frozenset[RescanReason] = frozenset()
    """Why they are scanned; empty if `rescan` is."""


class WatchMode(StrEnum):
    """How a root is watched."""

    WATCHED = "watched"
    MISSING = "missing"
    POLLED = "polled"
    SCANNED = "scan only"
    UNREADABLE = "unreadable"


class RootState(msgspec.Struct, frozen=True, kw_only=True):
    """How a root is watched now, and what the user can do about it."""

    watched: WatchedRoot
    mode: WatchMode
    detail: str = ""
    """Why it is not simply watched; no final period."""
    hint: str = ""
    """What to do about it."""
    directories: int = 0
    """Directories read by the last scan."""
    unreadable: tuple[str, ...] = ()
    """Directories that the last scan could not read (the first few)."""

    def __str__(self) -> str:
        return f"{self.mode}: {self.detail}" if self.detail else str(self.mode)


class Route:
    """Maps the path of an event to a path below a root, if it belongs to the root.

    The paths of events begin with the resolved root. Those of batches and scans begin with the root as its source names
    it, so a file has one path even if the root is a symbolic link.
    """

    __slots__ = ("_depth", "_only", "_prefix", "_skip", "name", "resolved", "watched")

    def __init__(self, watched: WatchedRoot, resolved: str) -> None:
        root = watched.root
        self.watched = watched
        self.name = root.path.rstrip("/") + "/"
        self.resolved = resolved.rstrip("/")
        self._prefix = self.resolved + "/"
        self._skip, self._only = root.skip, root.only
        self._depth = 0 if root.watch is Watch.FLAT else root.depth

    def __call__(self, path: str) -> str | None:
        """Return the path below the root; None for a path that is outside, too deep or skipped."""
        if not path.startswith(self._prefix):
            return None
        relative = path[len(self._prefix) :]
        levels = relative.count("/")
        if levels > self._depth or not relative or not relative.startswith(self._only):
            return None
        if levels and self._skip and not self._skip.isdisjoint(relative.split("/")[:-1]):
            return None
        return self.name + relative
