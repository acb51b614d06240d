"""The watcher misses no change, and wakes no thread without a reason."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from watchdog.events import DirCreatedEvent, FileSystemEvent

from sessiond.errors import WatchLost
from sessiond.sources.base import Watch
from sessiond.watch import RescanReason, WatchedRoot, Watcher, WatchOptions, scan
from sessiond.watch import watcher as watcher_module
from sessiond.watch.kernel import Mounts
from sessiond.watch.rescan_schedule import RescanSchedule
from sessiond.watch.targets import WatchPlan, plan_watches
from support.watching import SOON, Child, Lab, flat, tree

Start = Callable[..., Lab]
Launch = Callable[..., Child]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start labs, and close them at the end."""
    labs: list[Lab] = []

    def begin(*roots: WatchedRoot, **options: Any) -> Lab:
        labs.append(Lab(*roots, **options))
        return labs[-1]

    yield begin
    for lab in labs:
        lab.watcher.close()


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Start children, and kill those that a failed test left behind."""
    children: list[Child] = []

    def begin(*paths: Path, **options: Any) -> Child:
        children.append(Child(paths, **options))
        return children[-1]

    yield begin
    for child in children:
        child.kill()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make an empty root."""
    path = tmp_path / "root"
    path.mkdir()
    return path


def test_a_change_is_reported_soon(root: Path, start: Start) -> None:
    """An appended line is a batch of one path, after the settle time and little more."""
    file = root / "s.jsonl"
    file.write_text("1\n")
    lab = start(tree(root), settle=0.2)
    lab.forget()
    with file.open("a") as appended:
        appended.write("2\n")
    assert lab.sees(file) < 2
    assert lab.paths == {str(file)}


def test_existing_files_are_found_at_the_start(root: Path, start: Start) -> None:
    """Files that existed before the start are found without an event."""
    (root / "s.jsonl").touch()
    lab = start(tree(root), tree(root / "none"))
    assert lab.whys == {"start"}
    assert lab.paths == {str(root / "s.jsonl")}
    assert lab.looks == 2


def test_without_events_each_root_is_scanned_once(root: Path, start: Start) -> None:
    """`sync` does that. It starts no thread, and a change afterwards is the next call's."""
    (root / "s.jsonl").touch()
    threads = threading.active_count()
    lab = start(tree(root), events=False)
    assert (lab.looks, lab.paths) == (1, {str(root / "s.jsonl")})
    lab.watcher.add([tree(root.parent / "other")])
    (root / "t.jsonl").touch()
    assert threading.active_count() == threads
    batch = lab.watcher.wait(0.2)
    assert [watched.root.path for watched in batch.rescan] == [str(root.parent / "other")]
    assert not batch.paths


def test_reading_a_file_does_not_wake_the_watcher(root: Path, start: Start) -> None:
    """A hundred reads and as many listings are no change."""
    file = root / "s.jsonl"
    file.write_text("1\n")
    lab = start(tree(root))
    lab.forget()
    for _ in range(100):
        file.read_bytes()
        os.listdir(root)
    batch = lab.watcher.wait(0.4)
    assert not batch.paths
    assert not batch.rescan


def test_names_need_not_be_text(root: Path, start: Start) -> None:
    """Bytes that are not UTF-8, a newline and the longest name are reported, by events and by scans."""
    lab = start(tree(root))
    paths = [os.path.join(os.fsencode(root), name) for name in (b"\xff.jsonl", b"a\nb.jsonl", b"n" * 255)]
    for path in paths:
        with open(path, "wb"):
            pass
    lab.sees(*(os.fsdecode(path) for path in paths))
    assert {os.fsencode(path) for path, _ in scan(tree(root).root)} == set(paths)


def test_a_move_dirties_both_paths(root: Path, start: Start) -> None:
    """Ingest needs both: the old path is gone, and the new one is new."""
    (root / "a").touch()
    lab = start(tree(root))
    lab.forget()
    (root / "a").rename(root / "b")
    lab.sees(root / "a", root / "b")


def test_a_replaced_file_is_dirty(root: Path, start: Start) -> None:
    """Most tools save by writing beside and renaming over."""
    (root / "s.json").write_text("old")
    lab = start(tree(root))
    lab.forget()
    (root / "s.tmp").write_text("new")
    (root / "s.tmp").rename(root / "s.json")
    lab.sees(root / "s.json")


def test_a_deleted_path_is_dirty(root: Path, start: Start) -> None:
    """A deleted file must be marked as deleted at the source. For a directory that is moved away, its own path is
    reported.
    """
    (root / "sub").mkdir()
    (root / "sub" / "s").touch()
    (root / "s").touch()
    lab = start(tree(root))
    lab.forget()
    (root / "s").unlink()
    lab.sees(root / "s")
    (root / "sub").rename(root.parent / "elsewhere")
    lab.sees(root / "sub")


def test_a_file_in_a_new_deep_directory_is_found_at_once(root: Path, start: Start) -> None:
    """`mkdir -p a/b/c/d` and a file come faster than watches can follow. Later changes there are seen as well."""
    lab = start(tree(root))
    files = [root / f"p{number}" / "a" / "b" / "c" / "s.jsonl" for number in range(40)]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("1\n")
    assert lab.sees(*files) < 2
    lab.forget()
    for file in files:
        file.write_text("2\n")
    assert lab.sees(*files) < 2


def test_all_below_a_moved_in_directory_is_dirty(root: Path, tmp_path: Path, start: Start) -> None:
    """A populated tree comes in by one rename; later changes below it are seen as well."""
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "s").touch()
    lab = start(tree(root))
    (tmp_path / "x").rename(root / "x")
    lab.sees(root / "x" / "y" / "s")
    lab.forget()
    (root / "x" / "y" / "s").write_text("1")
    lab.sees(root / "x" / "y" / "s")


class Fed(Watcher):
    """A watcher whose events come from the test: watchdog reports most files of a new directory by itself."""

    def feed(self, *events: FileSystemEvent) -> None:
        """Add events."""
        for event in events:
            self._dirty.add_event(event)

    def lose(self) -> None:
        """Report that the kernel dropped events."""
        self._dirty.mark_overflow()


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[Callable[..., Fed]]:
    """Start watchers of directories below `tmp_path`, with their first scan behind them."""
    watchers: list[Fed] = []

    def begin(*names: str, most: int = 100) -> Fed:
        watcher = Fed([tree(tmp_path / name) for name in names], WatchOptions(settle=0, patience=0, most=most))
        watchers.append(watcher)
        watcher.start()
        assert watcher.wait(0).rescan
        return watcher

    yield begin
    for watcher in watchers:
        watcher.close()


def test_a_directory_that_appears_is_searched_in_each_root(tmp_path: Path, fed: Callable[..., Fed]) -> None:
    """Files in it may be older than its watch. Its name may begin like that of one in another root."""
    files = [tmp_path / name for name in ("one/a/s", "one/a/deep/s", "one/ab/s", "two/a/b/s")]
    for file in (*files, tmp_path / "one" / "old" / "s"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    watcher = fed("one", "two")
    appeared = ("one/a/deep", "one/a", "one/ab", "two/a/b")
    watcher.feed(*(DirCreatedEvent(str(tmp_path / name)) for name in appeared))
    assert watcher.wait(0).paths == {str(file) for file in files}


def test_a_directory_with_too_many_files_is_not_listed(tmp_path: Path, fed: Callable[..., Fed]) -> None:
    """A new directory is listed if its files fit in a batch. With one file more, everything is scanned."""
    (tmp_path / "root" / "new").mkdir(parents=True)
    for number in range(5):
        (tmp_path / "root" / "new" / f"{number}").touch()
    appeared = DirCreatedEvent(str(tmp_path / "root" / "new"))
    enough = fed("root", most=5)
    enough.feed(appeared)
    assert len(enough.wait(0).paths) == 5
    few = fed("root", most=4)
    few.feed(appeared)
    batch = few.wait(0)
    assert (batch.paths, batch.why) == (frozenset(), {RescanReason.OVERFLOW})
    assert batch.rescan == (tree(tmp_path / "root"),)


def test_a_root_that_is_added_is_scanned_with_the_others(tmp_path: Path, fed: Callable[..., Fed]) -> None:
    """It is scanned at once, and from then on with all others."""
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    watcher = fed("one")
    watcher.add([one, two, two])
    batch = watcher.wait(0)
    assert (batch.rescan, batch.why) == ((two,), {RescanReason.FOUND})
    watcher.lose()
    batch = watcher.wait(0)
    assert (set(batch.rescan), batch.why) == ({one, two}, {RescanReason.OVERFLOW})
    assert [state.watched for state in watcher.states()] == [one, two]


def test_a_renamed_directory_dirties_old_and_new_paths(root: Path, start: Start) -> None:
    """Within a root, files below are known by both names."""
    (root / "x" / "y").mkdir(parents=True)
    (root / "x" / "y" / "s").touch()
    lab = start(tree(root))
    lab.forget()
    (root / "x").rename(root / "z")
    lab.sees(root / "x" / "y" / "s", root / "z" / "y" / "s")


def test_depth_and_skip_apply_to_scans_and_events(root: Path, start: Start) -> None:
    """Directories that a scan skips wake no thread either."""
    for name in ("in", "in/deep", "node_modules"):
        (root / name).mkdir()
    wanted, unwanted = [root / "s", root / "in" / "s"], [root / "in/deep/s", root / "node_modules/s"]
    for file in (*wanted, *unwanted):
        file.touch()
    lab = start(tree(root, depth=1, skip=frozenset({"node_modules"})))
    assert lab.paths == {str(file) for file in wanted}
    lab.forget()
    for file in (*unwanted, *wanted):
        file.write_text("1")
    lab.sees(*wanted)
    (root / "in" / "deeper").mkdir()
    (root / "in" / "deeper" / "s").touch()
    (root / "node_modules" / "new").mkdir()
    (root / "node_modules" / "new" / "s").touch()
    (root / "in" / "last").touch()
    lab.sees(root / "in" / "last")
    assert not [path for path in lab.paths if "deep" in path or "node_modules/" in path]


def test_a_flat_root_is_the_directory_alone(root: Path, start: Start) -> None:
    """Events and scans of a flat root stay in its directory."""
    (root / "sub").mkdir()
    lab = start(flat(root))
    (root / "sub" / "s").touch()
    (root / "s").touch()
    lab.sees(root / "s")
    assert str(root / "sub" / "s") not in lab.paths
    assert [path for path, _ in scan(flat(root).root)] == [str(root / "s")]


def test_a_scanned_root_is_found_by_scans_only(root: Path, start: Start) -> None:
    """Watch.SCAN costs no watch; the rescan finds what changed."""
    lab = start(tree(root, watch=Watch.SCAN), rescan=0.5)
    assert lab.how() == ["scan only"]
    (root / "s").touch()
    lab.sees(root / "s")
    assert "due" in lab.whys


def test_a_missing_root_is_awaited_step_by_step(tmp_path: Path, start: Start) -> None:
    """A tool that is installed after the start is found within two seconds, without polling."""
    wanted = tmp_path / "config" / "tool" / "sessions"
    lab = start(tree(wanted))
    assert str(lab.states()[0]) == f"missing: waiting at {tmp_path}"
    (tmp_path / "config").mkdir()
    while str(lab.states()[0]) != f"missing: waiting at {tmp_path / 'config'}":
        lab.turn(0.1)
    wanted.mkdir(parents=True)
    (wanted / "s.jsonl").touch()
    assert lab.sees(wanted / "s.jsonl") < 2
    assert lab.how() == ["watched"]
    lab.forget()
    (wanted / "s.jsonl").write_text("1")
    lab.sees(wanted / "s.jsonl")


def test_a_root_that_appears_while_its_watch_is_set_is_watched(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It appears after it was found missing and before the directory above it is watched, so no event reports it."""
    root = tmp_path / "root"

    def plan(roots: Sequence[WatchedRoot], mounts: Mounts) -> WatchPlan:
        planned = plan_watches(roots, mounts)
        root.mkdir(exist_ok=True)
        return planned

    monkeypatch.setattr(watcher_module, "plan_watches", plan)
    lab = start(tree(root))
    assert lab.how() == ["watched"]
    lab.forget()
    (root / "s.jsonl").touch()
    lab.sees(root / "s.jsonl")
    assert lab.looks == 0, "an event reported it, and no scan"


def test_changes_beside_a_missing_root_do_not_wake_the_watcher(tmp_path: Path, start: Start) -> None:
    """Files come, change and go in the home directory all day."""
    lab = start(tree(tmp_path / "a" / "b"))
    for number in range(50):
        (tmp_path / f"f{number}").write_text("1")
        (tmp_path / f"d{number}").mkdir()
    batch = lab.watcher.wait(0.4)
    assert not batch.paths
    assert not batch.rescan


def test_a_root_that_was_deleted_is_watched_again(root: Path, start: Start) -> None:
    """A tool is uninstalled and installed again, faster than any check."""
    lab = start(tree(root))
    shutil.rmtree(root)
    lab.until(lambda: lab.how() == ["missing"])
    root.mkdir()
    (root / "s").touch()
    assert lab.sees(root / "s") < 2
    lab.forget()
    shutil.rmtree(root)
    root.mkdir()
    lab.until(lambda: "found" in lab.whys)
    (root / "t").touch()
    lab.sees(root / "t")


def test_a_root_that_was_replaced_is_watched_again(root: Path, start: Start) -> None:
    """The rename of a root causes no event. The next rescan finds another directory at its path."""
    lab = start(tree(root), rescan=0.5)
    root.rename(root.parent / "old")
    root.mkdir()
    lab.until(lambda: "due" in lab.whys)
    lab.forget()
    (root / "s").touch()
    batch = lab.watcher.wait(0.4)
    assert str(root / "s") in batch.paths


def test_a_root_behind_a_link_follows_the_link(tmp_path: Path, start: Start) -> None:
    """Events and scans name files below the root as its source does. A new target is watched after a rescan."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to("one")
    lab = start(tree(link), rescan=0.5)
    (tmp_path / "one" / "s").touch()
    lab.sees(link / "s")
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(link)
    (tmp_path / "two" / "t").touch()
    lab.sees(link / "t")
    (tmp_path / "two" / "u").touch()
    lab.sees(link / "u")
    assert all(path.startswith(f"{link}/") for path in lab.paths)


def test_links_inside_a_root_are_not_followed(root: Path, tmp_path: Path) -> None:
    """A project may contain hostile links: a scan yields regular files only."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "s").touch()
    (root / "directory").symlink_to(tmp_path / "secret")
    (root / "file").symlink_to(tmp_path / "secret" / "s")
    os.mkfifo(root / "fifo")
    (root / "s").touch()
    assert [path for path, _ in scan(tree(root).root)] == [str(root / "s")]


def test_a_file_that_vanishes_during_a_scan_is_left_out(root: Path) -> None:
    """Its directory was listed already. Nothing is reported for it, least of all the metadata of another file."""
    for number in range(5):
        (root / f"{number}.jsonl").touch()
    looking = scan(tree(root).root)
    first, _ = next(looking)
    for path in root.iterdir():
        if str(path) != first:
            path.unlink()
    assert list(looking) == []


def test_roots_may_share_and_nest_directories(root: Path, start: Start) -> None:
    """Each watcher sees its changes, also beside others; the end of an inner root does not end the outer one."""
    inner = root / "inner"
    inner.mkdir()
    lab = start(tree(root, "a"), tree(root, "b"), tree(inner, "c"), flat(inner, "d"), tree(inner / "later", "e"))
    assert lab.how() == ["watched", "watched", "watched", "watched", "missing"]
    (inner / "s").touch()
    assert lab.sees(inner / "s") < 2
    (inner / "later").mkdir()
    (inner / "later" / "s").touch()
    lab.until(lambda: lab.how()[4] == "watched")
    lab.sees(inner / "later" / "s")
    lab.forget()
    shutil.rmtree(inner)
    lab.until(lambda: lab.how() == ["watched", "watched", "missing", "missing", "missing"])
    (root / "s").touch()
    lab.sees(root / "s")


def test_a_narrow_watch_does_not_silence_a_broad_one(root: Path, start: Start) -> None:
    """One inode has one mask: a missing root that is awaited inside a watched one must not hide its changes."""
    (root / "s").touch()
    lab = start(tree(root), tree(root / "none" / "deep"), flat(root))
    lab.forget()
    (root / "s").write_text("1")
    lab.sees(root / "s")


def test_a_stream_of_changes_is_not_held_back(root: Path, start: Start) -> None:
    """A tool writes all the time: a batch comes after `patience` at the latest, and each has one path."""
    lab = start(tree(root), settle=0.2, patience=0.5)
    stop = threading.Event()

    def write() -> None:
        with (root / "s").open("ab", buffering=0) as file:
            while not stop.wait(0.01):
                file.write(b"x\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            began = time.monotonic()
            assert lab.watcher.wait(SOON).paths == {str(root / "s")}
            assert time.monotonic() - began < 2
    finally:
        stop.set()
        writer.join()


def test_too_many_paths_become_a_full_scan(root: Path, start: Start) -> None:
    """Memory is bounded: above `most` paths, none is stored any more.

    The events are read in gulps, 0.05 s apart: with no more than that to settle, each may be handed over alone.
    """
    lab = start(tree(root), most=100, settle=0.5)
    for number in range(150):
        (root / f"{number}").touch()
    lab.until(lambda: "overflow" in lab.whys)
    assert len(lab.paths) >= 150


def test_a_huge_directory_that_appears_becomes_a_full_scan(root: Path, tmp_path: Path, start: Start) -> None:
    """A big tree that is moved in is one event."""
    (tmp_path / "big").mkdir()
    for number in range(150):
        (tmp_path / "big" / f"{number}").touch()
    lab = start(tree(root), most=100)
    (tmp_path / "big").rename(root / "big")
    lab.until(lambda: "overflow" in lab.whys)
    assert len(lab.paths) >= 150


def test_lost_events_ask_for_a_scan(root: Path, launch: Launch) -> None:
    """A stopped process misses 20,000 events, a new directory and a file. The scan comes as soon as it goes on."""
    child = launch(root, rescan=600.0)
    assert child.ask()["why"] == ["start"]
    child.run.send_signal(signal.SIGSTOP)
    with (root / "a").open("ab", buffering=0) as a, (root / "b").open("ab", buffering=0) as b:
        for _ in range(10_000):
            a.write(b"\n")
            b.write(b"\n")
    late = root / "new" / "s"
    late.parent.mkdir()
    late.touch()
    child.run.send_signal(signal.SIGCONT)
    answer = child.ask()
    while "overflow" not in answer["why"]:
        answer = child.ask()
        assert answer["paths"] or answer["why"], "the overflow went by unnoticed"
    assert str(late) in answer["seen"]
    late.write_text("1")
    while str(late) not in answer["paths"]:
        answer = child.ask()
        assert answer["paths"] or answer["why"], "deaf after the overflow"
    # watchdog warns of every directory here; the user must not see that.
    deep = root / "p" / "q" / "r" / "s"
    deep.parent.mkdir(parents=True)
    deep.touch()
    while str(deep) not in child.ask()["paths"]:
        pass
    assert child.end() == ""


def test_a_stopped_process_asks_for_a_scan(root: Path, launch: Launch) -> None:
    """A process that was stopped, or a machine that slept, does not trust what it knew."""
    child = launch(root, rescan=600.0)
    child.ask()
    child.tell(0.5)
    time.sleep(0.1)
    child.run.send_signal(signal.SIGSTOP)
    time.sleep(2.7)
    child.run.send_signal(signal.SIGCONT)
    assert child.hear()["why"] == ["wake"]
    assert child.end() == ""


def test_a_poke_and_a_close_end_the_wait(root: Path, start: Start) -> None:
    """Shutdown and new work come from other threads; after close every wait is empty at once."""
    lab = start(tree(root))
    lab.forget()
    for call in (lab.watcher.wake, lab.watcher.close):
        other = threading.Timer(0.05, call)
        other.start()
        batch = lab.watcher.wait(SOON)
        other.join()
        assert not batch.paths
        assert not batch.rescan
    (root / "s").touch()
    assert not lab.watcher.wait(SOON).paths
    lab.watcher.close()


def test_a_close_leaves_no_thread_and_no_descriptor(root: Path) -> None:
    """A watcher can be started and closed any number of times."""
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        Lab(tree(root), tree(root / "none")).watcher.close()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


def test_watchdog_writes_nothing_to_stderr(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It writes nothing while it runs or after the end: a full pipe would block it."""
    watcher = Watcher([tree(root)])
    with warnings.catch_warnings(record=True) as shown:
        watcher.start()
        logging.getLogger("watchdog").warning("a warning")
        warnings.warn_explicit("another one", RuntimeWarning, "inotify_c.py", 1, module="watchdog.observers.inotify_c")
    assert shown == []
    watcher.close()
    logging.getLogger("watchdog.observers").warning("another one")
    assert capsys.readouterr().err == ""


def test_no_roots_are_fine() -> None:
    """If no tool is installed there is nothing to watch."""
    watcher = Watcher([])
    watcher.start()
    assert not watcher.wait(0.05).rescan
    assert watcher.states() == ()
    watcher.close()


def test_a_file_where_a_root_should_be_is_missing(root: Path, start: Start) -> None:
    """A root is a directory; until it is one, it is awaited."""
    (root / "tool").touch()
    lab = start(tree(root / "tool"), tree(root / "tool" / "sessions"))
    assert lab.how() == ["missing", "missing"]
    assert not lab.paths
    (root / "tool").unlink()
    (root / "tool" / "sessions").mkdir(parents=True)
    lab.until(lambda: lab.how() == ["watched", "watched"])


class Poisonous(frozenset[str]):
    """A set that raises when it is queried."""

    def isdisjoint(self, other: object) -> bool:
        """Raise."""
        raise ZeroDivisionError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_noticed(root: Path, start: Start) -> None:
    """An exception in the observer ends the wait, and does not silently end all watching."""
    (root / "sub").mkdir()
    lab = start(tree(root, skip=Poisonous({"x"})), rescan=0.5)
    (root / "sub" / "s").touch()
    with pytest.raises(WatchLost, match="emitter of"):
        lab.until(lambda: False)


def inotify_descriptors() -> set[int]:
    """Return the inotify instances of this process."""
    return {
        int(name)
        for name in os.listdir("/proc/self/fd")
        if os.path.islink(link := f"/proc/self/fd/{name}") and os.readlink(link) == "anon_inode:inotify"
    }


@pytest.mark.skipif(sys.platform != "linux", reason="the reader is Linux's")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_fails_is_noticed_at_once(root: Path, start: Start) -> None:
    """No event arrives after the reader died, so the failure must not wait for the next rescan."""
    before = inotify_descriptors()
    lab = start(tree(root))
    (descriptor,) = inotify_descriptors() - before
    directory = os.open(root, os.O_RDONLY)
    os.dup2(directory, descriptor)  # to read a directory fails
    os.close(directory)
    (root / "s").touch()
    with pytest.raises(WatchLost, match="the inotify reader of watchdog died"):
        lab.until(lambda: False)


def starve(limit: str, value: int) -> list[str]:
    """Make a command run with a lower inotify limit."""
    script = f'echo {value} > /proc/sys/user/max_inotify_{limit} && exec "$@"'
    prefix = ["unshare", "-Ur", "sh", "-c", script, "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are not available here")
    return prefix


def feed(child: Child, limit: str) -> None:
    """Raise the limit of a starved child."""
    script = f"echo 1000 > /proc/sys/user/max_inotify_{limit}"
    subprocess.run(["nsenter", f"--target={child.run.pid}", "--user", "sh", "-c", script], check=True)


def test_too_few_watches_mean_polling_until_there_are_more(root: Path, launch: Launch) -> None:
    """watchdog does not report directories that it could not watch. The state does, with a hint."""
    files = [root / f"d{number}" / "s" for number in range(20)]
    for file in files:
        file.parent.mkdir()
    child = launch(root, prefix=starve("watches", 5), poll=0.2, settle=0.05, rescan=1.0)
    state, hint = child.ask()["states"][0]
    assert state == "polled: 16 of 21 directories have no watch, user.max_inotify_watches is 5, all in use"
    assert hint == "sudo sysctl user.max_inotify_watches=524288"
    assert "found" in child.ask()["why"], "the tree was registered again: what changed meanwhile is unknown"
    for file in files:
        file.touch()
    seen: set[str] = set()
    while not {str(file) for file in files} <= seen:
        answer = child.ask()
        seen |= {*answer["paths"], *answer["seen"]}
    feed(child, "watches")
    while child.ask()["states"] != [["watched", ""]]:
        pass
    for file in files:
        file.write_text("1")
    seen = set()
    while not {str(file) for file in files} <= seen:
        seen |= {*child.ask()["paths"]}  # by events alone
    assert child.end() == ""


def test_no_inotify_instance_means_polling_until_there_is_one(root: Path, launch: Launch) -> None:
    """A desktop may have used all of them up: sessiond starts nevertheless."""
    child = launch(root, root / "none", prefix=starve("instances", 0), poll=0.2, settle=0.05, rescan=1.0)
    states = child.ask()["states"]
    detail, hint = "user.max_inotify_instances is 0, all in use", "sudo sysctl user.max_inotify_instances=1024"
    assert states == [[f"polled: {detail}", hint], [f"missing: {detail}", hint]]
    (root / "s").touch()
    while str(root / "s") not in child.ask()["seen"]:
        pass
    feed(child, "instances")
    while child.ask()["states"][0] != ["watched", ""]:
        pass
    assert child.end() == ""


def test_an_unreadable_directory_is_named_and_tried_again(root: Path, launch: Launch) -> None:
    """The others go on. Once it can be read, it is scanned and watched."""
    closed, file = root / "closed", root / "closed" / "s"
    closed.mkdir()
    file.touch()
    (root / "s").touch()
    closed.chmod(0)
    root_user = os.geteuid() == 0
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if root_user else []
    try:
        child = launch(root, closed, prefix=prefix, rescan=0.5, settle=0.05)
        answer = child.ask()
        assert answer["seen"] == [str(root / "s")]
        assert answer["states"] == [["watched", ""], ["unreadable: no permission", f"chmod u+rx {closed}"]]
        assert answer["unreadable"] == [[str(closed)], [str(closed)]]
    finally:
        closed.chmod(0o700)
    while child.ask()["states"] != [["watched", ""], ["watched", ""]]:
        pass
    file.write_text("1")
    while str(file) not in child.ask()["paths"]:
        pass
    assert child.end() == ""


def test_a_network_filesystem_is_polled(root: Path, tmp_path: Path, start: Start) -> None:
    """Writes of another machine cause no event here. The state reports that."""
    table = tmp_path / "mountinfo"
    point = str(root).replace("r", "\\162", 1)
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"2 1 0:50 / {point} rw,relatime shared:1 - nfs4 server:/home rw\n"
        f"3 2 0:51 / {root}/local rw - tmpfs tmpfs rw\n"
    )
    (root / "local").mkdir()
    roots = tree(root), tree(root / "local"), tree(root / "none"), tree(tmp_path)
    lab = start(*roots, mounts=str(table), poll=0.3)
    assert lab.how() == ["polled", "watched", "missing", "watched"]
    assert "nfs4" in lab.states()[0].detail
    assert "nfs4" in lab.states()[2].detail
    (root / "s").touch()
    lab.until(lambda: "poll" in lab.whys)
    lab.sees(root / "s")


def test_an_expensive_full_scan_is_rare() -> None:
    """Scans cost less than 0.05 % of a core when idle, and the longest pause is a quarter of an hour."""
    root = tree("/nowhere")
    schedule = RescanSchedule([root], rescan=60.0, poll=5.0)
    for cost, pause, poll in ((0.001, 60.0, 5.0), (0.1, 200.0, 20.0), (100.0, 900.0, 900.0)):
        schedule.ask(RescanReason.START)
        assert schedule.take() == {root: RescanReason.START}
        schedule.record_scan(root, cost)
        now = time.monotonic()
        assert schedule.next([]) == pytest.approx(now + pause, abs=1)
        assert schedule.next([root]) == pytest.approx(now + poll, abs=1)


def test_a_file_that_leaves_does_not_hold_up_another(root: Path, tmp_path: Path, start: Start) -> None:
    """It is moved out of all roots, so the second half of its event never comes: both changes are reported all the
    same.
    """
    gone, other = root / "gone.jsonl", root / "other.jsonl"
    gone.touch()
    other.touch()
    lab = start(tree(root))
    lab.forget()
    gone.rename(tmp_path / "elsewhere")
    other.write_text("1\n")
    lab.sees(other, gone)
    assert lab.paths == {str(gone), str(other)}
    assert lab.looks == 0
