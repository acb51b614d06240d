"""Pushes that wait at the same time are stored in one transaction, and none is affected by another one."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import msgspec
import pytest
from endpoint_lines import DEVICE, append, record, sender

from sessiond.endpoint.server import batcher, tokens
from sessiond.endpoint.server.batcher import DECODE_SECONDS, LIVE_SECONDS, LIVE_TOTAL, TOGETHER, Batcher
from sessiond.endpoint.server.decision import Sender
from sessiond.endpoint.server.last_uses import LastUses
from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.push import PushOutcome, PushRequest, apply
from sessiond.endpoint.server.sqlite_schema import BUSY_MS
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.store import StoreBusy
from sessiond.endpoint.wire import Limits
from sessiond.errors import StateFull


class CountingStore(SqliteStore):
    """A store that counts its transactions, and fails the commits of those that `too_large` is true for."""

    commits = 0
    rows = 0
    threads: ClassVar[list[int]] = []
    """The threads of the transactions."""
    too_large: Callable[[int], bool] = staticmethod(lambda rows: False)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        with super().write() as db:
            before = db.total_changes
            yield db
            self.threads.append(threading.get_ident())
            if self.too_large(db.total_changes - before):
                raise StateFull("the store is full")
            self.commits += 1


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountingStore]:
    made = CountingStore(str(tmp_path / "store"))
    made.threads.clear()
    yield made
    made.close()


def prepared(store: SqliteStore, number: int, text: bytes = b"x\n", of: Sender | None = None) -> PushRequest:
    """Return a push that appends to a session of its own."""
    push = PushRequest(store, Limits(), of or sender())
    session = str(uuid.UUID(int=number + 1))
    push.prepare([msgspec.json.encode(each) for each in (record(id=session), append(0, text, session=session))])
    return push


def store_all(
    store: SqliteStore, pushes: list[tuple[PushRequest, bool]], **how: object
) -> list[PushOutcome | BaseException]:
    """Store pushes that arrive at the same moment, each live or not; return what became of them."""

    async def run() -> list[PushOutcome | BaseException]:
        # A clock that stands still: collecting the garbage of all tests may take as long as a push has.
        made = Batcher(store, LastUses(), **{"clock": lambda: 0.0, **how})  # type: ignore[arg-type]
        waiting = (made.store(push, live=live) for push, live in pushes)
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    return asyncio.run(run())


def statuses(outcomes: Sequence[PushOutcome | BaseException]) -> list[str]:
    """Return the result of each append, or the kind of the error."""
    return [each.results[1].status if isinstance(each, PushOutcome) else type(each).__name__ for each in outcomes]


def test_pushes_that_wait_together_share_a_transaction(store: CountingStore) -> None:
    """A sync of the disk takes as long for a hundred pushes as for one."""
    pushes = [(prepared(store, number), True) for number in range(TOGETHER + 1)]
    assert statuses(store_all(store, pushes)) == ["stored"] * len(pushes)
    assert store.commits == 2


def test_live_pushes_go_before_bulk_ones(store: CountingStore) -> None:
    """Bulk pushes have a transaction each, and one of them goes between two batches of live pushes."""
    order: list[str] = []
    pushes = [(prepared(store, number), False) for number in range(3)]
    pushes += [(prepared(store, 100 + number), True) for number in range(TOGETHER + 5)]

    class Watched(Batcher):
        def _next(self) -> list:
            batch = super()._next()
            order.append(f"{len(batch)}")
            return batch

    async def run() -> None:
        batcher = Watched(store, LastUses())
        await asyncio.gather(*(batcher.store(push, live=live) for push, live in pushes))

    asyncio.run(run())
    assert order == [str(TOGETHER), "1", "5", "1", "1"]


def test_a_refused_token_fails_its_own_push_only(store: CountingStore) -> None:
    """The push of a token that was revoked meanwhile is refused; the pushes beside it are stored."""
    tokens.add(store, "old", "an old secret of a laptop")
    with store.read() as db:
        access = tokens.find(db, "an old secret of a laptop", {})
    assert access is not None
    tokens.revoke(store, "old")
    late = Sender(access=access, device=UUID(DEVICE))
    pushes = [(prepared(store, 0), True), (prepared(store, 1, of=late), True), (prepared(store, 2), True)]
    assert statuses(store_all(store, pushes)) == ["stored", "Revoked", "stored"]
    with store.read() as db:
        assert db.execute("SELECT count(*) FROM streams").fetchone()[0] == 2


def test_a_push_that_cannot_be_stored_fails_alone(store: CountingStore) -> None:
    """If the transaction of several pushes fails, each is tried in one of its own, and none is acknowledged wrongly."""
    alone: list[int] = []
    pushes = [(prepared(store, number), True) for number in range(4)]

    def too_large(rows: int) -> bool:
        alone.append(rows)
        return len(alone) in {1, 3}  # the one of all four, and then that of the second push

    store.too_large = too_large  # type: ignore[method-assign]
    assert statuses(store_all(store, pushes)) == ["stored", "StateFull", "stored", "stored"]
    assert len(alone) == 5
    with store.read() as db:
        held = {row[0] for row in db.execute("SELECT session FROM streams")}
    assert held == {str(uuid.UUID(int=number + 1)) for number in (0, 2, 3)}


def test_a_locked_store_fails_all_pushes_at_once(store: CountingStore) -> None:
    """Each attempt may wait ten seconds for the lock, so a hundred pushes must not try it one after another.

    Only the first attempt, in the event loop, waits for nobody.
    """
    attempts: list[int] = []

    def busy(rows: int) -> bool:
        attempts.append(store._writer.execute("PRAGMA busy_timeout").fetchone()[0])
        raise StoreBusy("the store is busy")

    store.too_large = busy  # type: ignore[method-assign]
    pushes = [(prepared(store, number), True) for number in range(5)]
    assert statuses(store_all(store, pushes)) == ["StoreBusy"] * 5
    assert attempts == [0, BUSY_MS]


def test_a_transaction_ends_when_its_time_is_used_up(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pushes that are left are the first of the next transaction, and those of one device keep their order."""
    monkeypatch.setattr(batcher, "DECODE_SECONDS", 60.0)
    seconds = iter(range(1000))
    pushes = [(prepared(store, number), True) for number in range(3)]
    outcomes = store_all(store, pushes, clock=lambda: next(seconds) * LIVE_TOTAL * 0.3)
    assert statuses(outcomes) == ["stored"] * 3
    assert store.commits == 2


def test_decoding_the_pushes_of_a_transaction_has_a_limit(store: CountingStore) -> None:
    """Somebody waits for the first of them. The other ones are stored in order by the next transactions."""
    order: list[int] = []
    now = 0.0

    def unread(number: int) -> PushRequest:
        def read() -> list[bytes]:
            nonlocal now
            order.append(number)
            now += DECODE_SECONDS * 0.6
            return [msgspec.json.encode(append(0, b"x", session=str(uuid.UUID(int=number + 1))))]

        return PushRequest(store, Limits(), sender(), read)

    outcomes = store_all(store, [(unread(number), True) for number in range(5)], clock=lambda: now)
    assert [each.results[0].status for each in outcomes if isinstance(each, PushOutcome)] == ["stored"] * 5
    assert (order, store.commits) == ([0, 1, 2, 3, 4], 3)


def test_a_body_that_can_not_be_decoded_fails_alone(store: CountingStore) -> None:
    """It is decoded by the thread that stores the other pushes."""

    def read() -> list[bytes]:
        raise HttpError(400, "malformed", "the body ends early")

    bad, empty = PushRequest(store, Limits(), sender(), read), PushRequest(store, Limits(), sender(), list)
    outcomes = store_all(store, [(bad, True), (prepared(store, 1), True), (empty, True)])
    assert isinstance(outcomes[0], HttpError)
    assert statuses(outcomes[1:2]) == ["stored"]
    assert outcomes[2] == PushOutcome([], {})
    assert store.commits == 1


def test_the_streams_that_a_transaction_names_have_a_limit(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each one is looked up while other devices wait."""
    monkeypatch.setattr(batcher, "NAMES", 4)
    pushes = [(prepared(store, number), True) for number in range(5)]
    assert pushes[0][0].names == 2
    assert statuses(store_all(store, pushes)) == ["stored"] * 5
    assert store.commits == 3


def test_loading_the_state_is_no_work_of_the_first_push(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of a hundred pushes, and takes longer than one push may."""
    now, load = 0.0, store.load

    def slow_load(*arguments: object) -> object:
        nonlocal now
        now += 2 * LIVE_SECONDS
        return load(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "load", slow_load)
    (outcome,) = store_all(store, [(prepared(store, 1), True)], clock=lambda: now)
    assert isinstance(outcome, PushOutcome)
    assert [each.status for each in outcome.results] == ["stored", "stored"]


def test_comparing_the_appends_of_a_live_push_has_a_limit(store: CountingStore) -> None:
    """A small push may name many ranges of large chunks, and other devices wait while those are unpacked."""
    store_all(store, [(prepared(store, 0, b"x" * 100), True)])
    lines = [append(at, b"x", session=str(uuid.UUID(int=1))) for at in range(10)]
    seconds = iter(range(1000))
    again = PushRequest(store, Limits(), sender(), lambda: [msgspec.json.encode(line) for line in lines])
    (outcome,) = store_all(store, [(again, True)], clock=lambda: next(seconds) * LIVE_SECONDS * 0.3)
    assert isinstance(outcome, PushOutcome)
    kinds = [each.problem.type if each.problem else each.status for each in outcome.results]
    assert kinds == ["duplicate"] * 4 + ["push-full"] * 6


def test_a_push_is_applied_again_after_a_rollback(store: CountingStore) -> None:
    """What the first attempt found or changed must not leak into the second one."""
    push = prepared(store, 1)
    with pytest.raises(ValueError, match="rolled back"), store.write() as db:
        assert statuses(apply(store, db, [push])) == ["stored"]
        raise ValueError("rolled back")
    with store.write() as db:
        assert statuses(apply(store, db, [push])) == ["stored"]
    with store.write() as db:
        assert statuses(apply(store, db, [push])) == ["duplicate"]


def test_live_pushes_are_stored_in_the_event_loop_and_bulk_ones_in_a_thread(store: CountingStore) -> None:
    """A thread would cost more than the work of a few lines; a bulk push may take long."""
    assert statuses(store_all(store, [(prepared(store, 1), True), (prepared(store, 2), False)])) == ["stored"] * 2
    assert sorted(each == threading.get_ident() for each in store.threads) == [False, True]


def test_the_event_loop_never_waits_for_another_transaction(store: CountingStore) -> None:
    """While a thread or a process writes, the push waits in a thread, and the event loop goes on."""
    other = SqliteStore(store.directory)  # as another process has it

    async def stored_while(writing: AbstractContextManager[object]) -> list[str]:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(writing.__enter__).result()
            waiting = asyncio.ensure_future(made.store(prepared(store, len(store.threads)), live=True))
            for _ in range(20):
                await asyncio.sleep(0.002)
            assert not waiting.done()
            thread.submit(writing.__exit__, None, None, None).result()
            return statuses([await waiting])

    async def run() -> list[str]:
        return await stored_while(store.write()) + await stored_while(other.write())

    made = Batcher(store, LastUses())
    assert asyncio.run(run()) == ["stored"] * 2
    other.close()
    assert threading.get_ident() not in store.threads
    assert store._writer.execute("PRAGMA busy_timeout").fetchone() == (BUSY_MS,)


def test_a_slow_transaction_gets_a_thread_for_a_while(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop stands still at most once in that time."""
    monkeypatch.setattr(batcher, "STILL", -1.0)
    monkeypatch.setattr(batcher, "APART", 1000.0)

    async def run() -> None:
        made = Batcher(store, LastUses())
        for number in range(3):
            await made.store(prepared(store, number), live=True)

    asyncio.run(run())
    assert [each == threading.get_ident() for each in store.threads] == [True, False, False]


def test_a_push_that_was_stored_is_not_stored_again_in_a_thread(store: CountingStore) -> None:
    """After a failed transaction each push has its own. If the store is locked before the last, that one is refused."""
    attempts: list[int] = []

    def too_large(rows: int) -> bool:
        attempts.append(rows)
        if len(attempts) == 3:
            raise StoreBusy("the store is busy")
        return len(attempts) == 1

    store.too_large = too_large  # type: ignore[method-assign]
    pushes = [(prepared(store, number), True) for number in range(2)]
    assert statuses(store_all(store, pushes)) == ["stored", "StoreBusy"]
    assert len(attempts) == 3
