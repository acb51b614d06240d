"""The effect of one answer on the outbox, item by item, and how a batch continues from the one before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sessiond.endpoint import wire
from sessiond.errors import Unreachable
from sessiond.ingest.admission import purge_session
from sessiond.spool.health import read_copies
from sessiond.spool.rows import Segment, SessionState
from sessiond.upload import LAST_BATCH, BatchResult, bind, settle, store_batch, unbind_changed_endpoint
from sessiond.upload.binding import COMPARE_MS
from support.harness import CLAUDE, SESSION, Household, claude, encode, household

BATCH = "the name of the batch"
OTHER = "5f1d7c1e-0000-4000-8000-000000000002"
OTHER_FILE = f".claude/projects/-home-dev-project/{OTHER}.jsonl"
SIZE = len(encode(claude(SESSION, 1)))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Household]:
    """Return a harness with a record and two segments of one transcript in the outbox."""
    with household(tmp_path) as made:
        bind(made.uploading)
        made.write(CLAUDE, claude(SESSION, 1))
        made.scan()
        with made.spool.transaction():
            for (stream,) in made.spool.connection.execute("SELECT id FROM stream").fetchall():
                made.spool.catalog.set_remote_position(stream, None)
        made.write(CLAUDE, claude(SESSION, 2))
        made.scan()
        yield made


def items(house: Household) -> tuple[SessionState, Segment, Segment]:
    (record,) = house.spool.outbox.sessions(10)
    first, second = house.spool.outbox.segments(10, 1 << 20)
    return record, first, second


def answer(*problems: wire.Problem | None) -> wire.PushAnswer:
    """Return an answer with a result for each item; None stands for stored."""
    results = [
        wire.Result(status="stored") if each is None else wire.Result(status="problem", problem=each)
        for each in problems
    ]
    return wire.PushAnswer(batch=BATCH, results=results)


def problem(kind: str, **fields: int | str) -> wire.Problem:
    return wire.Problem(type=kind, title="no", **fields)  # type: ignore[arg-type]


def left(house: Household) -> tuple[int, int, int]:
    """Return how many records and segments wait, and how many items are parked."""
    waiting = house.spool.stats.waiting()
    return waiting.sessions, waiting.segments, waiting.parked


def test_what_was_stored_leaves_the_outbox_and_is_counted(house: Household) -> None:
    result = settle(house.uploading, items(house), answer(None, None, None))
    assert result == BatchResult(sessions=1, segments=2, bytes=2 * SIZE)
    assert left(house) == (0, 0, 0)
    assert house.spool.meta(LAST_BATCH) == BATCH


@pytest.mark.parametrize("refused", [None, problem("invalid"), problem("offset-mismatch", generation=9, offset=7)])
def test_an_answer_about_a_purged_session_changes_nothing_of_another_one(
    house: Household, refused: wire.Problem | None
) -> None:
    """The spool may give the numbers of the purged rows to a session that is captured while the push is under way."""
    pushed = items(house)
    transcript = house.write(CLAUDE, claude(SESSION, 3))
    purge_session(house.ingesting, pushed[0].id)
    os.unlink(transcript)
    house.write(OTHER_FILE, claude(OTHER, 1))
    house.scan()
    (record,) = house.spool.outbox.sessions(10)
    (stream,) = house.spool.connection.execute("SELECT id FROM stream").fetchone()
    assert (record.id, stream) == (pushed[0].id, pushed[1].stream_id), "the numbers are used again"
    before = everything(house)
    assert settle(house.uploading, pushed, answer(refused, refused, refused)) == BatchResult(more=True)
    assert everything(house) == before


def everything(house: Household) -> list[object]:
    """Return the rows of all sessions, streams and segments."""
    tables = ("session", "stream", "segment")
    return [house.spool.connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]


def test_a_record_that_is_refused_is_parked_and_counted(house: Household) -> None:
    result = settle(house.uploading, items(house), answer(problem("invalid"), None, None))
    assert result == BatchResult(segments=2, bytes=2 * SIZE, parked=1)
    assert left(house)[2] == 1


def test_a_stale_record_is_sent_again_with_a_higher_revision(house: Household) -> None:
    record, first, second = items(house)
    above = record.revision + 5
    result = settle(house.uploading, (record, first, second), answer(problem("stale", revision=above), None, None))
    assert result == BatchResult(segments=2, bytes=2 * SIZE, healed=1, more=True)
    assert house.spool.outbox.sessions(10)[0].revision > above


def test_a_transcript_that_differs_is_compared_and_nothing_of_it_is_lost(house: Household) -> None:
    """The second segment failed because the first one did."""
    refused = problem("offset-mismatch", generation=0, offset=0), problem("invalid")
    result = settle(house.uploading, items(house), answer(None, *refused))
    assert result == BatchResult(sessions=1, healed=1, more=True)
    assert house.spool.stats.waiting().parked == 0


def test_a_full_endpoint_keeps_everything_in_the_outbox(house: Household) -> None:
    with pytest.raises(Unreachable, match="quota"):
        settle(house.uploading, items(house), answer(None, problem("quota"), problem("quota")))
    assert left(house) == (0, 2, 0)


def test_an_endpoint_that_has_space_for_a_part_gets_the_rest_later(house: Household) -> None:
    result = settle(house.uploading, items(house), answer(None, None, problem("quota")))
    assert result == BatchResult(sessions=1, segments=1, bytes=SIZE, more=True)
    assert left(house) == (0, 1, 0)


def test_a_push_of_which_nothing_was_stored_is_not_repeated_at_once(house: Household) -> None:
    """An endpoint that asks for a smaller push each time would cause an endless loop."""
    with pytest.raises(Unreachable, match="smaller"):
        settle(house.uploading, items(house), answer(*[problem("push-full")] * 3))
    assert left(house) == (1, 2, 0)


@pytest.mark.parametrize("stored", [0, 1])
def test_the_rest_of_a_push_that_was_too_much_is_sent_at_once(house: Household, stored: int) -> None:
    """It does not matter whether a record or a transcript was stored."""
    problems: list[wire.Problem | None] = [problem("push-full")] * 3
    problems[stored] = None
    result = settle(house.uploading, items(house), answer(*problems))
    assert (result.sessions + result.segments, result.parked, result.more) == (1, 0, True)


@pytest.mark.parametrize(("beyond", "parked"), [(0, 0), (1, 1)])
def test_numbers_are_followed_up_to_a_bound(house: Household, beyond: int, parked: int) -> None:
    """A faulty endpoint must not use up the numbers, and a correct one may use all that the protocol allows."""
    generation, revision = wire.FREE_GENERATION + beyond, wire.FREE_REVISION + beyond
    problems = problem("stale", revision=revision), problem("offset-mismatch", generation=generation, offset=0)
    record, first, _ = items(house)
    result = settle(house.uploading, (record, first), answer(*problems))
    assert (result.parked, result.healed) == (2 * parked, 2 - 2 * parked)


def test_a_batch_that_continues_from_the_last_one_changes_nothing_else(house: Household) -> None:
    """An endpoint that does not report the one before is trusted until it is asked."""
    house.spool.set_meta(LAST_BATCH, "the last one")
    for previous in ("the last one", msgspec.UNSET):
        house.spool.set_meta(LAST_BATCH, "the last one")
        assert not store_batch(house.uploading, BATCH, previous)
        assert house.spool.meta(LAST_BATCH) == BATCH
    assert bound_again(house) and not read_copies(house.spool).diverged_ms


def bound_again(house: Household) -> bool:
    """Return whether the endpoint and the spool still agree, with the endpoint's last batch as the spool's."""
    about = house.client.about()
    house.spool.set_meta(LAST_BATCH, about.last_batch)
    return bind(house.uploading)


def test_a_batch_behind_an_unknown_one_has_everything_compared_once_in_a_while(house: Household) -> None:
    """Two copies of a state directory find each other's batches at each push."""
    house.spool.set_meta(LAST_BATCH, "the last one")
    assert store_batch(house.uploading, BATCH, "another one")
    assert house.spool.outbox.unknown_streams(10)
    assert read_copies(house.spool).diverged_ms == [house.now_ms]
    house.now_ms += COMPARE_MS
    assert not store_batch(house.uploading, BATCH, "another one")
    assert not bound_again(house)
    house.now_ms += 1
    assert store_batch(house.uploading, BATCH, "another one")


def test_a_first_batch_is_no_sign_of_a_second_copy(house: Household) -> None:
    """The spool was rebuilt, or the endpoint has lost everything: there is only one batch."""
    house.spool.set_meta(LAST_BATCH, None)
    assert store_batch(house.uploading, BATCH, "another one")
    house.now_ms += COMPARE_MS + 1
    assert store_batch(house.uploading, "the next one", None)
    assert not read_copies(house.spool).diverged_ms


@pytest.mark.parametrize(("bound", "address", "kept"), [(None, "b", True), ("a", "a", True), ("a", "b", False)])
def test_only_another_address_discards_acknowledgements(
    house: Household, bound: str | None, address: str, kept: bool
) -> None:
    """`status` must not call bytes safe that the configured endpoint does not have."""
    settle(house.uploading, items(house), answer(None, None, None))
    house.spool.set_meta("endpoint.url", bound)
    unbind_changed_endpoint(house.spool, address)
    stream = house.spool.catalog.streams(1)[0]
    assert (stream.acked, house.spool.stats.waiting().sessions) == ((2 * SIZE, 0) if kept else (0, 1))
    assert (house.spool.meta("endpoint") is not None) is kept


@pytest.mark.parametrize(
    ("name", "generation", "length", "healed"),
    [("main", 0, 2 * SIZE, 0), ("main", 0, 2 * SIZE + 1, 1), ("main", 1, 0, 1), ("agents/a1", 1, 0, 0)],
)
def test_a_stream_that_is_ahead_at_the_endpoint_is_asked_for(
    house: Household, name: str, generation: int, length: int, healed: int
) -> None:
    """The spool was restored from a backup then, and must not push other bytes under the same number."""
    ahead = [wire.StreamLength(name=name, generation=generation, length=length)]
    for item in items(house)[:2]:
        results = [wire.Result(status="stored", ahead=ahead)]
        result = settle(house.uploading, [item], wire.PushAnswer(batch=BATCH, results=results))
        assert (result.healed, result.more) == (healed, True)
        assert len(house.spool.outbox.unknown_streams(10)) == healed
