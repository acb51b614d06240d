"""The set of dirty paths. Threads of watchdog add to it, and one thread waits for it."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from sessiond.watch.roots import Route, WatchedRoot

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent

_LATE = 2.0


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """The changes collected until they settled."""

    paths: frozenset[str] = frozenset()
    trees: tuple[tuple[WatchedRoot, str], ...] = ()
    """Directories that appeared, relative to a root. Everything below them is dirty."""
    lost: bool = False
    """Events were dropped, or there are too many paths to list."""
    replan: bool = False
    """An awaited path appeared or vanished."""
    poked: bool = False
    late: bool = False
    """The wait took much longer than requested: the process was stopped, or the machine slept."""


class _Pending(msgspec.Struct):
    """The changes since the last `take()`, with the times of the first and the last one (monotonic seconds)."""

    paths: set[str] = msgspec.field(default_factory=set)
    trees: set[tuple[WatchedRoot, str]] = msgspec.field(default_factory=set)
    lost: bool = False
    replan: bool = False
    first: float = math.inf
    last: float = math.inf

    def add(self, path: str) -> None:
        """Add a path, unless everything is scanned anyway."""
        if not self.lost:
            self.paths.add(path)

    def add_tree(self, watched: WatchedRoot, path: str) -> None:
        """Add a directory that appeared, unless everything is scanned anyway."""
        if not self.lost:
            self.trees.add((watched, path))

    def limit(self, most: int) -> None:
        """Drop the list if it is longer than `most`: that many paths cost more than a scan."""
        if len(self.paths) + len(self.trees) > most:
            self.lost = True
            self.paths.clear()
            self.trees.clear()


class Dirty:
    """Collects paths without duplicates. `settle` and `patience` are in seconds; `most` is a number of paths."""

    def __init__(self, settle: float, patience: float, most: int) -> None:
        self._settle, self._patience, self._most = settle, patience, most
        self._changed = threading.Condition()
        self._pending = _Pending()
        self._poked = self._closed = False
        self._awaited: frozenset[str] = frozenset()
        self._routes: dict[str, list[Route]] = {}
        """The routes by the resolved path of their root: there are hundreds, and an event belongs to few."""

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closed

    def set_routes(self, routes: tuple[Route, ...], awaited: frozenset[str]) -> None:
        """Set which paths are collected from now on."""
        by_root: dict[str, list[Route]] = {}
        for route in routes:
            by_root.setdefault(route.resolved, []).append(route)
        with self._changed:
            self._routes, self._awaited = by_root, awaited

    def add_event(self, event: FileSystemEvent) -> None:
        """Add an event of watchdog. A path outside all roots wakes no thread."""
        source, target = os.fsdecode(event.src_path), os.fsdecode(event.dest_path or "")
        moved = event.event_type == "moved"
        created = event.is_directory and (moved or event.event_type == "created")
        appeared = target if moved else source
        with self._changed:
            for path in (source, target):
                if path:
                    self._add(path, created and path == appeared)

    def mark_overflow(self) -> None:
        """Record that events were dropped."""
        with self._changed:
            self._pending.lost = True
            self._touch()

    def wake(self) -> None:
        """Make the current or next `take()` return at once. Not for signal handlers: it takes a lock."""
        with self._changed:
            self._poked = True
            self._changed.notify()

    def close(self) -> None:
        """Make this and every later `take()` return at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, until: float) -> Changes:
        """Wait for settled changes, `wake()`, or the monotonic time `until`; remove and return the settled changes."""
        late = False
        with self._changed:
            while not self._poked and not self._closed:
                now = time.monotonic()
                wake = min(until, self._settled_at())
                if wake <= now:
                    break
                self._changed.wait(None if wake == math.inf else wake - now)
                late = late or time.monotonic() > wake + _LATE
            poked, self._poked = self._poked, False
            if time.monotonic() < self._settled_at():
                return Changes(poked=poked, late=late)
            taken, self._pending = self._pending, _Pending()
            return Changes(
                paths=frozenset(taken.paths),
                trees=tuple(taken.trees),
                lost=taken.lost,
                replan=taken.replan,
                poked=poked,
                late=late,
            )

    def _settled_at(self) -> float:
        return min(self._pending.last + self._settle, self._pending.first + self._patience)

    def _add(self, path: str, appeared: bool) -> None:
        pending = self._pending
        if path in self._awaited:
            pending.replan = True
            self._touch()
        for route in self._routes_above(path):
            name = route(path)
            if name is None:
                continue
            if appeared:
                pending.add_tree(route.watched, name[len(route.name) :])
            else:
                pending.add(name)
            pending.limit(self._most)
            self._touch()

    def _routes_above(self, path: str) -> Iterator[Route]:
        """Iterate over the routes of the roots above a path."""
        cut = path.rfind("/")
        while cut >= 0:
            yield from self._routes.get(path[:cut], ())
            cut = path.rfind("/", 0, cut)

    def _touch(self) -> None:
        """Record the time, and wake the waiting thread at the first change. A timeout wakes it for the rest."""
        self._pending.last = time.monotonic()
        if self._pending.first == math.inf:
            self._pending.first = self._pending.last
            self._changed.notify()
