"""The work queue: live changes first, a turn for every kind of work, and nothing is forgotten. No thread, no spool."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.backlog import Entry, Rank
from sessiond.daemon.retries import TORN_WAITS
from sessiond.daemon.throttle import READING, Throttle
from sessiond.daemon.work_queue import Lane, Reading, Work, WorkQueue
from sessiond.ingest import Location, Outcome, locate
from sessiond.sources import find_sources
from sessiond.sources.base import Root, UserDirs

PATHS = [f"/x/-home/5f1d7c1e-0000-4000-8000-{number:012}.jsonl" for number in range(6)]
SOURCE = next(source for source in find_sources() if source.tool == "claude-code")
DONE = Outcome(read=10, changed=True)
SLICE = Outcome(read=10, changed=True, more=True)
SEARCH = Outcome(searched=10, more=True)


class Gate(Throttle):
    """A throttle that is opened and closed by the test."""

    def __init__(self) -> None:
        super().__init__(READING)
        self.open = True

    def allows(self) -> bool:
        return self.open

    def pause_left(self) -> float:
        return 0.0 if self.open else 30.0

    def seconds_until_open(self) -> float:
        return self.pause_left()


class Queue:
    """A queue without waiting streams or idle sessions, and a clock."""

    def __init__(self) -> None:
        self.gate, self.now = Gate(), 1000.0
        self.queue = WorkQueue(self.gate)
        self.queue.streams_wait = False
        self.queue.idle_due = math.inf

    def next(self) -> Work:
        """Return the next piece of work, which must exist."""
        work = self.queue.next(self.now)
        assert isinstance(work, Work)
        return work

    def read(self, outcome: Outcome = DONE, limit: int = 100) -> tuple[Lane, list[str]]:
        """Do the next piece of work, with this outcome for up to `limit` entries; return what was read."""
        work = self.next()
        readings = [read(entry, outcome) for entry, _ in zip(work.entries, range(limit), strict=False)]
        self.queue.finish(work, readings, self.now)
        return work.lane, [reading.entry.path for reading in readings]

    def backlog(self, rank: Rank, *paths: str) -> None:
        """Add files that a scan found; the last one is the newest."""
        self.queue.backlog.add(Entry(rank, number, path, 1) for number, path in enumerate(paths))


def read(entry: Entry, outcome: Outcome) -> Reading:
    return Reading(entry, [(location(entry.path), outcome)])


def location(path: str) -> Location:
    (found,) = locate([(SOURCE, Root(path="/x"))], path)
    return found


def test_an_idle_queue_waits_for_an_event() -> None:
    assert Queue().queue.next(0.0) is None


def test_the_first_round_ends_idle_sessions_though_nothing_changed() -> None:
    """Sessions may have fallen idle while no daemon ran."""
    queue = WorkQueue(Gate())
    queue.streams_wait = False
    work = queue.next(0.0)
    assert isinstance(work, Work)
    assert work.lane is Lane.END


def test_each_kind_has_its_turn_and_live_changes_come_first() -> None:
    made = Queue()
    made.backlog(Rank.OLD, PATHS[0], PATHS[1])
    made.queue.add([PATHS[2], PATHS[3]])
    assert made.read(SLICE) == (Lane.LIVE, [PATHS[2], PATHS[3]])
    made.queue.add([PATHS[4]])  # during the round: it is read in the next one
    assert made.read(SLICE) == (Lane.UNFINISHED, [PATHS[2]])
    assert made.read(limit=1) == (Lane.BACKLOG, [PATHS[1]])
    assert made.read() == (Lane.END, [])
    assert made.read() == (Lane.LIVE, [PATHS[4]])
    assert made.read() == (Lane.UNFINISHED, [PATHS[3]]), "the unfinished files take turns"
    assert made.read() == (Lane.BACKLOG, [PATHS[0]])
    assert made.read() == (Lane.END, [])
    assert made.read() == (Lane.UNFINISHED, [PATHS[2]])
    assert made.read() == (Lane.END, [])
    assert made.queue.next(made.now) is None


def test_one_commit_reads_no_more_than_it_may_and_the_rest_follows_at_once() -> None:
    made = Queue()
    made.queue.add(PATHS[:3])
    assert made.read(limit=2) == (Lane.LIVE, PATHS[:2])
    assert made.read(limit=2) == (Lane.LIVE, [PATHS[2]])
    assert made.read() == (Lane.END, [])


def test_a_path_that_changes_before_its_turn_is_read_once() -> None:
    made = Queue()
    made.queue.add(PATHS[:2])
    made.read(limit=1)
    made.queue.add(PATHS[:2])
    assert made.read() == (Lane.LIVE, [PATHS[1]])
    assert made.read() == (Lane.END, [])
    assert made.read() == (Lane.LIVE, [PATHS[0]])
    assert made.read() == (Lane.END, [])
    assert made.queue.next(made.now) is None


def test_only_old_files_are_throttled() -> None:
    made = Queue()
    made.gate.open = False
    made.backlog(Rank.OLD, PATHS[0])
    made.backlog(Rank.RECENT, PATHS[1])
    made.backlog(Rank.CHANGED, PATHS[2])
    assert not made.queue.backlog.old
    assert made.read() == (Lane.BACKLOG, [PATHS[2], PATHS[1]])
    assert made.read() == (Lane.END, [])
    assert made.queue.next(made.now) == 30.0
    made.queue.add([PATHS[3]])
    assert made.read() == (Lane.LIVE, [PATHS[3]])
    assert made.read() == (Lane.END, [])
    made.gate.open = True
    work = made.next()
    assert (work.throttled, [entry.path for entry in work.entries]) == (True, [PATHS[0]])


def test_waiting_streams_are_read_when_the_backlog_is_not() -> None:
    """Streams that wait for room are read if there is no backlog, or while the throttle pauses it."""
    made = Queue()
    made.queue.streams_wait = True
    made.backlog(Rank.RECENT, PATHS[0])
    assert made.read() == (Lane.BACKLOG, [PATHS[0]])
    assert made.read() == (Lane.END, [])
    assert made.next().lane is Lane.STREAMS
    assert made.next().lane is Lane.END
    made.gate.open = False
    assert made.queue.next(made.now) == 30.0
    made.queue.stuck.add(1)
    made.queue.streams_wait = False
    made.queue.retry_streams()
    assert (made.queue.streams_wait, made.queue.stuck) == (True, set())


def test_the_search_for_the_end_of_a_record_comes_last() -> None:
    """Rule 9: a long file of the backlog whose last record has no end delays no other."""
    made = Queue()
    made.backlog(Rank.OLD, *PATHS[:3])
    assert made.read(SEARCH, limit=1) == (Lane.BACKLOG, [PATHS[2]])
    made.read()
    assert made.read(limit=1) == (Lane.BACKLOG, [PATHS[1]])
    made.read()
    assert made.read(limit=1) == (Lane.BACKLOG, [PATHS[0]])
    made.read()
    assert made.read() == (Lane.BACKLOG, [PATHS[2]])
    assert (len(made.queue.backlog), made.queue.backlog.size) == (0, 0)


def test_a_long_file_of_the_backlog_stays_the_first_of_it() -> None:
    made = Queue()
    made.backlog(Rank.OLD, *PATHS[:2])
    for _ in range(3):
        assert made.read(SLICE, limit=1) == (Lane.BACKLOG, [PATHS[1]])
        assert made.read() == (Lane.END, [])
    assert made.read() == (Lane.BACKLOG, [PATHS[1], PATHS[0]])


def test_a_file_found_in_a_rewrite_is_due_again_until_it_is_whole() -> None:
    made = Queue()
    made.queue.add(PATHS[:1])
    torn = Outcome(retry=True, trouble="it is being rewritten")
    for wait in (*TORN_WAITS, TORN_WAITS[-1]):
        assert made.read(torn) == (Lane.LIVE, PATHS[:1])
        assert made.read() == (Lane.END, [])
        assert made.queue.next(made.now) == wait
        made.now += wait
    assert made.read() == (Lane.LIVE, PATHS[:1])
    assert made.read() == (Lane.END, [])
    assert made.queue.next(made.now) is None


def test_a_torn_file_that_no_source_owns_any_more_is_forgotten() -> None:
    """If it stayed, it would always be due and the loop would spin."""
    made = Queue()
    made.queue.add(PATHS[:1])
    made.read(Outcome(retry=True))
    made.read()
    made.now += TORN_WAITS[0]
    work = made.next()
    made.queue.finish(work, [Reading(entry) for entry in work.entries], made.now)
    assert made.read() == (Lane.END, [])
    assert made.queue.next(made.now) is None


def test_other_files_of_an_excluded_session_follow_once_one_is_captured() -> None:
    made = Queue()
    first, second = "/x/-home/5f1d7c1e-0000-4000-8000-000000000001.jsonl", PATHS[2]
    made.backlog(Rank.OLD, first, second)
    made.read(Outcome(left_out=True))
    assert (len(made.queue.postponed.excluded), made.queue.postponed.excluded.size) == (2, 2)
    made.read()
    assert made.queue.next(made.now) is None
    made.queue.add([first])
    made.read()
    assert len(made.queue.postponed.excluded) == 1, "it was a session of its own"


def test_a_round_ends_when_a_session_may_be_idle() -> None:
    made = Queue()
    made.queue.idle_due = made.now + 60
    assert made.queue.next(made.now) == 60.0
    made.now += 60
    assert made.read() == (Lane.END, [])


def test_at_the_end_of_the_process_only_live_changes_are_read() -> None:
    made = Queue()
    made.backlog(Rank.CHANGED, PATHS[0])
    made.queue.add(PATHS[1:3])
    assert made.read(SLICE, limit=1) == (Lane.LIVE, [PATHS[1]])
    made.queue.add(PATHS[3:4])
    work = made.queue.next_live()
    assert work is not None
    readings = [read(entry, SLICE) for entry in work.entries]
    assert {reading.entry.path for reading in readings} == set(PATHS[2:4])
    made.queue.finish(work, readings, made.now)
    assert made.queue.next_live() is None


CHANGES = st.lists(st.sampled_from(PATHS), max_size=4)
STEPS = st.lists(st.tuples(CHANGES, st.sampled_from((DONE, SLICE, SEARCH)), st.booleans(), st.integers(1, 3)))


@given(steps=STEPS, old=st.sets(st.sampled_from(PATHS)), recent=st.sets(st.sampled_from(PATHS)))
def test_no_path_is_forgotten_and_none_waits_longer_than_a_round(
    steps: Iterable[tuple[list[str], Outcome, bool, int]], old: set[str], recent: set[str]
) -> None:
    """This holds for random changes and outcomes, and when commits fail because the disk is full."""
    made, waiting = Queue(), old | recent
    made.backlog(Rank.OLD, *sorted(old))
    made.backlog(Rank.RECENT, *sorted(recent))
    for changes, outcome, full, limit in steps:
        made.queue.add(changes)
        waiting |= set(changes)
        work = made.queue.next(made.now)
        if not isinstance(work, Work):
            assert not waiting
        elif full:
            made.queue.restart()
        else:
            readings = commit(work, outcome, limit)
            made.queue.finish(work, readings, made.now)
            waiting -= {reading.entry.path for reading in readings if not reading.more}
    lanes = list[Lane]()
    while isinstance(work := made.queue.next(made.now), Work):
        readings = commit(work, DONE, limit=2)
        made.queue.finish(work, readings, made.now)
        waiting -= {reading.entry.path for reading in readings}
        lanes.append(work.lane)
        if work.lane is Lane.END:
            assert lanes == sorted(lanes), "live, unfinished, backlog, end"
            assert all(count == 1 for lane, count in Counter(lanes).items() if lane is not Lane.LIVE)
            lanes = []
        assert len(lanes) <= 2 * len(PATHS)
    assert waiting == set()
    assert not made.queue.has_live
    assert (len(made.queue.backlog), made.queue.backlog.size) == (0, 0)


def commit(work: Work, outcome: Outcome, limit: int) -> list[Reading]:
    """Read what one commit has, as the capture loop does."""
    readings = list[Reading]()
    for entry in work.entries:
        readings.append(read(entry, outcome))
        if len(readings) == limit or readings[-1].stays_first:
            break
    return readings


def test_a_side_file_is_read_again_once_its_session_is_captured() -> None:
    """Until then its tool and bytes are counted. A session of another name changes nothing."""
    made, session = Queue(), "5f1d7c1e-0000-4000-8000-000000000001"
    side = f"/x/-home/{session}/tool-results/toolu_01.txt"
    made.backlog(Rank.OLD, side)
    made.read(Outcome(sessionless=True))
    sessionless = made.queue.postponed.sessionless
    assert (sessionless.counts(), sessionless.size) == ({"claude-code": 1}, 1)
    entry = Entry(Rank.CHANGED, 0, PATHS[1], 0)
    made.queue.finish(Work(Lane.LIVE), [read(entry, Outcome(read=10, sessions=frozenset(["another"])))], made.now)
    assert side not in made.queue
    made.queue.finish(Work(Lane.LIVE), [read(entry, Outcome(read=10, sessions=frozenset([session])))], made.now)
    assert side in made.queue
    assert (sessionless.counts(), sessionless.size) == ({}, 0)


def test_a_side_file_is_found_by_the_name_that_a_record_mentions() -> None:
    """A side file's path need not name its session."""
    made = Queue()
    tool = next(source for source in find_sources() if source.tool == "opencode")
    root = next(root for root in tool.roots(UserDirs(home="/h", environ={}, platform="linux")) if root.side)
    side = f"{root.path}/tool_01"
    (place,) = locate([(tool, root)], side)
    made.queue.postponed.note(place, Outcome(sessionless=True), 7)
    (database,) = locate([(tool, Root(path="/h"))], "/h/opencode.db")
    made.queue.postponed.note(database, Outcome(mentions=frozenset(["tool_02"])), 9)
    assert made.queue.postponed.take() == set()
    made.queue.postponed.note(database, Outcome(mentions=frozenset(["tool_01"])), 9)
    assert made.queue.postponed.take() == {side}
