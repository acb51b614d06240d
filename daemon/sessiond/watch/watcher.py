"""The watcher: reports changes below the roots, and when to scan them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from sessiond.errors import WatchLost
from sessiond.watch import kernel
from sessiond.watch.coverage import CoverageCheck, count_unwatched
from sessiond.watch.dirty import Changes, Dirty
from sessiond.watch.no_events import NoEvents
from sessiond.watch.rescan_schedule import RescanSchedule
from sessiond.watch.roots import Batch, RescanReason, RootState, WatchedRoot, WatchMode
from sessiond.watch.scan import Found, ScanStats, scan
from sessiond.watch.targets import WatchPlan, WatchScope, WatchTarget, plan_watches

if TYPE_CHECKING:
    from sessiond.watch.watchdog_adapter import WatchdogAdapter

_SLEPT = 1.0
_SHOWN = 5


class WatchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a watcher. Times are in seconds."""

    events: bool = True
    """Whether to watch the roots. Otherwise only scans find changes."""
    rescan: float = 60.0
    """Seconds between two scans of every root."""
    poll: float = 5.0
    """Seconds between two scans of a root without events."""
    settle: float = 0.2
    """Seconds without a change until changes are reported."""
    patience: float = 1.0
    """The longest delay of a change."""
    most: int = 50_000
    """Paths that a batch lists; beyond that everything is scanned."""
    mounts: str = kernel.MOUNTS
    """The table of mounted filesystems (proc(5), mountinfo)."""


class _Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Values derived from the states of all roots."""

    states: dict[WatchedRoot, RootState]
    listed: tuple[RootState, ...] = ()
    polled: list[WatchedRoot] = []


class Watcher:
    """Watches roots from `start()` to `close()`.

    `start()`, `wait()`, `scan()` and `add()` belong to one thread; `wake()`, `states()` and `close()` to any.
    """

    def __init__(self, roots: Sequence[WatchedRoot], options: WatchOptions | None = None) -> None:
        options = options or WatchOptions()
        self._options = options
        self._roots = tuple(dict.fromkeys(roots))
        self._dirty = Dirty(options.settle, options.patience, options.most)
        self._schedule = RescanSchedule(self._roots, options.rescan, options.poll)
        self._adapter = self._open_adapter() if options.events else NoEvents()
        self._rewatching = threading.Lock()
        self._coverage: dict[WatchedRoot, WatchTarget] = {}
        self._check = CoverageCheck(retry=options.rescan)
        self._states: dict[WatchedRoot, RootState] = {}
        self._summary = _Summary(states=self._states)
        self._asleep = kernel.asleep()
        self._armed = False
        """Whether the next scan of everything is the first one, for which the watches are new."""

    def _open_adapter(self) -> WatchdogAdapter:
        from sessiond.watch.watchdog_adapter import WatchdogAdapter  # late: `sync` scans once, and watches nothing

        return WatchdogAdapter(self._dirty.add_event, self._dirty.mark_overflow)

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

    def scan(self, watched: WatchedRoot, stats: ScanStats | None = None) -> Iterator[Found]:
        """Scan a root: iterate every regular file below it, and record the cost and the directories of the scan.

        The caller's work between two items counts as cost and delays the next scan: compare there, and read files
        afterwards. `stats` receives the directories and links.
        """
        stats = stats or ScanStats()
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
            self._check.forget()  # watchdog has registered everything again, as far as it could
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
                if len(paths) > self._options.most:
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
                    break  # all watches existed before the plan, so they report what appeared since
                again = self._plan()
                if again.targets == planned.targets or refused:
                    break
                planned = again  # a directory appeared between the plan and its watch, without an event
        self._coverage = planned.coverage
        self._states = {
            watched: self._next_state(watched, state, fresh, refused) for watched, state in planned.states.items()
        }

    def _plan(self) -> WatchPlan:
        return plan_watches(self._roots, kernel.Mounts(self._options.mounts))

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
        elif state.detail == before.detail and state.hint == before.hint:
            return before
        return replace(state, directories=before.directories, unreadable=before.unreadable)

    def _update_state(self, watched: WatchedRoot, stats: ScanStats) -> None:
        """Update the state of a root after a scan: unreadable directories, and whether all others are watched."""
        state = replace(
            self._states[watched],
            directories=len(stats.directories),
            unreadable=tuple(stats.unreadable[:_SHOWN]),
        )
        target = self._coverage.get(watched)
        present = state.mode in (WatchMode.WATCHED, WatchMode.POLLED)
        if present and target is not None and target.scope is WatchScope.TREE and self._adapter.holds(target):
            state = self._check_coverage(target, stats, state)
        if state != self._states[watched]:  # a new dict, so that their summary is computed again
            self._states = {**self._states, watched: state}

    def _check_coverage(self, target: WatchTarget, stats: ScanStats, state: RootState) -> RootState:
        """Return the state of a root after comparing the directories of a scan with those that the kernel watches."""
        if self._check.is_known(state, stats):
            return state
        unwatched = self._count_unwatched(target, stats)
        if unwatched and self._check.may_retry(target):
            self._renew(target)
            unwatched = self._count_unwatched(target, stats)
        return self._check.conclude(state, stats, unwatched)

    def _count_unwatched(self, target: WatchTarget, stats: ScanStats) -> int:
        return count_unwatched(target, stats) if self._adapter.holds(target) else len(stats.directories)

    def _renew(self, target: WatchTarget) -> None:
        """Register a tree again; watchdog ignores failures within it."""
        with self._rewatching:
            if not self._dirty.closed:
                self._adapter.forget(target)
                self._adapter.watch(set(self._coverage.values()))
        self._schedule.ask(
            RescanReason.FOUND, [watched for watched, cover in self._coverage.items() if cover == target]
        )
