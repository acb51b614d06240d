"""The rules of a stream's position, on both sides in memory: no spool, no file, no server."""

from __future__ import annotations

import copy
import itertools
import uuid
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from sessiond.endpoint.wire import RemotePosition
from sessiond.errors import SpoolDamaged
from sessiond.ingest import reconcile_plan
from sessiond.ingest.position import Position, Queue, Run
from sessiond.ingest.reconcile_plan import (
    Action,
    Begin,
    ClearLosses,
    Confirm,
    CountLost,
    Drop,
    DropStart,
    Evidence,
    Fill,
    MoveTo,
    Renumber,
    Trust,
    plan_lost_gap,
    plan_reconcile,
    plan_without_source,
)

PLACEHOLDER = b"?"


def at(generation: int | None, data: bytes = b"") -> RemotePosition:
    """Return the position of an endpoint that holds these bytes in this generation."""
    digest = None if generation is None else sha256(data).hexdigest()
    return RemotePosition(
        session=uuid.UUID(int=1), stream="main", generation=generation, length=len(data), sha256=digest
    )


class Endpoint:
    """The endpoint's side of one stream, as in docs/protocol.md."""

    def __init__(self) -> None:
        self.generations: dict[int, bytes] = {}
        self.begun: dict[int, tuple[int | None, int]] = {}
        self.last: int | None = None
        """The last batch that was stored."""

    def position(self) -> RemotePosition:
        current = max(self.generations, default=None)
        return at(None) if current is None else at(current, self.generations[current])

    def append(self, generation: int, offset: int, data: bytes) -> bool:
        held = self.generations.get(generation, b"" if generation == 0 else None)
        if held is None or offset > len(held):
            return False
        if offset == len(held):
            self.generations[generation] = held + data
            return True
        return held[offset : offset + len(data)] == data

    def begin(self, generation: int, previous: int | None, keep: int) -> bool:
        if generation in self.generations:
            return self.begun.get(generation) == (previous, keep)
        held = b"" if previous is None or keep == 0 else self.generations.get(previous)
        if held is None or len(held) < keep or generation < max(self.generations, default=0):
            return False
        self.generations[generation], self.begun[generation] = held[:keep], (previous, keep)
        return True


class Spool:
    """The spool's side of one stream."""

    def __init__(self, *, known: bool = False) -> None:
        self.position = Position()
        self.captured = b""
        """The bytes that were read from the file; the product keeps their digests."""
        self.queue: dict[tuple[int, int, int], tuple[Any, ...]] = {}
        """By generation, offset and length: the bytes, or (previous, keep) of a start."""
        self.remote: RemotePosition | None = None
        self.known, self.lost, self.unproven = known, 0, False
        self.unconfirmed = 0
        """Bytes that the endpoint may have; its copy is compared with what was captured."""
        self.bound: int | None = None
        """The endpoint that answered last."""
        self.batches: set[int] = set()
        """The batches that were acknowledged."""
        self.acknowledged: dict[int, tuple[int, int]] = {}
        """By endpoint: the generation and length that it acknowledged before another one was used."""

    def change_endpoint(self, new: int, last: int | None) -> None:
        """Model Catalog.change_endpoint: what another endpoint acknowledged does not count here.

        `last` is the last batch that the endpoint stored. If this spool never pushed it, its numbers prove nothing.
        """
        here, old = self.position, self.bound
        self.known, self.remote, self.bound, self.unconfirmed = False, None, new, 0
        self.position = here = replace(here, gap=None)
        self.unproven |= last is not None and last not in self.batches
        if old == new:
            return
        if old is not None and here.acked and not self.lost:
            self.acknowledged[old] = (here.generation, here.acked)
        generation, acked = self.acknowledged.get(new, (-1, 0))
        self.position = replace(here, acked=min(here.folded, acked) if generation == here.generation else 0)
        self.unproven |= new not in self.acknowledged

    def runs(self) -> Queue:
        return Queue(sorted(self.queue))

    def add(self, generation: int, offset: int, data: bytes) -> None:
        if data:
            self.queue.setdefault((generation, offset, len(data)), (data,))

    def apply(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case MoveTo(to):
                    self.position = to
                case Drop(generation, until):
                    self.queue = {
                        key: item
                        for key, item in self.queue.items()
                        if key[0] != generation or (until is not None and key[1] + key[2] > until)
                    }
                case DropStart(generation):
                    self.queue = {key: item for key, item in self.queue.items() if (key[0], key[2]) != (generation, 0)}
                case Renumber(old, new):
                    moved = {(new if key[0] == old else key[0], *key[1:]): item for key, item in self.queue.items()}
                    assert len(moved) == len(self.queue), "two items have one number"
                    self.queue = moved  # type: ignore[assignment]
                case Begin(generation, previous, keep):
                    self.queue.setdefault((generation, keep, 0), (previous, keep))
                case Fill(generation, start, end):
                    self.add(generation, start, PLACEHOLDER * (end - start))
                case CountLost(_, start, end):
                    self.lost += end - start
                case Confirm(length):
                    self.unproven, self.unconfirmed = True, length
                case ClearLosses():
                    self.lost = 0

    def answered(self, remote: RemotePosition) -> None:
        """Model Streams.set_remote_position: what both sides know already needs no reconciling."""
        here, length = self.position, remote.length
        same = (here.generation, here.acked, here.folded, here.queued) == (remote.generation, length, length, length)
        self.known, self.unconfirmed = True, 0
        self.remote = None if same and not self.queue and not self.lost and not self.unproven else remote


def common_prefix(one: bytes, other: bytes) -> int:
    length = min(len(one), len(other))
    return next((index for index in range(length) if one[index] != other[index]), length)


class BothSides(RuleBasedStateMachine):
    """A file, a spool and endpoints that come and go. Afterwards the endpoint has exactly the file's bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.file: bytes | None = b""
        self.spool = Spool()
        self.endpoints = [Endpoint(), Endpoint()]
        self.current = 0
        self.spools: list[Spool] = []
        self.enabled = True
        """Whether the source is enabled. If not, captured bytes are read again and nothing else."""
        self.copies: list[Endpoint] = []
        self.gone = False
        """Whether a scan found the file missing since it was captured."""
        self.numbers = itertools.count()
        self.doubtful = True
        """Whether the next push finds that the two sides don't remember the same last batch."""

    # Actions of tools and the world

    @rule(data=st.binary(min_size=1, max_size=3).map(lambda data: bytes(97 + byte % 2 for byte in data)))
    def append(self, data: bytes) -> None:
        assume(self.file is not None)
        self.file = (self.file or b"") + data

    @rule(keep=st.integers(0, 6), data=st.sampled_from([b"a", b"b", b"ab", b"ba", b"abab"]))
    def rewrite(self, keep: int, data: bytes) -> None:
        self.file = (self.file or b"")[:keep] + data

    @rule()
    def delete(self) -> None:
        self.file = None

    @rule()
    def switch_the_source(self) -> None:
        self.enabled = not self.enabled

    @rule()
    def keep_copies(self) -> None:
        self.spools.append(copy.deepcopy(self.spool))
        self.copies.append(copy.deepcopy(self.endpoints[self.current]))

    @rule(which=st.integers(0, 2))
    def restore_the_spool(self, which: int) -> None:
        assume(self.spools)
        self.spool, self.doubtful = copy.deepcopy(self.spools[-1 - which % len(self.spools)]), True

    @rule()
    def lose_the_spool(self) -> None:
        self.spool, self.doubtful = Spool(), True

    @rule(which=st.integers(0, 2))
    def restore_the_endpoint(self, which: int) -> None:
        assume(self.copies)
        self.endpoints[self.current] = copy.deepcopy(self.copies[-1 - which % len(self.copies)])
        self.doubtful = True

    @rule()
    def empty_the_endpoint(self) -> None:
        self.endpoints[self.current], self.doubtful = Endpoint(), True

    @rule()
    def change_the_endpoint(self) -> None:
        self.current = 1 - self.current
        self.doubtful = True

    # Actions of the daemon

    @rule(space=st.booleans(), noticed=st.booleans())
    def capture(self, space: bool, noticed: bool = True) -> None:
        """Scan. A file may be gone and come back without being `noticed`, although its stream was read again."""
        spool = self.spool
        behind = spool.remote is not None or spool.position.queued < spool.position.folded or spool.position.gap
        if self.file is None or not self.enabled:
            self.gone |= self.file is None and (noticed or bool(behind))
            if self.file is None and behind:
                self.give_up()
            elif behind and space:
                self.read_again(self.file or b"")
            return
        here = spool.position
        given_up = spool.remote is None and not behind and (spool.lost > 0 or here.acked < here.folded)
        if given_up and (self.gone or spool.unproven):
            spool.known = False  # presence.ask_again
        self.gone = False
        kept = common_prefix(self.file, spool.captured)
        if kept == 0 and not self.file and spool.captured:
            return  # emptied: half of a rewrite
        if spool.remote is not None:
            self.reconcile(self.file)
        if kept < spool.position.folded:
            moved, shared, _ = spool.position.rewritten(kept)
            spool.queue.setdefault((moved.generation, shared, 0), (spool.position.generation, shared))
            spool.position, spool.captured, spool.unconfirmed = moved, spool.captured[:kept], 0
        spool.captured = self.file
        here = replace(spool.position, folded=len(self.file))
        if space:
            for start, end in (here.gap, (here.queued, here.folded)) if here.gap else ((here.queued, here.folded),):
                spool.add(here.generation, start, self.file[start:end])
            here = replace(here, queued=here.folded, gap=None)
        spool.position = here

    def read_again(self, file: bytes) -> None:
        """Queue what is missing as far as the file still has it, as ingest/catch_up.py does."""
        spool = self.spool
        if spool.remote is not None:
            self.reconcile(file)
        here = spool.position
        for start, end in (here.gap or (0, 0), (here.queued, here.folded)):
            if file[start:end] != spool.captured[start:end]:
                self.give_up()
                return
            spool.add(here.generation, start, file[start:end])
        spool.position = replace(here, queued=here.folded, gap=None)

    def reconcile(self, file: bytes) -> None:
        spool = self.spool
        remote = spool.remote
        assert remote is not None
        evidence = Evidence(
            same=lambda it: (
                it.length <= spool.position.folded
                and file[: it.length] == spool.captured[: it.length]
                and sha256(file[: it.length]).hexdigest() == it.sha256
            ),
            unchanged=lambda: file.startswith(spool.captured),
        )
        trust = Trust(lost=spool.lost > 0, unproven=spool.unproven)
        spool.remote, spool.unproven, spool.unconfirmed = None, False, 0
        spool.apply(plan_reconcile(spool.position, spool.runs(), remote, trust, evidence))

    def give_up(self) -> None:
        spool = self.spool
        remote, trust = spool.remote, Trust(lost=spool.lost > 0, unproven=spool.unproven)
        spool.remote, spool.unproven, spool.unconfirmed = None, False, 0
        if remote is None:
            spool.apply(plan_lost_gap(spool.position, spool.runs()))
        else:
            spool.apply(plan_without_source(spool.position, spool.runs(), remote, trust))

    @rule(items=st.integers(1, 3))
    def push(self, items: int) -> None:
        spool, endpoint = self.spool, self.endpoints[self.current]
        if self.doubtful:
            spool.change_endpoint(self.current, endpoint.last)
            self.doubtful = False
        if not spool.known:
            spool.answered(endpoint.position())
        for key in sorted(spool.queue)[:items]:
            if spool.remote is not None:
                return
            generation, offset, length = key
            here, item = spool.position, spool.queue[key]
            if here.gap is not None and generation == here.generation and offset >= here.gap[0]:
                return
            stored = endpoint.append(generation, offset, *item) if length else endpoint.begin(generation, *item)
            if not stored:
                spool.answered(endpoint.position())
                return
            endpoint.last = next(self.numbers)
            spool.batches.add(endpoint.last)
            del spool.queue[key]
            if generation == here.generation:
                spool.position = replace(here, acked=max(here.acked, offset + length))
        if spool.unconfirmed and spool.remote is None:
            self.confirm()

    def confirm(self) -> None:
        """Read the endpoint's bytes, as upload/confirm.py does."""
        spool = self.spool
        held = self.endpoints[self.current].generations.get(spool.position.generation, b"")
        equal = common_prefix(held, spool.captured[: spool.unconfirmed])
        spool.position = replace(spool.position, acked=equal)
        spool.unproven, spool.unconfirmed = equal < spool.unconfirmed, 0

    # Invariants

    @invariant()
    def a_position_is_possible(self) -> None:
        assert len(self.spool.captured) == self.spool.position.folded

    def teardown(self) -> None:
        """Settle, and compare both sides."""
        for _ in range(12):
            self.capture(space=True)
            self.push(items=100)
        spool, endpoint = self.spool, self.endpoints[self.current]
        assert (spool.queue, spool.remote) == ({}, None)
        held = endpoint.generations.get(spool.position.generation, b"")
        here = spool.position
        if self.file and self.enabled:
            assert held == self.file
            assert here == Position(generation=here.generation, folded=len(held), queued=len(held), acked=len(held))
        pairs = zip(spool.captured, held.ljust(len(spool.captured), PLACEHOLDER), strict=False)
        wrong = sum(ours != theirs for ours, theirs in pairs)
        assert wrong <= spool.lost + here.folded - here.acked, "bytes are reported safe that are not there"


TestBothSides = BothSides.TestCase
TestBothSides.settings = settings(
    max_examples=200, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


HERE = Position(generation=1, folded=9, queued=9, acked=6)
EVIDENCE = Evidence(same=lambda _: False, unchanged=lambda: True)


def test_the_table_is_the_one_of_the_document() -> None:
    """The docstring's table and the one in docs/mechanisms.md must change together."""
    document = (Path(__file__).parents[3] / "docs/mechanisms.md").read_text(encoding="utf-8")
    rows = [line for line in (reconcile_plan.__doc__ or "").splitlines() if line.startswith("|")]
    assert len(rows) == 9
    assert "\n".join(rows) in document


def test_an_endpoint_that_lost_bytes_gets_them_again() -> None:
    """The bytes up to the first byte in the outbox are read from the file."""
    plan = plan_reconcile(HERE, Queue([(1, 6, 3)]), at(1, b"abcd"), Trust(), EVIDENCE)
    assert plan == [MoveTo(replace(HERE, acked=4, gap=(4, 6)))]


@pytest.mark.parametrize(
    ("earlier", "last"), [((0, 0, 0), 2), ((0, 0, 0, True), 2), ((0, 0, 4), 3), ((0, 4, 2), 3)], ids=str
)
def test_what_waits_of_an_earlier_generation_is_pushed_before_a_new_one(earlier: Run, last: int) -> None:
    """The endpoint is at a later generation, so it would refuse that of the earlier one each time."""
    queue = Queue([earlier, (1, 6, 3)])
    assert plan_reconcile(HERE, queue, at(1, b"abcdef"), Trust(), EVIDENCE)[-1] == Begin(last)


def test_parked_bytes_of_an_earlier_generation_wait_for_a_retry() -> None:
    queue = Queue([(0, 4, 2, True), (1, 6, 3)])
    assert plan_reconcile(HERE, queue, at(1, b"abcdef"), Trust(), EVIDENCE) == [MoveTo(HERE)]


def test_the_same_bytes_under_another_number_are_adopted() -> None:
    """What the endpoint has leaves the outbox; an item that is there in part is read again."""
    evidence = Evidence(same=lambda _: True, unchanged=lambda: True)
    plan = plan_reconcile(HERE, Queue([(1, 3, 2), (1, 5, 4)]), at(4, b"abcdef"), Trust(), evidence)
    moved = Position(generation=4, folded=9, queued=9, acked=6, gap=(6, 9))
    assert plan == [Renumber(1, 4), DropStart(4), Drop(4, 9), MoveTo(moved)]


@pytest.mark.parametrize(("old", "left"), [((2, 6), None), ((2, 8), (6, 8)), ((7, 8), (7, 8))])
def test_an_old_gap_is_left_as_far_as_the_endpoint_lacks_it(old: tuple[int, int], left: tuple[int, int] | None) -> None:
    """The outbox has the bytes that follow at the endpoint, and behind them the gap."""
    adopted = replace(HERE, gap=old).adopted(4, 6, first=6)
    assert adopted == replace(HERE, generation=4, gap=left)


def test_other_bytes_begin_a_generation_above_all() -> None:
    """The file has everything, so nothing queued of the current generation is needed."""
    plan = plan_reconcile(HERE, Queue([(0, 2, 1), (1, 6, 3)]), at(3, b"xy"), Trust(), EVIDENCE)
    assert plan == [
        Drop(1),
        DropStart(0),
        Renumber(0, 4),
        Begin(4),
        Fill(4, 0, 2),
        CountLost(0, 0, 2),
        MoveTo(Position(generation=5, folded=9)),
        ClearLosses(),
        Begin(5),
    ]


def test_an_outbox_that_leads_there_is_only_pushed() -> None:
    """Each start of a generation is in it, and each byte between them."""
    queue = Queue([(0, 4, 2), (1, 6, 0), (1, 6, 3)])
    assert plan_reconcile(HERE, queue, at(0, b"abcd"), Trust(), EVIDENCE) == []
    assert plan_reconcile(HERE, queue, at(0, b"abc"), Trust(), EVIDENCE) != []
    assert plan_reconcile(HERE, queue, at(0, b"abcd"), Trust(unproven=True), EVIDENCE) != []


def test_without_the_file_what_was_acknowledged_is_trusted() -> None:
    """Acknowledged bytes that the endpoint no longer has are counted as lost."""
    assert plan_without_source(HERE, Queue([]), at(1, b"abcdef"), Trust()) == [MoveTo(HERE)]
    assert plan_without_source(HERE, Queue([]), at(1, b"abcd"), Trust()) == [MoveTo(replace(HERE, acked=4))]


def test_without_the_file_a_placeholder_stands_in_for_what_is_missing() -> None:
    """The endpoint would never take the bytes behind the gap if nothing filled it."""
    plan = plan_without_source(HERE, Queue([(1, 6, 3)]), at(1, b"abcd"), Trust())
    assert plan == [MoveTo(replace(HERE, acked=4)), Fill(1, 4, 6), CountLost(1, 4, 6)]


def test_a_gap_that_exists_nowhere_becomes_a_placeholder() -> None:
    """This applies if something is queued behind it. At the end of a stream, its bytes count as lost until a file has
    them.
    """
    torn = replace(HERE, acked=4, gap=(4, 6))
    given_up = MoveTo(replace(HERE, acked=4))
    assert plan_lost_gap(torn, Queue([(1, 6, 3)])) == [given_up, Fill(1, 4, 6), CountLost(1, 4, 6)]
    assert plan_lost_gap(torn, Queue([])) == [given_up]


def test_a_rewrite_shares_what_the_outbox_leads_to() -> None:
    """A byte that waited in the file and is no longer there is lost, and counted."""
    waiting = Position(folded=9, queued=5, acked=3)
    assert waiting.rewritten(4) == (Position(generation=1, folded=4, queued=4, acked=3), 4, [(5, 9)])
    assert waiting.rewritten(7) == (Position(generation=1, folded=7, queued=5, acked=3), 5, [(7, 9)])
    torn = Position(folded=9, queued=9, acked=2, gap=(2, 6))
    assert torn.rewritten(4) == (Position(generation=1, folded=4, queued=2, acked=2), 2, [(4, 6)])
    unkept = Position(folded=9, queued=9, acked=2, skipped=3)
    assert unkept.rewritten(7) == (Position(generation=1, folded=7, queued=7, acked=2, skipped=3), 3, [])


@pytest.mark.parametrize(
    "values",
    [
        {"generation": -1},
        {"folded": 3, "queued": 4},
        {"folded": 3, "acked": 4},
        {"folded": 3, "gap": (2, 2)},
        {"folded": 3, "gap": (2, 4)},
        {"folded": 3, "skipped": 4},
        {"folded": 3, "queued": -1},
    ],
)
def test_an_impossible_position_is_damage(values: dict[str, Any]) -> None:
    """Continuing from it would send bytes at wrong offsets."""
    with pytest.raises(SpoolDamaged):
        Position(**values)


def test_bytes_that_follow_what_the_endpoint_kept_are_no_placeholder() -> None:
    """It has a later generation, and of ours exactly what the outbox continues: nothing is lost."""
    plan = plan_without_source(HERE, Queue([(1, 6, 3)]), at(3, b"xy"), Trust())
    assert plan == [
        DropStart(1),
        Renumber(1, 4),
        Begin(4, 1, 6),
        MoveTo(replace(HERE, generation=4, acked=6)),
    ]


@pytest.mark.parametrize(("length", "theirs", "asked"), [(9, 1, 9), (5, 1, 5), (20, 1, 9), (4, 2, 9), (4, 0, 0)])
def test_bytes_that_only_the_endpoint_can_show_are_asked_for(length: int, theirs: int, asked: int) -> None:
    """As many as it may have of our generation; an earlier one of its own shows nothing about ours."""
    plan = plan_without_source(HERE, Queue([]), at(theirs, bytes(length)), Trust(unproven=True))
    expected = [MoveTo(replace(HERE, acked=0))]
    assert plan == ([*expected, Confirm(asked)] if asked else expected)
    assert Confirm(asked) not in plan_without_source(HERE, Queue([]), at(1, bytes(9)), Trust(lost=True, unproven=True))


@pytest.mark.parametrize(
    ("acked", "keep", "runs", "lost"),
    [
        (100, 0, [], []),
        (30, 0, [], [(30, 100)]),
        (30, 60, [], [(60, 100)]),
        (0, 0, [(1, 40, 60)], [(0, 40)]),
        (10, 0, [(1, 10, 90)], []),
        (10, 0, [(1, 20, 30), (1, 60, 20)], [(10, 20), (50, 60), (80, 100)]),
        (10, 0, [(0, 10, 90), (1, 0, 0)], [(10, 100)]),
    ],
)
def test_bytes_that_were_given_up_are_in_no_place(
    acked: int, keep: int, runs: list[tuple[int, int, int]], lost: list[tuple[int, int]]
) -> None:
    position = Position(generation=1, folded=100, queued=100, acked=acked)
    assert position.abandoned(keep, Queue(runs)) == lost
    assert replace(position, gap=(5, 9)).abandoned(keep, Queue(runs)) == []
