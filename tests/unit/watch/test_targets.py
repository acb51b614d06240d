"""The directories that are watched for a set of roots, without a watcher."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessiond.sources.base import Root, Watch
from sessiond.watch import WatchedRoot, WatchMode
from sessiond.watch.kernel import Mounts
from sessiond.watch.roots import Route
from sessiond.watch.targets import WatchPlan, WatchScope, plan_watches
from support.watching import flat, tree

NO_MOUNTS = Mounts("/nonexistent")


def plan(*roots: WatchedRoot, mounts: Mounts = NO_MOUNTS) -> WatchPlan:
    """Return the plan for some roots."""
    return plan_watches(roots, mounts)


def targets(planned: WatchPlan) -> set[tuple[str, WatchScope]]:
    """Return the paths and scopes of the planned watches."""
    return {(target.path, target.scope) for target in planned.targets}


def test_each_root_has_its_scope(tmp_path: Path) -> None:
    """A tree is watched with everything below it, a flat root alone; their own paths are awaited."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    planned = plan(tree(one), flat(two))
    assert targets(planned) == {(str(one), WatchScope.TREE), (str(two), WatchScope.FLAT)}
    assert planned.awaited == {str(one), str(two)}
    assert [state.mode for state in planned.states.values()] == [WatchMode.WATCHED, WatchMode.WATCHED]
    assert planned.coverage[tree(one)].inode == one.stat().st_ino


def test_a_missing_root_awaits_the_next_step_towards_it(tmp_path: Path) -> None:
    """The nearest existing directory is watched for the one name that leads to the root."""
    missing = tree(tmp_path / "a" / "b" / "c")
    planned = plan(missing)
    assert targets(planned) == {(str(tmp_path), WatchScope.ANCESTOR)}
    assert planned.awaited == {str(tmp_path), str(tmp_path / "a")}
    assert planned.states[missing].mode is WatchMode.MISSING
    assert planned.states[missing].detail == f"waiting at {tmp_path}"
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert plan(missing).awaited == {str(tmp_path / "a" / "b"), str(tmp_path / "a" / "b" / "c")}


def test_a_root_below_the_top_of_the_filesystem_is_awaited_there() -> None:
    """The search for an existing directory ends at "/", whose name has no slash to cut."""
    missing = tree("/nonexistent-for-this-test/sessions")
    planned = plan(missing)
    assert targets(planned) == {("/", WatchScope.ANCESTOR)}
    assert planned.awaited == {"/", "/nonexistent-for-this-test"}


def test_one_directory_has_one_watch_of_the_broadest_scope(tmp_path: Path) -> None:
    """The kernel keeps one mask for a directory: a narrower one that is set later would silence the broad one."""
    (tmp_path / "inner" / "deep").mkdir(parents=True)
    waiting = tree(tmp_path / "inner" / "none")
    roots = [tree(tmp_path), flat(tmp_path), flat(tmp_path / "inner"), tree(tmp_path / "inner" / "deep"), waiting]
    for order in (roots, roots[::-1]):
        planned = plan(*order)
        assert targets(planned) == {(str(tmp_path), WatchScope.TREE)}
        assert {planned.coverage[root].path for root in roots} == {str(tmp_path)}


def test_a_narrow_watch_above_covers_nothing_below(tmp_path: Path) -> None:
    """A flat root reports no changes in its directories, so they need watches of their own."""
    inner = tmp_path / "inner"
    inner.mkdir()
    planned = plan(flat(tmp_path), tree(inner))
    assert targets(planned) == {(str(tmp_path), WatchScope.FLAT), (str(inner), WatchScope.TREE)}


def test_the_widest_tree_covers_nested_ones(tmp_path: Path) -> None:
    """Only the outermost of nested trees is watched, in whatever order they are given."""
    middle, inner = tmp_path / "a", tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert targets(plan(tree(inner), tree(middle), tree(tmp_path))) == {(str(tmp_path), WatchScope.TREE)}


def test_a_scanned_root_is_not_watched(tmp_path: Path) -> None:
    """A scanned root is watched neither where it is nor where it would appear: each rescan checks for it."""
    there, missing = tree(tmp_path, watch=Watch.SCAN), tree(tmp_path / "none", watch=Watch.SCAN)
    planned = plan(there, missing)
    assert not planned.targets
    assert not planned.awaited
    assert [(state.mode, state.detail) for state in planned.states.values()] == [
        (WatchMode.SCANNED, ""),
        (WatchMode.MISSING, "checked at each rescan"),
    ]


def test_a_missing_root_on_a_network_filesystem_is_not_awaited(tmp_path: Path) -> None:
    """Another machine may create it without an event here. The state names the filesystem."""
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:50 / {tmp_path} rw - nfs4 server:/home rw\n")
    missing = tree(tmp_path / "none")
    planned = plan(missing, mounts=Mounts(str(table)))
    assert not planned.targets
    state = planned.states[missing]
    assert str(state) == f"missing: checked at each rescan, since {tmp_path} is on nfs4"


def test_a_link_to_a_root_is_resolved(tmp_path: Path) -> None:
    """Watches are set where the link leads; the paths of its events are those below the link."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    planned = plan(tree(link))
    assert targets(planned) == {(str(tmp_path / "real"), WatchScope.TREE)}
    (route,) = planned.routes
    assert route(str(tmp_path / "real" / "s")) == str(link / "s")
    assert route(str(link / "s")) is None


@pytest.mark.parametrize(
    ("path", "below"),
    [
        ("/r/s", "/r/s"),
        ("/r/a/s", "/r/a/s"),
        ("/r/a/b/s", None),
        ("/r/skip/s", None),
        ("/r/skip", "/r/skip"),
        ("/r/", None),
        ("/r", None),
        ("/rest/s", None),
    ],
)
def test_a_route_takes_what_a_scan_of_its_root_reaches(path: str, below: str | None) -> None:
    """A route stops at `depth` and at skipped directories. A file with the name of a skipped directory is taken."""
    route = Route(WatchedRoot(owner="t", root=Root(path="/r/", depth=1, skip=frozenset({"skip"}))), "/r")
    assert route(path) == below


def test_a_flat_route_takes_its_directory_alone() -> None:
    """A flat route matches only files directly in its directory, even if its root is deep."""
    route = Route(flat("/r"), "/r")
    assert route("/r/s") == "/r/s"
    assert route("/r/a/s") is None


def test_a_route_to_one_file_takes_no_other() -> None:
    """A change of a tool's settings beside its history does not wake the watcher."""
    route = Route(WatchedRoot(owner="t", root=Root(path="/r", watch=Watch.FLAT, depth=0, only="history.jsonl")), "/r")
    assert route("/r/history.jsonl") == "/r/history.jsonl"
    assert route("/r/settings.json") is None and route("/r/projects/history.jsonl") is None


def test_an_unreadable_directory_is_not_watched(tmp_path: Path) -> None:
    """The state says what to do. A missing root below it is checked at each rescan."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    if os.access(closed, os.R_OK):
        pytest.skip("root may read everything")
    planned = plan(tree(closed), tree(closed / "none"))
    assert not planned.targets
    assert [state.mode for state in planned.states.values()] == [WatchMode.UNREADABLE, WatchMode.MISSING]
    assert planned.states[tree(closed)].hint == f"chmod u+rx {closed}"


class Vanishing(Mounts):
    """The mounts of a machine on which a directory is deleted while its filesystem is looked up."""

    def __init__(self, victim: Path) -> None:
        super().__init__("/nonexistent")
        self.victim = victim

    def remote(self, path: str) -> str | None:
        """Delete the directory, and return that it is a local one."""
        if path == str(self.victim):
            self.victim.rmdir()
        return None


def test_a_directory_that_vanishes_during_the_plan_costs_no_other_root_its_watch(tmp_path: Path) -> None:
    """The directory is awaited, and the roots after it are planned."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    planned = plan(tree(one), tree(two), mounts=Vanishing(one))
    assert targets(planned) == {(str(two), WatchScope.TREE)}
    assert planned.coverage.keys() == {tree(two)}
    assert str(one) in planned.awaited


def test_each_of_many_missing_roots_is_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tools aren't installed, and their roots share the directories above them."""
    (tmp_path / ".config").mkdir()
    asked: list[str] = []

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda path, *rest, **more: (asked.append(path), real(path, *rest, **more))[1]

    for name in ("stat", "lstat", "access", "readlink"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    roots = [tree(tmp_path / ".config" / f"editor-{number % 50}" / "a" / f"b{number}") for number in range(300)]
    planned = plan(*roots)
    monkeypatch.undo()
    assert {state.detail for state in planned.states.values()} == {f"waiting at {tmp_path}/.config"}
    assert len(asked) < 150  # two for each of the 50 editors, and some for the directories above them


def test_roots_behind_links_are_watched_where_the_links_lead(tmp_path: Path) -> None:
    """A directory above a root may be a link, also one whose target is missing, or one to itself."""
    real = tmp_path / "real"
    (real / "sub").mkdir(parents=True)
    links = {"link": real, "far": tmp_path / "link" / "sub", "dangling": tmp_path / "none" / "deep", "circle": "circle"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    paths = [*links, "link/sub", "link/missing/x", "far/missing", "dangling/x", "circle/x", "link/../real/sub"]
    for path in (f"{tmp_path}/{path}" for path in paths):
        root = WatchedRoot(root=Root(path=path), owner="tool")
        resolved = os.path.realpath(path)
        there = os.path.isdir(resolved)
        planned = plan(root)
        assert planned.states[root].mode is (WatchMode.WATCHED if there else WatchMode.MISSING), path
        (route,) = planned.routes
        assert route(f"{resolved}/file") == f"{path}/file"
        assert not there or planned.coverage[root].path == resolved


@pytest.mark.parametrize("link", ["nowhere/deep", "gone/down", "here", "file"])
def test_each_root_is_planned_as_if_it_were_the_only_one(link: str, tmp_path: Path) -> None:
    """What is known of a missing directory holds for all below it, and for none whose name only begins like its name.

    The link leads nowhere, to itself, to a directory or to a file.
    """
    (tmp_path / "here" / "sub").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to(tmp_path / link)
    names = ["gone", "gone/a", "gone/sub", "gone/sub/b", "gone-too/a", "gone.a", "none/a", "none/a/b", "none/c", "none"]
    names += ["none/../here", "none/./a", "none/a/../../here/sub", "file/a", "here/a", "here/sub", "here/sub/a/b"]
    roots = [tree(f"{tmp_path}/{name}") for name in names]
    for order in (roots, roots[::-1]):
        planned, alone = plan(*order), [plan(root) for root in order]
        assert planned.states == {root: state for each in alone for root, state in each.states.items()}
        resolved = {route.watched: route.resolved for route in planned.routes}
        assert resolved == {route.watched: route.resolved for each in alone for route in each.routes}
        assert planned.awaited == {path for each in alone for path in each.awaited}
    assert resolved == {root: os.path.realpath(root.root.path) for root in resolved}
