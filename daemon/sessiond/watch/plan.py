"""Where watches are needed for a set of roots, as the disk is now."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import IntEnum

import msgspec

from sessiond.sources.base import Root, Watch
from sessiond.watch.kernel import Mounts
from sessiond.watch.roots import How, Route, State, WatchedRoot


class Breadth(IntEnum):
    """What a watch is to report; a broader one reports all that a narrower one does."""

    STEP = 0
    """Names that appear in the directory: one of them leads to a missing root."""
    FLAT = 1
    """Changes in the directory."""
    TREE = 2
    """Changes in the directory and below."""


class Spot(msgspec.Struct, frozen=True):
    """A directory to watch. Another directory at the same path is another spot."""

    path: str
    """Resolved: no link in it."""
    breadth: Breadth
    device: int
    inode: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be watched, and what each root may expect of it."""

    spots: frozenset[Spot]
    covers: dict[WatchedRoot, Spot]
    """Whose events tell about the root, or about its appearance."""
    awaited: frozenset[str]
    """Resolved paths whose appearance or end calls for another plan."""
    routes: tuple[Route, ...]
    states: dict[WatchedRoot, State]


def plan(roots: Sequence[WatchedRoot], mounts: Mounts) -> Plan:
    """Find the spots for some roots."""
    wanted: dict[str, Spot] = {}
    place: dict[WatchedRoot, str] = {}
    awaited: set[str] = set()
    routes: list[Route] = []
    states: dict[WatchedRoot, State] = {}
    for watched in roots:
        resolved = os.path.realpath(watched.root.path)
        state, path, breadth = _aim(watched, resolved, mounts)
        states[watched] = state
        if path is None:
            continue
        routes.append(Route(watched, resolved))
        awaited.add(path)
        if breadth is Breadth.STEP:
            awaited.add(_next(path, resolved))
        try:
            stat = os.stat(path)
        except OSError:
            continue  # went away this moment; the caller plans until nothing changes any more
        place[watched] = path
        if path not in wanted or wanted[path].breadth < breadth:
            wanted[path] = Spot(path, breadth, stat.st_dev, stat.st_ino)
    # One inode has one mask in an inotify instance, whichever watch set it last: a narrow watch inside of a
    # broad one would silence it. So what a tree covers is not watched again.
    covering = {path: _cover(path, wanted) for path in wanted}
    return Plan(
        spots=frozenset(covering.values()),
        covers={watched: covering[path] for watched, path in place.items()},
        awaited=frozenset(awaited),
        routes=tuple(routes),
        states=states,
    )


def _aim(watched: WatchedRoot, resolved: str, mounts: Mounts) -> tuple[State, str | None, Breadth]:
    """Decide how one root is watched: its state, where (None: nowhere), how broadly."""
    how, detail, hint, path, breadth = How.WATCHED, "", "", None, Breadth.FLAT
    if not os.path.isdir(resolved):
        how, breadth = How.MISSING, Breadth.STEP
        detail, path = _wait(watched.root, _ancestor(resolved), mounts)
    elif not os.access(resolved, os.R_OK | os.X_OK):
        # inotify needs the permission to read; watchdog takes the refusal for a success.
        how, detail, hint = How.UNREADABLE, "no permission", f"chmod u+rx {resolved}"
    elif watched.root.watch is Watch.SCAN:
        how = How.SCANNED
    elif kind := mounts.remote(resolved):
        how, detail = How.POLLED, f"{kind} does not tell what other machines change"
    else:
        path, breadth = resolved, Breadth.TREE if watched.root.watch is Watch.TREE else Breadth.FLAT
    return State(watched=watched, how=how, detail=detail, hint=hint), path, breadth


def _wait(root: Root, ancestor: str, mounts: Mounts) -> tuple[str, str | None]:
    """Decide how a missing root is waited for: the detail of its state, and where to watch (None: nowhere)."""
    if root.watch is Watch.SCAN:
        return "looked for at each rescan", None
    if kind := mounts.remote(ancestor):
        return f"looked for at each rescan, since {ancestor} is on {kind}", None
    if not os.access(ancestor, os.R_OK | os.X_OK):
        return f"looked for at each rescan, since {ancestor} can't be read", None
    return f"waiting at {ancestor}", ancestor


def _ancestor(resolved: str) -> str:
    """Find the nearest directory above a path."""
    path = os.path.dirname(resolved)
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _next(ancestor: str, resolved: str) -> str:
    """Name what must appear in an ancestor for a path below it to exist."""
    prefix = ancestor.rstrip("/") + "/"
    return prefix + resolved[len(prefix) :].split("/", 1)[0]


def _cover(path: str, wanted: dict[str, Spot]) -> Spot:
    """Find the broadest wanted spot that reports what happens at a path."""
    spot, above = wanted[path], path
    while above != os.path.dirname(above):
        above = os.path.dirname(above)
        if above in wanted and wanted[above].breadth is Breadth.TREE:
            spot = wanted[above]
    return spot
