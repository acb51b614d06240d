"""The set of dirty paths, fed with events by hand."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import pytest
from watchdog.events import DirCreatedEvent, DirMovedEvent, FileCreatedEvent, FileModifiedEvent, FileMovedEvent

from sessiond.sources.base import Root
from sessiond.watch import WatchedRoot
from sessiond.watch.dirty import Changes, Dirty
from sessiond.watch.roots import Route
from support.watching import tree

FAR = 60.0
"""Seconds that no test waits for."""
ROOT = tree("/r")


def make(settle: float = 0.0, patience: float = 0.0, most: int = 100, *roots: WatchedRoot) -> Dirty:
    """Return a set that collects the paths below `roots`, by default below /r, and awaits /w."""
    dirty = Dirty(settle, patience, most)
    dirty.set_routes(tuple(Route(root, root.root.path) for root in roots or (ROOT,)), frozenset({"/w"}))
    return dirty


def take(dirty: Dirty) -> Changes:
    """Return what has settled, without waiting."""
    return dirty.take(-math.inf)


def test_both_paths_of_a_move_are_dirty() -> None:
    """The old path is gone, and the new one is new. A path outside of all roots is not dirty."""
    dirty = make()
    dirty.add_event(FileMovedEvent("/r/a", "/r/b"))
    dirty.add_event(FileMovedEvent("/elsewhere/a", "/r/c"))
    dirty.add_event(FileModifiedEvent("/elsewhere/d"))
    assert take(dirty) == Changes(paths=frozenset({"/r/a", "/r/b", "/r/c"}))
    assert take(dirty) == Changes(), "they are handed over once"


def test_a_directory_that_appears_is_a_tree() -> None:
    """Files in it may be older than its watch. One that is moved leaves its old path dirty."""
    dirty = make()
    dirty.add_event(DirCreatedEvent("/r/new"))
    dirty.add_event(DirMovedEvent("/r/old", "/r/moved"))
    dirty.add_event(DirMovedEvent("/r/gone", ""))
    taken = take(dirty)
    assert set(taken.trees) == {(ROOT, "new"), (ROOT, "moved")}
    assert taken.paths == {"/r/old", "/r/gone"}


def test_each_root_of_a_path_has_its_own_name_for_it() -> None:
    """A tree's paths are relative to the root, whatever the root's own path is."""
    link = WatchedRoot(owner="t", root=Root(path="/link"))
    dirty = make(0.0, 0.0, 100, ROOT)
    dirty.set_routes((Route(ROOT, "/r"), Route(link, "/r")), frozenset())
    dirty.add_event(FileCreatedEvent("/r/s"))
    dirty.add_event(DirCreatedEvent("/r/d/e"))
    taken = take(dirty)
    assert taken.paths == {"/r/s", "/link/s"}
    assert set(taken.trees) == {(ROOT, "d/e"), (link, "d/e")}


def test_an_awaited_path_asks_for_another_plan() -> None:
    """It is in no root, so it is not listed. Any other path beside it changes nothing."""
    dirty = make()
    dirty.add_event(FileCreatedEvent("/v"))
    assert take(dirty) == Changes()
    dirty.add_event(DirCreatedEvent("/w"))
    assert take(dirty) == Changes(replan=True)
    assert take(dirty) == Changes()


def test_up_to_most_paths_are_listed() -> None:
    """With one path more, everything is scanned instead. Directories that appeared count as well."""
    dirty = make(0.0, 0.0, 3)
    for number in range(3):
        dirty.add_event(FileModifiedEvent(f"/r/{number}"))
    assert len(take(dirty).paths) == 3
    for number in range(2):
        dirty.add_event(FileModifiedEvent(f"/r/{number}"))
        dirty.add_event(DirCreatedEvent(f"/r/d{number}"))
    dirty.add_event(FileModifiedEvent("/r/later"))
    dirty.add_event(DirCreatedEvent("/r/dlater"))
    assert take(dirty) == Changes(lost=True)
    dirty.add_event(FileModifiedEvent("/r/after"))
    assert take(dirty) == Changes(paths=frozenset({"/r/after"}))


def test_an_overflow_is_reported_once() -> None:
    """An overflow settles like a change."""
    dirty = make(FAR, FAR)
    dirty.mark_overflow()
    assert take(dirty) == Changes()
    dirty = make()
    dirty.mark_overflow()
    assert take(dirty) == Changes(lost=True)
    assert take(dirty) == Changes()


def test_changes_wait_until_they_settle() -> None:
    """A wake-up meanwhile returns at once, without them and only once; they stay for a later take."""
    dirty = make(FAR, FAR)
    dirty.add_event(FileModifiedEvent("/r/s"))
    assert take(dirty) == Changes()
    dirty.wake()
    assert dirty.take(math.inf) == Changes(poked=True)
    assert take(dirty) == Changes()


@pytest.mark.parametrize(("settle", "patience"), [(0.0, FAR), (FAR, 0.0)])
def test_the_shorter_of_settle_and_patience_ends_the_wait(settle: float, patience: float) -> None:
    """The set was quiet for `settle` seconds, or the first change is `patience` seconds ago."""
    dirty = make(settle, patience)
    dirty.add_event(FileModifiedEvent("/r/s"))
    assert dirty.take(math.inf).paths == {"/r/s"}


def in_another_thread(call: Callable[[], None], dirty: Dirty) -> Changes:
    """Wait for changes without a limit, while another thread makes a call."""
    other = threading.Thread(target=call)
    other.start()
    try:
        return dirty.take(time.monotonic() + FAR)
    finally:
        other.join()


@pytest.mark.parametrize("name", ["event", "awaited", "overflow", "wake", "close"])
def test_each_reason_ends_a_wait_that_has_begun(name: str) -> None:
    """A wait that ignored one would hand the change over only with the next one, or at the next rescan."""
    dirty = make()
    calls: dict[str, tuple[Callable[[], None], Changes]] = {
        "event": (lambda: dirty.add_event(FileModifiedEvent("/r/s")), Changes(paths=frozenset({"/r/s"}))),
        "awaited": (lambda: dirty.add_event(DirCreatedEvent("/w")), Changes(replan=True)),
        "overflow": (dirty.mark_overflow, Changes(lost=True)),
        "wake": (dirty.wake, Changes(poked=True)),
        "close": (dirty.close, Changes()),
    }
    call, expected = calls[name]
    began = time.monotonic()
    assert in_another_thread(call, dirty) == expected
    assert time.monotonic() - began < FAR / 2


def test_a_closed_set_never_waits() -> None:
    """A closed set returns at once, on the first call and on later ones."""
    dirty = make()
    assert not dirty.closed
    dirty.close()
    assert dirty.closed
    for _ in range(2):
        assert dirty.take(math.inf) == Changes()


def test_a_wait_that_ends_in_time_is_not_late() -> None:
    """A wait is late only if the process was stopped or the machine slept."""
    assert make().take(time.monotonic() + 0.01).late is False


def test_an_event_is_compared_with_the_roots_above_it_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are hundreds of roots, and a busy tool writes hundreds of times a second."""
    compared: list[str] = []
    real = Route.__call__

    def count(route: Route, path: str) -> str | None:
        compared.append(route.name)
        return real(route, path)

    monkeypatch.setattr(Route, "__call__", count)
    roots = [tree(f"/home/tool-{number}") for number in range(300)]
    dirty = make(0.0, 0.0, 100, *roots, tree("/home"), tree("/"))
    dirty.add_event(FileModifiedEvent("/home/tool-7/file"))
    assert compared == ["/home/tool-7/", "/home/", "/"]
    assert take(dirty).paths == {"/home/tool-7/file"}
