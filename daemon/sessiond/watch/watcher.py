"""The watcher: reports changes below the roots, and when to scan them."""

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
    """Values derived from the states of all roots."""

    states: dict[WatchedRoot, RootState]
    listed: tuple[RootState, ...] = ()
    polled: list[WatchedRoot] = []


class Watcher:
    """Watches roots from `start()` to `close()`.

    `start()`, `wait()`, `scan()` and `add()` belong to one thread; `poke()`, `states()` and `close()` to any.
    In seconds: `rescan` between two scans of every root, `poll` between two scans of a root without events, `settle`
    without a change until changes are reported, `patience` as the longest delay of a change. A batch lists up to
    `most` paths; beyond that everything is scanned. `mounts` is the table of mounted filesystems (proc(5), mountinfo).
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
        self._adapter = WatchdogAdapter(self._dirty.add_event, self._dirty.mark_overflow)
        self._rewatching = threading.Lock()
        self._coverage: dict[WatchedRoot, WatchTarget] = {}
        self._states: dict[WatchedRoot, RootState] = {}
        self._summary = _Summary(states=self._states)
        self._covered: dict[WatchedRoot, int] = {}
        self._retried: dict[WatchTarget, float] = {}
        self._asleep = kernel.asleep()
        self._armed = False
        """Whether the next scan of everything is the first one, for which the watches are new."""

    def start(self) -> None:
        """Start watching. The first `wait()` then asks for a scan of every root."""
        # Watch first, scan second: changes in between are seen twice instead of never.
        self._rewatch()
        self._armed = True
        self._schedule.ask(RescanReason.START)

    def wait(self, timeout: float | None = None) -> Batch:
        """Wait for settled changes or due scans, and return them.

        The batch is empty after `wake()`, after `timeout` seconds, and after `close()`.

        Raises: WatchLost if a thread of the observer died.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            changes = self._dirty.take(min(deadline, self._schedule.next(self._summarize().polled)))
            if self._dirty.closed:
                return Batch()
            self._check_threads()
            self._check_roots(changes)
            paths = self._expand(changes)
            due = self._schedule.take()
            if paths or due or changes.poked or time.monotonic() >= deadline:
                return Batch(paths=paths, rescan=tuple(due), why=frozenset(due.values()))

    def scan(self, watched: WatchedRoot) -> Iterator[Found]:
        """Scan a root: iterate every regular file below it, and record the cost and the directories of the scan.

        The caller's work between two items counts as cost and delays the next scan: compare there, and read files
        afterwards.
        """
        stats = ScanStats()
        began = time.thread_time()
        yield from scan(watched.root, stats=stats)
        self._update_state(watched, stats)
        self._schedule.record_scan(watched, time.thread_time() - began)

    def add(self, roots: Sequence[WatchedRoot]) -> None:
        """Watch more roots. The next `wait()` asks for a scan of them."""
        new = tuple(watched for watched in dict.fromkeys(roots) if watched not in self._roots)
        self._roots += new
        self._schedule.add(new)
        self._rewatch()
        self._schedule.ask(RescanReason.FOUND, new)

    def states(self) -> tuple[RootState, ...]:
        """Return the state of each root, in the order given."""
        return self._summarize().listed

    def wake(self) -> None:
        """Make `wait()` return at once. Not for signal handlers: it takes a lock."""
        self._dirty.wake()

    def close(self) -> None:
        """Stop watching; a `wait()` in another thread returns."""
        self._dirty.close()
        with self._rewatching:
            self._adapter.close()

    def _summarize(self) -> _Summary:
        """Return values derived from the states. They are cached, because each change of a file needs them."""
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
            raise WatchLost(f"the {dead} of watchdog died", hint="restart sessiond: it scans everything first")

    def _check_roots(self, changes: Changes) -> None:
        """Add scans that are due by the clock, after lost events, and because directories appeared or vanished."""
        before, self._asleep = self._asleep, kernel.asleep()
        if changes.late or self._asleep - before > _SLEPT:
            self._schedule.ask(RescanReason.WAKE)
        if changes.lost:
            self._schedule.ask(RescanReason.OVERFLOW)
            self._covered.clear()  # watchdog has registered everything again, as far as it could
        self._schedule.tick(self._summarize().polled)
        # Each scan of everything resolves links again and retries refused watches.
        if changes.replan or (self._schedule.complete and not self._armed):
            self._rewatch()
        self._armed = False

    def _expand(self, changes: Changes) -> frozenset[str]:
        """Add the files below directories that appeared: they may be older than the watch."""
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
        """Watch the present targets, and ask for a scan of roots whose watch was interrupted."""
        with self._rewatching:
            if self._dirty.closed:
                return
            planned, fresh, refused = self._plan(), set[WatchTarget](), dict[WatchTarget, OSError]()
            while True:
                self._dirty.set_routes(planned.routes, planned.awaited)
                added, refused = self._adapter.watch(planned.targets)
                fresh |= added
                if not added:
                    break  # the existing watches report what appears meanwhile
                again = self._plan()
                if again.targets == planned.targets or refused:
                    break
                planned = again  # a directory appeared between the plan and its watch, without an event
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
            return before  # watched in part: only a scan shows whether that is over
        if target in fresh or state.mode is not before.mode:
            self._schedule.ask(RescanReason.FOUND, [watched])
        return replace(state, directories=before.directories, unreadable=before.unreadable)

    def _update_state(self, watched: WatchedRoot, stats: ScanStats) -> None:
        """Update the state after a scan: what it could not read, and whether all it read is watched."""
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
        """Compare the directories of a scan with those that the kernel watches."""
        directories = hash(frozenset(stats.directories))
        if state.mode is WatchMode.WATCHED and self._covered.get(state.watched) == directories:
            return state  # the check costs half a scan, and the same directories have the same watches
        unwatched = self._unwatched(target, stats)
        if unwatched and time.monotonic() >= self._retried.get(target, -math.inf) + self._retry:
            # The limit may be free again, or a directory was unreadable when it appeared.
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
        """Return the number of directories of a scan that have no watch."""
        if not self._adapter.holds(target):
            return len(stats.directories)
        inodes = kernel.watched_inodes()
        if inodes is None or target.inode not in inodes:
            return 0  # the kernel has other inodes than stat (some overlays); scans find the changes
        unwatched = 0
        for inode in stats.directories.keys() - inodes:
            try:
                # Checked again: it may be gone, and a mount point has another inode in its parent's listing.
                unwatched += os.stat(stats.directories[inode]).st_ino not in inodes
            except OSError:
                continue
        return unwatched

    def _renew(self, target: WatchTarget) -> None:
        """Register a tree again; watchdog ignores failures within it."""
        with self._rewatching:
            if not self._dirty.closed:
                self._adapter.forget(target)
                self._adapter.watch(set(self._coverage.values()))
        self._schedule.ask(
            RescanReason.FOUND, [watched for watched, cover in self._coverage.items() if cover == target]
        )
