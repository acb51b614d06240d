"""The work queue: decides what is captured next."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum
from itertools import takewhile
from typing import NamedTuple

from sessiond.daemon.backlog import Backlog, Entry, Rank
from sessiond.daemon.postponed import Postponed
from sessiond.daemon.retries import Retries
from sessiond.daemon.throttle import Throttle
from sessiond.ingest import Location, Outcome


class Lane(IntEnum):
    """The kinds of work, in the order of a round."""

    LIVE = 0
    UNFINISHED = 1
    BACKLOG = 2
    STREAMS = 3
    END = 4


class Work(NamedTuple):
    """A piece of work: the entries to read before the queue is asked again, or the end of a round."""

    lane: Lane
    entries: Iterable[Entry] = ()
    """What to read, the first one first, until enough was read."""
    throttled: bool = False
    """Whether its CPU time counts for the throttle."""
    single: bool = False
    """Whether there is only one entry, so that nothing can share its commit."""


class Reading(NamedTuple):
    """The outcome of reading an entry, for each location of its path."""

    entry: Entry
    outcomes: Sequence[tuple[Location, Outcome]] = ()

    @property
    def size(self) -> int:
        """The bytes that were read."""
        return sum(outcome.read + outcome.searched for _, outcome in self.outcomes)

    @property
    def more(self) -> bool:
        """Whether only a slice was read."""
        return any(outcome.more for _, outcome in self.outcomes)

    @property
    def only_searched(self) -> bool:
        """Whether the slice only searched for the end of a record."""
        return any(outcome.more and not outcome.read for _, outcome in self.outcomes)

    @property
    def stays_first(self) -> bool:
        """Whether the next slice follows before the rest of the backlog."""
        return self.more and not self.only_searched and self.entry.rank is Rank.OLD


class WorkQueue:
    """Decides what is captured next. Only the capture thread uses it. It does no I/O and needs no spool.

    The kinds of work, the most urgent first:

    1. *Live*: all paths for which an event reported a change. Files found in the middle of a rewrite join them when
       they are due again (`Retries`). So do files that `backfill` left out, and side files, once another file of their
       session is captured (`Postponed`).
    2. *Unfinished*: the next slice of one long file. These files take turns.
    3. *Backlog*: a part of the files that a scan found, in this order: files that changed since they were read; files
       written within the last hour, or soon deleted by their tool; all others, the newest first. Only the last kind is
       throttled. Files that are still searched for the end of a record come at the end.
    4. *Streams*: if there is no backlog, or if the throttle holds it back: streams that wait for room in the outbox, or
       whose bytes the endpoint lacks.
    5. *End*: after other work, and when a session may have become idle: end idle sessions, report the state.

    A round consists of all live paths that were queued at its beginning, at most one piece of each other kind, and the
    end. So no kind waits longer than one round, however fast files change. An entry stays queued until its commit is
    confirmed (`finish`), so that a full disk loses nothing.
    """

    def __init__(self, throttle: Throttle) -> None:
        self.throttle = throttle
        self._live: dict[str, None] = {}
        """Paths for the next round."""
        self._round: dict[str, None] = {}
        """The live paths of this round that are still to be read."""
        self._unfinished: dict[str, None] = {}
        self.backlog = Backlog()
        self.retries = Retries()
        self.postponed = Postponed()
        self.streams_wait = True
        """Whether there may be streams that wait for room in the outbox, or whose bytes the endpoint lacks."""
        self.stuck: set[int] = set()
        """Waiting streams that could not be read further. They are skipped until the next scan."""
        self.idle_due = -math.inf
        """When a session may have become idle (monotonic seconds)."""
        self._lane = Lane.LIVE
        """The first kind of work that may still follow in this round."""
        self._worked = False
        """Whether anything was done in this round."""

    @property
    def has_live(self) -> bool:
        """Whether changed or unfinished files are queued."""
        return bool(self._live or self._round or self._unfinished)

    def __contains__(self, path: str) -> bool:
        return path in self._live or path in self._round or path in self._unfinished

    def add(self, paths: Iterable[str]) -> None:
        """Add live paths."""
        self._live |= dict.fromkeys(path for path in paths if path not in self._round)

    def retry_streams(self) -> None:
        """Try the streams that are stuck again."""
        self.streams_wait |= bool(self.stuck)
        self.stuck.clear()

    def add_change(self, path: str, unit: str, now: float) -> None:
        """Add a path that changed, or postpone it if its unit is large and was read just now."""
        if not self.retries.rests(path, unit, now):
            self.add([path])

    def next(self, now: float) -> Work | float | None:
        """Return the next piece of work; without one the seconds until there may be one, or None: until an event.

        `now` is in monotonic seconds.
        """
        self.add(self.retries.due(now))
        if not self._worked:
            self._round, self._live = self._live, {}
        lane = self._next_lane(now)
        if lane is None:
            return self.seconds_left(now)
        self._worked = lane is not Lane.END
        self._lane = _FOLLOWING[lane]
        return self._work(lane)

    def ends_round(self, now: float) -> bool:
        """Return whether nothing but the end of a round is left of it. The caller does that, and the next begins."""
        ended = self._worked and self._next_lane(now) is Lane.END
        if ended:
            self._lane, self._worked = Lane.LIVE, False
        return ended

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds until there may be work, 0 if there is some now; None: until an event."""
        if self._live or self._next_lane(now) is not None:
            return 0.0
        dues = [self.throttle.seconds_until_open()] if self.backlog else []
        dues += [self.throttle.pause_left()] if self.streams_wait else []
        dues += [due - now for due in (self.retries.next(), self.idle_due) if due < math.inf]
        return max(min(dues), 0.0) if dues else None

    def next_live(self) -> Work | None:
        """Return the next piece of live work, and of no other kind: at its end the process commits only that."""
        self.restart()
        self._round, self._live = self._live, {}
        return self._work(Lane.LIVE) if self._round else None

    def restart(self) -> None:
        """Begin a new round, because a commit failed: a line may still fit on the disk where the backlog does not."""
        self._lane, self._worked = Lane.LIVE, False
        self._live, self._round = {**self._round, **self._live}, {}

    def finish(self, work: Work, readings: Collection[Reading], now: float) -> None:
        """Confirm that a commit is on the disk: remove what was read from the queue, or queue its next slice."""
        for reading in readings:
            self._settle(work.lane, reading, now)
        if work.lane is Lane.BACKLOG:
            self.backlog.drop(len(readings) - sum(self._stays_first(reading) for reading in readings))
        self.add(self.postponed.take())

    def _settle(self, lane: Lane, reading: Reading, now: float) -> None:
        entry = reading.entry
        if lane is Lane.LIVE:
            self._round.pop(entry.path, None)
        elif lane is Lane.UNFINISHED:
            self._unfinished.pop(entry.path, None)
        if not reading.outcomes:
            self.retries.forget(entry.path)
        for location, outcome in reading.outcomes:
            self.postponed.note(location, outcome, entry.size)
            self.retries.note(entry.path, location, outcome, now)
        if not reading.more or self._stays_first(reading):
            return
        if entry.rank is Rank.OLD and entry.path not in self:
            self.backlog.put_last(entry)  # rule 9: the search through one file delays no other
        else:
            self._unfinished[entry.path] = None  # at the end of the turns

    def _stays_first(self, reading: Reading) -> bool:
        return reading.stays_first and reading.entry.path not in self

    def _next_lane(self, now: float) -> Lane | None:
        """Return the kind of work that is next in this round; None if there is none."""
        first = self._lane
        if first == Lane.LIVE and self._round:
            return Lane.LIVE
        if first <= Lane.UNFINISHED and self._unfinished:
            return Lane.UNFINISHED
        if first <= Lane.BACKLOG and self.backlog and (not self.backlog.old or self.throttle.allows()):
            return Lane.BACKLOG
        if first <= Lane.STREAMS and self.streams_wait and not self.throttle.pause_left():
            return Lane.STREAMS
        return Lane.END if self._worked or self.idle_due <= now else None

    def _work(self, lane: Lane) -> Work:
        if lane is Lane.LIVE:
            entries = (Entry(Rank.CHANGED, 0, path, 0) for path in self._round)
            return Work(lane, entries, single=len(self._round) == 1)
        if lane is Lane.UNFINISHED:
            return Work(lane, (Entry(Rank.CHANGED, 0, next(iter(self._unfinished)), 0),))
        if lane is not Lane.BACKLOG:
            return Work(lane)
        if self.backlog.old:
            return Work(lane, self.backlog.newest(), throttled=True)
        return Work(lane, takewhile(lambda entry: entry.rank is not Rank.OLD, self.backlog.newest()))


_FOLLOWING = {
    Lane.LIVE: Lane.LIVE,  # until all of this round are read
    Lane.UNFINISHED: Lane.BACKLOG,
    Lane.BACKLOG: Lane.END,
    Lane.STREAMS: Lane.END,
    Lane.END: Lane.LIVE,
}
