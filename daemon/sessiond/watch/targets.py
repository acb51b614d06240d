"""Decides which directories to watch for a set of roots, given which of them exist now."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from enum import IntEnum

import msgspec

from sessiond.sources.base import Root, Watch
from sessiond.watch.kernel import Mounts
from sessiond.watch.roots import RootState, Route, WatchedRoot, WatchMode

_UNUSUAL = re.compile(r"/\.{0,2}(?:/|$)")
"""In a path that is not written in its shortest form."""


class WatchScope(IntEnum):
    """The changes that a watch reports. A broader scope includes the narrower ones."""

    ANCESTOR = 0
    """Names that appear in the directory, one of which leads to a missing root."""
    FLAT = 1
    """Changes in the directory."""
    TREE = 2
    """Changes in the directory and below."""


class WatchTarget(msgspec.Struct, frozen=True):
    """A directory to watch. Another directory at the same path is another target."""

    path: str
    """Resolved, without symbolic links."""
    scope: WatchScope
    device: int
    inode: int


class WatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The directories to watch, and what they cover."""

    targets: frozenset[WatchTarget]
    coverage: dict[WatchedRoot, WatchTarget]
    """The target whose events report changes of the root, or its appearance."""
    awaited: frozenset[str]
    """Resolved paths. If one appears or vanishes, another plan is needed."""
    routes: tuple[Route, ...]
    states: dict[WatchedRoot, RootState]


def plan_watches(roots: Sequence[WatchedRoot], mounts: Mounts) -> WatchPlan:
    """Return the targets for some roots."""
    wanted: dict[str, WatchTarget] = {}
    watched_paths: dict[WatchedRoot, str] = {}
    awaited: set[str] = set()
    routes: list[Route] = []
    states: dict[WatchedRoot, RootState] = {}
    directories = _Directories(mounts, {watched.root.path for watched in roots})
    for watched in roots:
        place = directories.place(watched.root.path)
        state, path, scope = _aim(watched, place, directories)
        states[watched] = state
        if path is None:
            continue
        routes.append(Route(watched, place.resolved))
        awaited.add(path)
        if scope is WatchScope.ANCESTOR:
            awaited.add(place.awaited)
        if path not in wanted or wanted[path].scope < scope:
            try:
                found = os.stat(path)
            except OSError:
                continue  # it vanished just now; the caller plans again until nothing changes
            wanted[path] = WatchTarget(path, scope, found.st_dev, found.st_ino)
        watched_paths[watched] = path
    # An inode has one mask in an inotify instance: the one that was set last. A narrow watch inside a broad one
    # would silence it, so directories inside a watched tree are not watched again.
    covering = {path: _cover(path, wanted) for path in wanted}
    return WatchPlan(
        targets=frozenset(covering.values()),
        coverage={watched: covering[path] for watched, path in watched_paths.items()},
        awaited=frozenset(awaited),
        routes=tuple(routes),
        states=states,
    )


class _Place(msgspec.Struct, frozen=True, gc=False):
    """A path as one plan found it."""

    resolved: str
    """The path without symbolic links, as os.path.realpath() returns it."""
    present: bool
    """Whether it is a directory."""
    ancestor: str
    """The nearest directory that exists, resolved: itself, or one above it."""
    missing: str = ""
    """The first part of the path that is no directory, as the path names it."""
    awaited: str = ""
    """The path that has to appear in the ancestor before this one can exist."""


class _Directories:
    """The facts about directories that one plan needs. Each directory is examined once.

    Most of the hundreds of roots are missing. Nothing is asked of the system about what is below a missing directory,
    nor is it taken apart: the roots come in order, so those below a directory follow each other. A plan made after the
    watches exist may keep what it has read: a later change causes an event, and the event another plan.
    """

    def __init__(self, mounts: Mounts, paths: Iterable[str]) -> None:
        self._mounts = mounts
        self._places: dict[str, _Place] = {}
        self._readable: dict[str, bool] = {}
        above = None
        for path in sorted(paths):
            if above is not None and path.startswith(f"{above.missing}/") and not _UNUSUAL.search(path):
                resolved = above.resolved + path[len(above.missing) :]
                self._places[path] = _Place(resolved, False, above.ancestor, above.missing, above.awaited)
            else:
                place = self.place(path)
                above = None if place.present else self.place(place.missing)

    def place(self, path: str) -> _Place:
        """Return what is at a path; `path` is absolute."""
        found = self._places.get(path)
        if found is None:
            found = self._places[path] = self._examine(path)
        return found

    def _examine(self, path: str) -> _Place:
        parent, _, name = path.rpartition("/")
        if name in ("", ".", "..") or not parent:
            resolved = os.path.realpath(path)
        else:
            above = self.place(parent)
            resolved = f"{above.resolved.rstrip('/')}/{name}"
            if not above.present:
                return _Place(resolved, False, above.ancestor, above.missing, above.awaited)
            try:
                mode = os.lstat(resolved).st_mode
            except OSError:
                return _Place(resolved, False, above.resolved, path, resolved)
            if stat.S_ISLNK(mode):
                resolved = os.path.realpath(resolved)
        if os.path.isdir(resolved):
            return _Place(resolved, True, resolved)
        ancestor = os.path.dirname(resolved)
        while not os.path.isdir(ancestor):  # links may lead to each other, so none is followed here
            ancestor = os.path.dirname(ancestor)
        return _Place(resolved, False, ancestor, path, _next(ancestor, resolved))

    def readable(self, path: str) -> bool:
        """Return whether a directory may be listed and entered."""
        if path not in self._readable:
            self._readable[path] = os.access(path, os.R_OK | os.X_OK)
        return self._readable[path]

    def remote(self, path: str) -> str | None:
        """Return the filesystem type of a directory if its events are incomplete, else None."""
        return self._mounts.remote(path)


def _aim(watched: WatchedRoot, place: _Place, directories: _Directories) -> tuple[RootState, str | None, WatchScope]:
    """Return how one root is watched: its state, the directory to watch (None: no directory), and the scope."""
    mode, detail, hint, path, scope = WatchMode.WATCHED, "", "", None, WatchScope.FLAT
    if not place.present:
        mode, scope = WatchMode.MISSING, WatchScope.ANCESTOR
        detail, path = _wait(watched.root, place.ancestor, directories)
    elif not directories.readable(place.resolved):
        # inotify needs read permission, and watchdog ignores the refusal.
        mode, detail, hint = WatchMode.UNREADABLE, "no permission", f"chmod u+rx {place.resolved}"
    elif watched.root.watch is Watch.SCAN:
        mode = WatchMode.SCANNED
    elif kind := directories.remote(place.resolved):
        mode, detail = WatchMode.POLLED, f"{kind} reports no changes that other machines make"
    else:
        path, scope = place.resolved, WatchScope.TREE if watched.root.watch is Watch.TREE else WatchScope.FLAT
    return RootState(watched=watched, mode=mode, detail=detail, hint=hint), path, scope


def _wait(root: Root, ancestor: str, directories: _Directories) -> tuple[str, str | None]:
    """Return how a missing root is awaited: the detail of its state, and the directory to watch (None: none)."""
    if root.watch is Watch.SCAN:
        return "checked at each rescan", None
    if kind := directories.remote(ancestor):
        return f"checked at each rescan, since {ancestor} is on {kind}", None
    if not directories.readable(ancestor):
        return f"checked at each rescan, since {ancestor} can't be read", None
    return f"waiting at {ancestor}", ancestor


def _next(ancestor: str, resolved: str) -> str:
    """Return the path that has to appear in an ancestor before a path below it can exist."""
    prefix = ancestor.rstrip("/") + "/"
    return prefix + resolved[len(prefix) :].split("/", 1)[0]


def _cover(path: str, wanted: dict[str, WatchTarget]) -> WatchTarget:
    """Return the broadest target that reports changes at a path."""
    target, above = wanted[path], path
    while above != os.path.dirname(above):
        above = os.path.dirname(above)
        if above in wanted and wanted[above].scope is WatchScope.TREE:
            target = wanted[above]
    return target
