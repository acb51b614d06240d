"""The watcher: what changed below the roots, and when to look at them as a whole."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from sessiond.errors import WatchLost
from sessiond.watch import kernel
from sessiond.watch.dirty import Changes, Dirty
from sessiond.watch.rescan_schedule import RescanSchedule
from sessiond.watch.roots import Batch, RescanReason, RootState, WatchedRoot, WatchMode
from sessiond.watch.scan import Found, ScanStats, scan
from sessiond.watch.targets import WatchPlan, WatchScope, WatchTarget, plan_watches
from sessiond.watch.watchdog_adapter import WatchdogAdapter

_MOST = 50_000
_SLEPT = 1.0
_SHOWN = 5


class _Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from the states of all roots, which are replaced as a whole."""

    states: dict[WatchedRoot, RootState]
    listed: tuple[RootState, ...] = ()
    polled: list[WatchedRoot] = []


class Watcher:
    """Watches roots from `start()` to `close()`.

    `start()`, `wait()`, `scan()` and `add()` belong to one thread; `poke()`, `states()` and `close()` to any.
    In seconds: `rescan` between two looks at every root, `poll` between two at a root without events,
    `settle` without a change before changes are handed over, `patience` that they are held back at most.
    `most` paths are named in a batch, past that everything is looked at. `mounts` is the table of mounted
    filesystems (proc(5), mountinfo).
    """

    def __init__(  # noqa: PLR0913 - settings, each with its default
        self,
        roots: Sequence[WatchedRoot],
        *,
        rescan: float = 60.0,
        poll: float = 5.0,
        settle: float = 0.2,
        patience: float = 1.0,
        most: int = _MOST,
        mounts: str = kernel.MOUNTS,
    ) -> None:
        self._roots = tuple(dict.fromkeys(roots))
        self._most, self._mounts, self._retry = most, mounts, rescan
        self._dirty = Dirty(settle, patience, most)
        self._schedule = RescanSchedule(self._roots, rescan, poll)
        self._adapter = WatchdogAdapter(self._dirty.note, self._dirty.mark_overflow)
        self._rewatching = threading.Lock()
        self._coverage: dict[WatchedRoot, WatchTarget] = {}
        self._states: dict[WatchedRoot, RootState] = {}
        self._summary = _Summary(states=self._states)
        self._covered: dict[WatchedRoot, int] = {}
        self._retried: dict[WatchTarget, float] = {}
        self._asleep = kernel.asleep()
        self._armed = False
        """Whether the first look at everything comes, right after all was planned for it."""

    def start(self) -> None:
        """Watch what there is; the first `wait()` then asks for a look at every root."""
        # Watch first, look second: what changes in between is seen twice, not never.
        self._rewatch()
        self._armed = True
        self._schedule.ask(RescanReason.START)

    def wait(self, timeout: float | None = None) -> Batch:
        """Block until changes have settled or roots are due for a look, and say which.

        The batch is empty after a poke, after `timeout` seconds, and after `close()`.

        Raises: WatchLost if a thread of the observer died.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            changes = self._dirty.take(min(deadline, self._schedule.next(self._summed().polled)))
            if self._dirty.closed:
                return Batch()
            self._check_threads()
            self._check_roots(changes)
            paths = self._expand(changes)
            due = self._schedule.take()
            if paths or due or changes.poked or time.monotonic() >= deadline:
                return Batch(paths=paths, rescan=tuple(due), why=frozenset(due.values()))

    def scan(self, watched: WatchedRoot) -> Iterator[Found]:
        """Look at a root: yield every regular file below it, and learn what the look costs and covers.

        What is done between two items counts as its cost, and the next rescan is put off accordingly: compare
        there, and read files afterwards.
        """
        stats = ScanStats()
        began = time.thread_time()
        yield from scan(watched.root, stats=stats)
        self._update_state(watched, stats)
        self._schedule.record_scan(watched, time.thread_time() - began)

    def add(self, roots: Sequence[WatchedRoot]) -> None:
        """Watch more roots from now on; the next `wait()` asks for a look at them."""
        new = tuple(watched for watched in dict.fromkeys(roots) if watched not in self._roots)
        self._roots += new
        self._schedule.add(new)
        self._rewatch()
        self._schedule.ask(RescanReason.FOUND, new)

    def states(self) -> tuple[RootState, ...]:
        """Say of each root how it is watched, in the order given."""
        return self._summed().listed

    def wake(self) -> None:
        """Let `wait()` return at once; not for signal handlers, since it takes a lock."""
        self._dirty.wake()

    def close(self) -> None:
        """End watching; a `wait()` in another thread returns."""
        self._dirty.close()
        with self._rewatching:
            self._adapter.close()

    def _summed(self) -> _Summary:
        """Sum up the states, once for each change of them: it is asked for with every change of a file."""
        if self._summary.states is not self._states:
            states = self._states
            self._summary = _Summary(
                states=states,
                listed=tuple(states[watched] for watched in self._roots if watched in states),
                polled=[watched for watched, state in states.items() if state.mode is WatchMode.POLLED],
            )
        return self._summary

    def _check_threads(self) -> None:
        with self._rewatching:
            dead = self._adapter.dead()
        if dead is not None:
            raise WatchLost(f"the {dead} of watchdog died", hint="start sessiond again: it looks at everything first")

    def _check_roots(self, changes: Changes) -> None:
        """Find what is due by the clock, after lost events, and because directories came or went."""
        before, self._asleep = self._asleep, kernel.asleep()
        if changes.late or self._asleep - before > _SLEPT:
            self._schedule.ask(RescanReason.WAKE)
        if changes.lost:
            self._schedule.ask(RescanReason.OVERFLOW)
            self._covered.clear()  # watchdog has registered everything anew, as far as it got
        self._schedule.tick(self._summed().polled)
        # With a look at everything, links are resolved again and refused watches tried again.
        if changes.replan or (self._schedule.complete and not self._armed):
            self._rewatch()
        self._armed = False

    def _expand(self, changes: Changes) -> frozenset[str]:
        """Add the files below directories that appeared: their events may be older than the watch there."""
        paths = set(changes.paths)
        last: tuple[WatchedRoot, str] | None = None
        for watched, below in sorted(changes.trees, key=lambda tree: (self._roots.index(tree[0]), tree[1])):
            if last is not None and watched is last[0] and below.startswith(last[1] + "/"):
                continue
            last = (watched, below)
            for path, _ in scan(watched.root, below):
                paths.add(path)
                if len(paths) > self._most:
                    self._schedule.ask(RescanReason.OVERFLOW)
                    return frozenset()
        return frozenset(paths)

    def _rewatch(self) -> None:
        """Watch where the roots are now; ask for a look at those that were not watched without a break."""
        with self._rewatching:
            if self._dirty.closed:
                return
            planned, fresh, refused = self._plan(), set[WatchTarget](), dict[WatchTarget, OSError]()
            while True:
                self._dirty.set_routes(planned.routes, planned.awaited)
                added, refused = self._adapter.watch(planned.targets)
                fresh |= added
                if not added:
                    break  # what was watched before tells of whatever appears meanwhile
                again = self._plan()
                if again.targets == planned.targets or refused:
                    break
                planned = again  # a directory appeared between the plan and its watch: no event told of it
        self._coverage = planned.coverage
        self._states = {
            watched: self._next_state(watched, state, fresh, refused) for watched, state in planned.states.items()
        }

    def _plan(self) -> WatchPlan:
        return plan_watches(self._roots, kernel.Mounts(self._mounts))

    def _next_state(
        self, watched: WatchedRoot, state: RootState, fresh: set[WatchTarget], refused: dict[WatchTarget, OSError]
    ) -> RootState:
        before, target = self._states.get(watched), self._coverage.get(watched)
        if target in refused:
            detail, hint = kernel.limit(refused[target])
            mode = WatchMode.POLLED if state.mode is WatchMode.WATCHED else state.mode
            state = replace(state, mode=mode, detail=detail, hint=hint)
        if before is None:
            return state
        if state.mode is WatchMode.WATCHED and before.mode is WatchMode.POLLED and target not in fresh:
            return before  # watched in part: only a look tells whether that is over
        if target in fresh or state.mode is not before.mode:
            self._schedule.ask(RescanReason.FOUND, [watched])
        return replace(state, directories=before.directories, unreadable=before.unreadable)

    def _update_state(self, watched: WatchedRoot, stats: ScanStats) -> None:
        """Take over from a look what it could not read, and whether all that it read is watched."""
        state = replace(
            self._states[watched],
            directories=len(stats.directories),
            unreadable=tuple(stats.unreadable[:_SHOWN]),
        )
        target = self._coverage.get(watched)
        present = state.mode in (WatchMode.WATCHED, WatchMode.POLLED)
        if present and target is not None and target.scope is WatchScope.TREE and self._adapter.holds(target):
            state = self._compare_with_kernel(target, stats, state)
        self._states = {**self._states, watched: state}

    def _compare_with_kernel(self, target: WatchTarget, stats: ScanStats, state: RootState) -> RootState:
        """Compare the directories of a look with those that the kernel watches."""
        directories = hash(frozenset(stats.directories))
        if state.mode is WatchMode.WATCHED and self._covered.get(state.watched) == directories:
            return state  # asking costs half a look, and the same directories have the same watches
        unwatched = self._unwatched(target, stats)
        if unwatched and time.monotonic() >= self._retried.get(target, -math.inf) + self._retry:
            # Perhaps there is room again, or a directory was unreadable when it appeared.
            self._retried[target] = time.monotonic()
            self._renew(target)
            unwatched = self._unwatched(target, stats)
        if unwatched:
            self._covered.pop(state.watched, None)
            detail, hint = kernel.watch_limit()
            detail = f"{unwatched} of {state.directories} directories have no watch, {detail}"
            return replace(state, mode=WatchMode.POLLED, detail=detail, hint=hint)
        self._covered[state.watched] = directories
        return replace(state, mode=WatchMode.WATCHED, detail="", hint="")

    def _unwatched(self, target: WatchTarget, stats: ScanStats) -> int:
        """Count the directories of a look that have no watch."""
        if not self._adapter.holds(target):
            return len(stats.directories)
        inodes = kernel.watched_inodes()
        if inodes is None or target.inode not in inodes:
            return 0  # the kernel names them otherwise than stat does (some overlays); the rescan is there
        unwatched = 0
        for inode in stats.directories.keys() - inodes:
            try:
                # Asked again: it may be gone, and a mount point has another inode in its parent's listing.
                unwatched += os.stat(stats.directories[inode]).st_ino not in inodes
            except OSError:
                continue
        return unwatched

    def _renew(self, target: WatchTarget) -> None:
        """Register a tree again, which watchdog does silently as far as it gets."""
        with self._rewatching:
            if not self._dirty.closed:
                self._adapter.forget(target)
                self._adapter.watch(set(self._coverage.values()))
        self._schedule.ask(
            RescanReason.FOUND, [watched for watched, cover in self._coverage.items() if cover == target]
        )
