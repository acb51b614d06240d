"""The cost of one push or query is bounded, and no other request waits for it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from endpoint_lines import SESSION, Line, Pusher, append, generation, record, sender, store_push

from sessiond import zstd
from sessiond.endpoint.server import running, streams
from sessiond.endpoint.server.digester import Digester
from sessiond.endpoint.server.digests import SPACING, Digests
from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.push import COMPARED, SECONDS, CpuBudget, PushOutcome, PushRequest, apply
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.wire import Limits

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """Yield an empty store."""
    made = SqliteStore(str(tmp_path / "store"))
    yield made
    made.close()


def packed(offset: int, plain: bytes, **fields: Any) -> Line:
    """Make an append whose bytes are sent as a zstd frame."""
    frame = zstd.compress(plain)
    return append(offset, b"", **fields) | {
        "length": len(plain),
        "sha256": hashlib.sha256(frame).hexdigest(),
        "data": base64.b64encode(frame).decode(),
        "encoding": "zstd",
    }


def push(store: SqliteStore, *lines: Line, **how: Any) -> PushOutcome:
    """Push lines without a server."""
    request = PushRequest(store, how.pop("limits", Limits()), sender())
    return store_push(store, request, *map(msgspec.json.encode, lines), **how)


def said(answer: PushOutcome) -> list[str]:
    """Return the result of each line."""
    return [each.problem.type if each.problem else each.status for each in answer.results]


def test_a_push_that_unpacks_to_more_than_the_limit_is_stored_in_part(store: SqliteStore) -> None:
    """A few kilobytes that decode to gigabytes cost what the limit allows. If the push is sent again, the rest is
    stored.
    """
    limits = Limits(segment=MIB, appended=3 * MIB)
    lines = [packed(number * MIB, bytes(MIB)) for number in range(5)] + [append(0, b"x", stream="b"), {"op": "nothing"}]
    assert said(push(store, *lines, limits=limits)) == ["stored"] * 3 + ["push-full"] * 4
    assert said(push(store, *lines[3:], limits=limits)) == ["stored"] * 3 + ["invalid"]
    with store.read() as db:
        assert streams.find_generation(db, 1) == streams.GenerationRow(0, None, 0, None, 5 * MIB, None)


def test_lines_behind_one_that_reaches_the_limit_exactly_are_stored(store: SqliteStore) -> None:
    limits = Limits(segment=MIB, appended=MIB)
    assert said(push(store, packed(0, bytes(MIB)), record(), limits=limits)) == ["stored", "stored"]


def test_one_append_of_the_greatest_length_always_fits(tmp_path: Path) -> None:
    """For any limits, a client that sends one line at a time gets everything stored."""
    limits = Limits(segment=MIB, appended=10)
    with running(str(tmp_path), limits=limits) as it, Pusher(it.url, it.token) as pusher:
        assert pusher.said(packed(0, bytes(MIB)), packed(MIB, b"x")) == ["stored", "push-full"]
        assert pusher.said(packed(MIB, b"x")) == ["stored"]


class Watched(SqliteStore):
    """A store that records how many lines are left when a push begins to write."""

    lines: list[bytes]
    left: list[int]

    @contextmanager
    def write(self) -> Iterator[Any]:
        self.left = [len(line) for line in self.lines]
        with super().write() as db:
            yield db


def test_lines_are_decoded_before_the_turn_to_write(tmp_path: Path) -> None:
    """No device waits for the turn to write while lines of another one are unpacked and digested."""
    store = Watched(str(tmp_path))
    store.lines = [msgspec.json.encode(line) for line in (packed(0, bytes(MIB)), record(), {"op": "nothing"})]
    push = PushRequest(store, Limits(), sender())
    push.prepare(store.lines)
    with store.write() as db:
        (answer,) = apply(store, db, [push])
    assert isinstance(answer, PushOutcome)
    assert store.left == [0, 0, 0]
    assert said(answer) == ["stored", "stored", "invalid"]
    store.close()


def test_what_is_sent_again_is_compared_before_the_turn_to_write(store: SqliteStore) -> None:
    """Whatever other lines are between. Of what was not stored before, nothing is known yet."""
    again, other = append(0, b"x"), append(0, b"y", stream="b")
    assert said(push(store, again, other)) == ["stored"] * 2
    request = PushRequest(store, Limits(), sender())
    lines = [record(), again, {"op": "nothing"}, append(0, b"z", stream="b"), append(1, b"new"), other]
    request.prepare([msgspec.json.encode(line) for line in lines])
    assert [getattr(line, "held", "bad") for line in request.decoded.lines] == [None, True, "bad", False, None, True]


def test_lines_that_take_too_long_are_left_for_another_push(store: SqliteStore) -> None:
    """The bound holds for any kind of line. The first line is always stored, so each push makes progress."""
    seconds = iter(range(100))
    lines = [record(), append(0, b"x"), generation(1, 0, 1)]
    slow = push(store, *lines, budget=CpuBudget(lambda: next(seconds) * SECONDS))
    assert said(slow) == ["stored", "stored", "push-full"]
    seconds = iter(range(0, 1000, 10))
    slow = push(store, generation(1, 0, 1), *lines, budget=CpuBudget(lambda: float(next(seconds))))
    assert said(slow) == ["stored", *["push-full"] * 3]
    assert said(push(store, *lines)) == ["duplicate"] * 3


def test_comparing_duplicates_is_bounded(store: SqliteStore) -> None:
    """One byte of a large frame costs unpacking the frame, so it counts as the frame."""
    whole, other = bytes(4 * MIB), b"1" * 4 * MIB
    assert said(push(store, packed(0, whole), packed(len(whole), other))) == ["stored"] * 2
    # In turn in two frames: one that is compared several times in a row is unpacked once.
    again = [append(at % 2 * len(whole), (b"\0", b"1")[at % 2]) for at in range(COMPARED // len(whole) + 10)]
    answers = said(push(store, *again))
    fit = COMPARED // len(whole) + 1
    assert answers == ["duplicate"] * fit + ["push-full"] * (len(again) - fit)


def test_a_line_that_another_push_stored_meanwhile_is_compared_with_that(store: SqliteStore) -> None:
    """Bytes that were stored between reading and writing a push make its line a duplicate or a mismatch."""
    assert said(push(store, append(0, b"one"), append(0, b"one"), append(1, b"xx"))) == [
        "stored",
        "duplicate",
        "offset-mismatch",
    ]


def test_no_stream_is_hashed_while_a_push_writes(store: SqliteStore) -> None:
    """A push that finds another state is answered with the digest of that state, even if more came in between."""
    first, second = bytes(5 * MIB // 2), b"y" * (5 * MIB // 2)
    push(store, packed(0, first), packed(len(first), second))
    store.digests.clear()
    stale = push(store, append(7, b"zz"), append(10 * MIB, b"zz"))
    assert said(stale) == ["offset-mismatch"] * 2
    assert [each.problem and each.problem.sha256 for each in stale.results] == [None, None]
    push(store, append(len(first + second), b"more"), generation(1, 0, 3))

    digester = Digester(store)
    digests = asyncio.run(digester.digests(list(stale.pending.values())))
    for result in stale.complete(digests):
        assert result.problem is not None
        assert (result.problem.generation, result.problem.offset) == (0, len(first + second))
        assert result.problem.sha256 == hashlib.sha256(first + second).hexdigest()
    assert digester.hashed == len(first + second), "the same state is hashed once"


def test_a_digest_is_computed_once_and_kept(store: SqliteStore) -> None:
    """Repeated queries, in parallel or one after another, cost no more than one."""
    plain = bytes(4 * MIB)
    push(store, packed(0, plain[:MIB]), packed(MIB, plain[MIB:]))
    store.digests.clear()
    state = streams.State(1, 0, len(plain), None)

    async def ask(digester: Digester) -> None:
        answers = await asyncio.gather(*(digester.digests([state, state]) for _ in range(10)))
        assert answers == [[hashlib.sha256(plain).hexdigest()] * 2] * 10

    digester = Digester(store)
    asyncio.run(ask(digester))
    asyncio.run(ask(digester))
    assert digester.hashed == len(plain)


def test_generations_of_one_stream_share_what_was_hashed(store: SqliteStore) -> None:
    """A line of a hundred bytes can make a generation of gigabytes: hashing it costs a bounded part of that."""
    size = 4 * MIB
    count = 2 * SPACING // size + 2
    for number in range(count):
        push(store, packed(number * size, bytes(size)))
    length = count * size
    store.digests.clear()
    digester = Digester(store)
    asyncio.run(digester.digests([streams.State(1, 0, length, None)]))
    assert digester.hashed == length
    push(store, *(generation(number, number - 1, length - number) for number in range(1, 4)))
    wanted = [streams.State(1, number, length - number, None) for number in range(1, 4)]
    digests = asyncio.run(digester.digests(wanted))
    assert digests == [hashlib.sha256(bytes(length - number)).hexdigest() for number in range(1, 4)]
    assert digester.hashed < length + 3 * SPACING


def test_states_of_a_prefix_are_kept_at_intervals() -> None:
    """The last state is always kept, and one older state for each interval."""
    digests, running = Digests(hashlib.sha256, 10), hashlib.sha256()
    for length in (10, SPACING // 2, SPACING + 1, SPACING + 5, 3 * SPACING):
        digests.keep(1, 0, length, running)
    lengths = [digests.nearest(1, [(0, shared)])[0] for shared in (10, SPACING, SPACING + 5, 2 * SPACING, 4 * SPACING)]
    assert lengths == [0, 0, SPACING + 1, SPACING + 1, 3 * SPACING]


def test_a_digest_that_takes_long_is_answered_busy_and_goes_on(store: SqliteStore) -> None:
    """The client comes back, and finds that the work was done meanwhile."""
    plain = bytes(4 * MIB)
    push(store, packed(0, plain[:MIB]), packed(MIB, plain[MIB:]))
    store.digests.clear()

    async def ask() -> str:
        digester = Digester(store, timeout=0)
        with pytest.raises(HttpError) as refused:
            await digester.digests([streams.State(1, 0, len(plain), None)])
        assert refused.value.status == 503
        assert 5 <= int((refused.value.headers or {})["Retry-After"]) <= 10
        while digester.hashed < len(plain):
            await asyncio.sleep(0)
        return (await Digester(store).digests([streams.State(1, 0, len(plain), None)]))[0]

    assert asyncio.run(ask()) == hashlib.sha256(plain).hexdigest()


def test_offsets_of_a_large_stream_are_those_of_one_state(tmp_path: Path) -> None:
    """Length and digest in the answer belong together."""
    plain = bytes(4 * MIB)
    with running(str(tmp_path)) as it, Pusher(it.url, it.token) as pusher:
        assert pusher.said(packed(0, plain), append(len(plain), b"end\n")) == ["stored"] * 2
        it.store.digests.clear()
        asked = {"machine_id": "ada", "streams": [{"session": SESSION, "stream": "main"}] * 3}
        for held in pusher.post("/v1/offsets", json=asked).json()["streams"]:
            assert (held["length"], held["sha256"]) == (len(plain) + 4, hashlib.sha256(plain + b"end\n").hexdigest())
        (stale,) = pusher.lines(append(3, b"x"))
        assert stale["problem"]["sha256"] == hashlib.sha256(plain + b"end\n").hexdigest()


def test_a_record_is_told_which_of_its_streams_are_ahead(store: SqliteStore) -> None:
    """Its spool was restored from an older copy, and has read less than is stored."""
    push(store, append(0, b"12345"), append(0, b"123", stream="other"))
    known = [{"name": "main", "generation": 0, "length": 3}, {"name": "other", "generation": 0, "length": 3}]
    (result,) = push(store, record() | {"streams": known}).results
    assert [(each.name, each.generation, each.length) for each in result.ahead] == [("main", 0, 5)]


def test_many_streams_of_a_record_are_looked_up_at_once(store: SqliteStore) -> None:
    """A record may name thousands of streams. One query finds which of them are longer here."""
    names = [f"agents/{number}" for number in range(2000)]
    push(store, *(append(0, b"xy", stream=name) for name in names[:900]))
    line = record() | {"streams": [{"name": name, "generation": 0, "length": 1} for name in names]}
    questions: list[str] = []
    with store.write() as db:
        db.set_trace_callback(questions.append)
    (result,) = push(store, line).results
    with store.write() as db:
        db.set_trace_callback(None)
    assert {each.name for each in result.ahead} == set(names[:900])
    assert len(questions) < 30
