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
from sessiond.watch.observation import Observation
from sessiond.watch.plan import Breadth, Plan, Spot, plan
from sessiond.watch.roots import Batch, How, State, WatchedRoot, Why
from sessiond.watch.rounds import Rounds
from sessiond.watch.scan import Census, Found, scan

_MOST = 50_000
_SLEPT = 1.0
_SHOWN = 5


class _Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from the states of all roots, which are replaced as a whole."""

    states: dict[WatchedRoot, State]
    listed: tuple[State, ...] = ()
    polled: list[WatchedRoot] = []


class Watcher:
    """Watches roots from `start()` to `close()`.

    `start()`, `wait()`, `scan()` and `add()` belong to one thread; `poke()`, `states()` and `close()` to any.
    In seconds: `rescan` between two looks at every root, `poll` between two at a root without events,
    `settle` without a change before changes are handed over, `patience` that they are held back at most.
    `most` paths are named in a batch, past that everything is looked at. `mounts` is the table of mounted
    filesystems (proc(5), mountinfo).
    """

    def __init__(
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
        self._rounds = Rounds(self._roots, rescan, poll)
        self._observation = Observation(self._dirty.note, self._dirty.lose)
        self._arming = threading.Lock()
        self._covers: dict[WatchedRoot, Spot] = {}
        self._states: dict[WatchedRoot, State] = {}
        self._summary = _Summary(states=self._states)
        self._covered: dict[WatchedRoot, int] = {}
        self._retried: dict[Spot, float] = {}
        self._asleep = kernel.asleep()
        self._armed = False
        """Whether the first look at everything comes, right after all was planned for it."""

    def start(self) -> None:
        """Watch what there is; the first `wait()` then asks for a look at every root."""
        # Watch first, look second: what changes in between is seen twice, not never.
        self._arm()
        self._armed = True
        self._rounds.ask(Why.START)

    def wait(self, timeout: float | None = None) -> Batch:
        """Block until changes have settled or roots are due for a look, and say which.

        The batch is empty after a poke, after `timeout` seconds, and after `close()`.

        Raises: WatchLost if a thread of the observer died.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            changes = self._dirty.take(min(deadline, self._rounds.next(self._summed().polled)))
            if self._dirty.closed:
                return Batch()
            self._check_threads()
            self._check_roots(changes)
            paths = self._expand(changes)
            due = self._rounds.take()
            if paths or due or changes.poked or time.monotonic() >= deadline:
                return Batch(paths=paths, rescan=tuple(due), why=frozenset(due.values()))

    def scan(self, watched: WatchedRoot) -> Iterator[Found]:
        """Look at a root: yield every regular file below it, and learn what the look costs and covers.

        What is done between two items counts as its cost, and the next rescan is put off accordingly: compare
        there, and read files afterwards.
        """
        census = Census()
        began = time.thread_time()
        yield from scan(watched.root, census=census)
        self._judge(watched, census)
        self._rounds.looked(watched, time.thread_time() - began)

    def add(self, roots: Sequence[WatchedRoot]) -> None:
        """Watch more roots from now on; the next `wait()` asks for a look at them."""
        new = tuple(watched for watched in dict.fromkeys(roots) if watched not in self._roots)
        self._roots += new
        self._rounds.add(new)
        self._arm()
        self._rounds.ask(Why.FOUND, new)

    def states(self) -> tuple[State, ...]:
        """Say of each root how it is watched, in the order given."""
        return self._summed().listed

    def poke(self) -> None:
        """Let `wait()` return at once; not for signal handlers, since it takes a lock."""
        self._dirty.poke()

    def close(self) -> None:
        """End watching; a `wait()` in another thread returns."""
        self._dirty.close()
        with self._arming:
            self._observation.close()

    def _summed(self) -> _Summary:
        """Sum up the states, once for each change of them: it is asked for with every change of a file."""
        if self._summary.states is not self._states:
            states = self._states
            self._summary = _Summary(
                states=states,
                listed=tuple(states[watched] for watched in self._roots if watched in states),
                polled=[watched for watched, state in states.items() if state.how is How.POLLED],
            )
        return self._summary

    def _check_threads(self) -> None:
        with self._arming:
            dead = self._observation.dead()
        if dead is not None:
            raise WatchLost(f"the {dead} of watchdog died", hint="start sessiond again: it looks at everything first")

    def _check_roots(self, changes: Changes) -> None:
        """Find what is due by the clock, after lost events, and because directories came or went."""
        before, self._asleep = self._asleep, kernel.asleep()
        if changes.late or self._asleep - before > _SLEPT:
            self._rounds.ask(Why.WAKE)
        if changes.lost:
            self._rounds.ask(Why.OVERFLOW)
            self._covered.clear()  # watchdog has registered everything anew, as far as it got
        self._rounds.tick(self._summed().polled)
        # With a look at everything, links are resolved again and refused watches tried again.
        if changes.replan or (self._rounds.complete and not self._armed):
            self._arm()
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
                    self._rounds.ask(Why.OVERFLOW)
                    return frozenset()
        return frozenset(paths)

    def _arm(self) -> None:
        """Watch where the roots are now; ask for a look at those that were not watched without a break."""
        with self._arming:
            if self._dirty.closed:
                return
            planned, fresh, refused = self._plan(), set[Spot](), dict[Spot, OSError]()
            while True:
                self._dirty.expect(planned.routes, planned.awaited)
                added, refused = self._observation.watch(planned.spots)
                fresh |= added
                if not added:
                    break  # what was watched before tells of whatever appears meanwhile
                again = self._plan()
                if again.spots == planned.spots or refused:
                    break
                planned = again  # a directory appeared between the plan and its watch: no event told of it
        self._covers = planned.covers
        self._states = {
            watched: self._next_state(watched, state, fresh, refused) for watched, state in planned.states.items()
        }

    def _plan(self) -> Plan:
        return plan(self._roots, kernel.Mounts(self._mounts))

    def _next_state(self, watched: WatchedRoot, state: State, fresh: set[Spot], refused: dict[Spot, OSError]) -> State:
        before, spot = self._states.get(watched), self._covers.get(watched)
        if spot in refused:
            detail, hint = kernel.limit(refused[spot])
            how = How.POLLED if state.how is How.WATCHED else state.how
            state = replace(state, how=how, detail=detail, hint=hint)
        if before is None:
            return state
        if state.how is How.WATCHED and before.how is How.POLLED and spot not in fresh:
            return before  # watched in part: only a look tells whether that is over
        if spot in fresh or state.how is not before.how:
            self._rounds.ask(Why.FOUND, [watched])
        return replace(state, directories=before.directories, unreadable=before.unreadable)

    def _judge(self, watched: WatchedRoot, census: Census) -> None:
        """Take over from a look what it could not read, and whether all that it read is watched."""
        state = replace(
            self._states[watched],
            directories=len(census.directories),
            unreadable=tuple(census.unreadable[:_SHOWN]),
        )
        spot = self._covers.get(watched)
        present = state.how in (How.WATCHED, How.POLLED)
        if present and spot is not None and spot.breadth is Breadth.TREE and self._observation.holds(spot):
            state = self._judge_tree(spot, census, state)
        self._states = {**self._states, watched: state}

    def _judge_tree(self, spot: Spot, census: Census, state: State) -> State:
        """Compare the directories of a look with those that the kernel watches."""
        directories = hash(frozenset(census.directories))
        if state.how is How.WATCHED and self._covered.get(state.watched) == directories:
            return state  # asking costs half a look, and the same directories have the same watches
        deaf = self._unwatched(spot, census)
        if deaf and time.monotonic() >= self._retried.get(spot, -math.inf) + self._retry:
            # Perhaps there is room again, or a directory was unreadable when it appeared.
            self._retried[spot] = time.monotonic()
            self._renew(spot)
            deaf = self._unwatched(spot, census)
        if deaf:
            self._covered.pop(state.watched, None)
            detail, hint = kernel.watch_limit()
            detail = f"{deaf} of {state.directories} directories have no watch, {detail}"
            return replace(state, how=How.POLLED, detail=detail, hint=hint)
        self._covered[state.watched] = directories
        return replace(state, how=How.WATCHED, detail="", hint="")

    def _unwatched(self, spot: Spot, census: Census) -> int:
        """Count the directories of a look that have no watch."""
        if not self._observation.holds(spot):
            return len(census.directories)
        inodes = kernel.watched_inodes()
        if inodes is None or spot.inode not in inodes:
            return 0  # the kernel names them otherwise than stat does (some overlays); the rescan is there
        deaf = 0
        for inode in census.directories.keys() - inodes:
            try:
                # Asked again: it may be gone, and a mount point has another inode in its parent's listing.
                deaf += os.stat(census.directories[inode]).st_ino not in inodes
            except OSError:
                continue
        return deaf

    def _renew(self, spot: Spot) -> None:
        """Register a tree again, which watchdog does silently as far as it gets."""
        with self._arming:
            if not self._dirty.closed:
                self._observation.forget(spot)
                self._observation.watch(set(self._covers.values()))
        self._rounds.ask(Why.FOUND, [watched for watched, cover in self._covers.items() if cover == spot])
