"""The set of dirty paths. Threads of watchdog add to it, and one thread waits for it."""

from __future__ import annotations

import math
import os
import threading
import time

import msgspec
from watchdog.events import DirCreatedEvent, DirMovedEvent, FileSystemEvent

from sessiond.watch.roots import Route, WatchedRoot

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


class Dirty:
    """Collects paths without duplicates. `settle` and `patience` are in seconds; `most` is a number of paths."""

    def __init__(self, settle: float, patience: float, most: int) -> None:
        self._settle, self._patience, self._most = settle, patience, most
        self._changed = threading.Condition()
        self._paths: set[str] = set()
        self._trees: set[tuple[WatchedRoot, str]] = set()
        self._lost = self._replan = self._poked = self._closed = False
        self._first = self._last = math.inf
        self._awaited: frozenset[str] = frozenset()
        self._routes: tuple[Route, ...] = ()

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closed

    def set_routes(self, routes: tuple[Route, ...], awaited: frozenset[str]) -> None:
        """Set which paths are collected from now on."""
        with self._changed:
            self._routes, self._awaited = routes, awaited

    def add_event(self, event: FileSystemEvent) -> None:
        """Add an event of watchdog. A path outside all roots wakes no thread."""
        source, target = os.fsdecode(event.src_path), os.fsdecode(event.dest_path or "")
        appeared = target if isinstance(event, DirMovedEvent) else source
        with self._changed:
            for path in (source, target):
                if path:
                    self._add(path, isinstance(event, DirCreatedEvent | DirMovedEvent) and path == appeared)

    def mark_overflow(self) -> None:
        """Record that events were dropped."""
        with self._changed:
            self._lost = True
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
                wake = min(until, self._last + self._settle, self._first + self._patience)
                if wake <= now:
                    break
                self._changed.wait(None if wake == math.inf else wake - now)
                late = late or time.monotonic() > wake + _LATE
            poked, self._poked = self._poked, False
            if time.monotonic() < min(self._last + self._settle, self._first + self._patience):
                return Changes(poked=poked, late=late)
            changes = Changes(
                paths=frozenset(self._paths),
                trees=tuple(self._trees),
                lost=self._lost,
                replan=self._replan,
                poked=poked,
                late=late,
            )
            self._paths.clear()
            self._trees.clear()
            self._lost = self._replan = False
            self._first = self._last = math.inf
            return changes

    def _add(self, path: str, appeared: bool) -> None:
        if path in self._awaited:
            self._replan = True
            self._touch()
        for route in self._routes:
            name = route(path)
            if name is None:
                continue
            if self._lost:
                pass  # everything is scanned anyway
            elif appeared:
                self._trees.add((route.watched, name[len(route.name) :]))
            else:
                self._paths.add(name)
            if len(self._paths) + len(self._trees) > self._most:
                # The set is bounded: listing so many paths costs more than a scan.
                self._lost = True
                self._paths.clear()
                self._trees.clear()
            self._touch()

    def _touch(self) -> None:
        """Record the time, and wake the waiting thread at the first change. A timeout wakes it for the rest."""
        self._last = time.monotonic()
        if self._first == math.inf:
            self._first = self._last
            self._changed.notify()
