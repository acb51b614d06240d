"""The set of dirty paths between watchdog's threads, which fill it, and the one that waits for it."""

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
    """What was noted until it settled."""

    paths: frozenset[str] = frozenset()
    trees: tuple[tuple[WatchedRoot, str], ...] = ()
    """Directories that appeared, relative to a root: all below them is dirty."""
    lost: bool = False
    """Events were dropped, or there are too many paths to name."""
    replan: bool = False
    """An awaited path appeared or ended."""
    poked: bool = False
    late: bool = False
    """The wait took much longer than it was to: the process was stopped, or the machine."""


class Dirty:
    """Collects paths; repeats collapse. `settle` and `patience` are in seconds, `most` counts paths."""

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
        """Say which paths matter from now on."""
        with self._changed:
            self._routes, self._awaited = routes, awaited

    def note(self, event: FileSystemEvent) -> None:
        """Take an event of watchdog; a path outside all roots wakes nobody."""
        source, target = os.fsdecode(event.src_path), os.fsdecode(event.dest_path or "")
        appeared = target if isinstance(event, DirMovedEvent) else source
        with self._changed:
            for path in (source, target):
                if path:
                    self._add(path, isinstance(event, DirCreatedEvent | DirMovedEvent) and path == appeared)

    def mark_overflow(self) -> None:
        """Note that events were dropped."""
        with self._changed:
            self._lost = True
            self._touch()

    def wake(self) -> None:
        """Let the next or present `take()` return at once. Not for signal handlers: it takes a lock."""
        with self._changed:
            self._poked = True
            self._changed.notify()

    def close(self) -> None:
        """Let this and every later `take()` return at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, until: float) -> Changes:
        """Block until changes have settled, a poke, or the monotonic time `until`; hand over what has settled."""
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
                pass  # everything is looked at anyway
            elif appeared:
                self._trees.add((route.watched, name[len(route.name) :]))
            else:
                self._paths.add(name)
            if len(self._paths) + len(self._trees) > self._most:
                # Bounded: naming each path costs more than looking at all of them.
                self._lost = True
                self._paths.clear()
                self._trees.clear()
            self._touch()

    def _touch(self) -> None:
        """Note the time; wake the waiter for the first change only, it comes back for the rest by the clock."""
        self._last = time.monotonic()
        if self._first == math.inf:
            self._first = self._last
            self._changed.notify()
