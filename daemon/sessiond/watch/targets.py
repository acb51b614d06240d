"""Decides which directories to watch for a set of roots, given which of them exist now."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import IntEnum

import msgspec

from sessiond.sources.base import Root, Watch
from sessiond.watch.kernel import Mounts
from sessiond.watch.roots import RootState, Route, WatchedRoot, WatchMode


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
    directories = _Directories(mounts)
    for watched in roots:
        resolved = directories.resolve(watched.root.path)
        state, path, scope = _aim(watched, resolved, directories)
        states[watched] = state
        if path is None:
            continue
        routes.append(Route(watched, resolved))
        awaited.add(path)
        if scope is WatchScope.ANCESTOR:
            awaited.add(_next(path, resolved))
        if path not in wanted or wanted[path].scope < scope:
            try:
                stat = os.stat(path)
            except OSError:
                continue  # it vanished just now; the caller plans again until nothing changes
            wanted[path] = WatchTarget(path, scope, stat.st_dev, stat.st_ino)
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


class _Directories:
    """The facts about directories that one plan needs. Each directory is examined once.

    Most of the hundreds of roots are missing and share the directories above them. A plan made after the watches exist
    may keep what it has read: a later change causes an event, and the event another plan.
    """

    def __init__(self, mounts: Mounts) -> None:
        self._mounts = mounts
        self._resolved: dict[str, str] = {}
        self._present: dict[str, bool] = {}
        self._readable: dict[str, bool] = {}
        self._ancestors: dict[str, str] = {}
        """The nearest existing directory, for each directory above a missing root."""

    def resolve(self, path: str) -> str:
        """Return a path without symbolic links, as os.path.realpath() does."""
        found = self._resolved.get(path)
        if found is None:
            parent, _, name = path.rpartition("/")
            if name in ("", ".", "..") or not parent:
                found = os.path.realpath(path)
            else:
                parent = self.resolve(parent)
                found = f"{parent.rstrip('/')}/{name}"
                if self.present(parent) and os.path.islink(found):
                    found = os.path.realpath(found)
            self._resolved[path] = found
        return found

    def present(self, path: str) -> bool:
        """Return whether a directory exists; `path` is resolved."""
        found = self._present.get(path)
        if found is None:
            parent = path.rpartition("/")[0] or "/"
            found = self._present[path] = (parent == path or self.present(parent)) and os.path.isdir(path)
        return found

    def readable(self, path: str) -> bool:
        """Return whether a directory may be listed and entered."""
        if path not in self._readable:
            self._readable[path] = os.access(path, os.R_OK | os.X_OK)
        return self._readable[path]

    def remote(self, path: str) -> str | None:
        """Return the filesystem type of a directory if its events are incomplete, else None."""
        return self._mounts.remote(path)

    def ancestor(self, resolved: str) -> str:
        """Return the nearest existing directory above a path."""
        parent = resolved.rpartition("/")[0] or "/"
        found = self._ancestors.get(parent)
        if found is None:
            there = self.present(parent) or parent == resolved
            found = self._ancestors[parent] = parent if there else self.ancestor(parent)
        return found


def _aim(watched: WatchedRoot, resolved: str, directories: _Directories) -> tuple[RootState, str | None, WatchScope]:
    """Return how one root is watched: its state, the directory to watch (None: no directory), and the scope."""
    mode, detail, hint, path, scope = WatchMode.WATCHED, "", "", None, WatchScope.FLAT
    if not directories.present(resolved):
        mode, scope = WatchMode.MISSING, WatchScope.ANCESTOR
        detail, path = _wait(watched.root, directories.ancestor(resolved), directories)
    elif not directories.readable(resolved):
        # inotify needs read permission, and watchdog ignores the refusal.
        mode, detail, hint = WatchMode.UNREADABLE, "no permission", f"chmod u+rx {resolved}"
    elif watched.root.watch is Watch.SCAN:
        mode = WatchMode.SCANNED
    elif kind := directories.remote(resolved):
        mode, detail = WatchMode.POLLED, f"{kind} reports no changes that other machines make"
    else:
        path, scope = resolved, WatchScope.TREE if watched.root.watch is Watch.TREE else WatchScope.FLAT
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
