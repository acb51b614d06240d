"""The effect of one answer on the outbox, item by item, and how a batch continues from the one before."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from sessiond.endpoint import wire
from sessiond.errors import Unreachable
from sessiond.ingest.admission import purge_session
from sessiond.spool.health import read_copies
from sessiond.spool.rows import Segment, SessionState
from sessiond.spool.safety import BOUND_ENDPOINT
from sessiond.upload import LAST_BATCH, BatchResult, bind, settle, store_batch, unbind_changed_endpoint
from sessiond.upload.binding import COMPARE_MS, DISTRUST_MS
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness, encode

BATCH = "the name of the batch"
OTHER = "5f1d7c1e-0000-4000-8000-000000000002"
OTHER_FILE = f".claude/projects/-home-dev-project/{OTHER}.jsonl"
SIZE = len(encode(claude(SESSION, 1)))


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    """Return a harness with a record and two segments of one transcript in the outbox."""
    with daemon_harness(tmp_path) as made:
        bind(made.uploading)
        made.write(CLAUDE, claude(SESSION, 1))
        made.scan()
        with made.spool.transaction():
            for (stream,) in made.spool.connection.execute("SELECT id FROM stream").fetchall():
                made.spool.catalog.set_remote_position(stream, None)
        made.write(CLAUDE, claude(SESSION, 2))
        made.scan()
        yield made


def items(harness: DaemonHarness) -> tuple[SessionState, Segment, Segment]:
    (record,) = harness.spool.outbox.sessions(10)
    first, second = harness.spool.outbox.segments(10, 1 << 20)
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


def left(harness: DaemonHarness) -> tuple[int, int, int]:
    """Return how many records and segments wait, and how many items are parked."""
    waiting = harness.spool.stats.waiting()
    return waiting.sessions, waiting.segments, waiting.parked


def test_what_was_stored_leaves_the_outbox_and_is_counted(harness: DaemonHarness) -> None:
    result = settle(harness.uploading, items(harness), answer(None, None, None))
    assert result == BatchResult(sessions=1, segments=2, bytes=2 * SIZE)
    assert left(harness) == (0, 0, 0)
    assert harness.spool.meta(LAST_BATCH) == BATCH


@pytest.mark.parametrize("refused", [None, problem("invalid"), problem("offset-mismatch", generation=9, offset=7)])
def test_an_answer_about_a_purged_session_changes_nothing_of_another_one(
    harness: DaemonHarness, refused: wire.Problem | None
) -> None:
    """The spool may give the numbers of the purged rows to a session that is captured while the push is under way."""
    pushed = items(harness)
    transcript = harness.write(CLAUDE, claude(SESSION, 3))
    purge_session(harness.ingesting, pushed[0].id)
    os.unlink(transcript)
    harness.write(OTHER_FILE, claude(OTHER, 1))
    harness.scan()
    (record,) = harness.spool.outbox.sessions(10)
    (stream,) = harness.spool.connection.execute("SELECT id FROM stream").fetchone()
    assert (record.id, stream) == (pushed[0].id, pushed[1].stream_id), "the numbers are used again"
    before = everything(harness)
    assert settle(harness.uploading, pushed, answer(refused, refused, refused)) == BatchResult(more=True)
    assert everything(harness) == before


def everything(harness: DaemonHarness) -> list[object]:
    """Return the rows of all sessions, streams and segments."""
    tables = ("session", "stream", "segment")
    return [harness.spool.connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]


def test_a_record_that_is_refused_is_parked_and_counted(harness: DaemonHarness) -> None:
    result = settle(harness.uploading, items(harness), answer(problem("invalid"), None, None))
    assert result == BatchResult(segments=2, bytes=2 * SIZE, parked=1)
    assert left(harness)[2] == 1


def test_a_stale_record_is_sent_again_with_a_higher_revision(harness: DaemonHarness) -> None:
    record, first, second = items(harness)
    above = record.revision + 5
    result = settle(harness.uploading, (record, first, second), answer(problem("stale", revision=above), None, None))
    assert result == BatchResult(segments=2, bytes=2 * SIZE, healed=1, more=True)
    assert harness.spool.outbox.sessions(10)[0].revision > above


def test_a_transcript_that_differs_is_compared_and_nothing_of_it_is_lost(harness: DaemonHarness) -> None:
    """The second segment failed because the first one did."""
    refused = problem("offset-mismatch", generation=0, offset=0), problem("invalid")
    result = settle(harness.uploading, items(harness), answer(None, *refused))
    assert result == BatchResult(sessions=1, healed=1, more=True)
    assert harness.spool.stats.waiting().parked == 0


def test_a_full_endpoint_keeps_everything_in_the_outbox(harness: DaemonHarness) -> None:
    with pytest.raises(Unreachable, match="quota"):
        settle(harness.uploading, items(harness), answer(None, problem("quota"), problem("quota")))
    assert left(harness) == (0, 2, 0)


def test_an_endpoint_that_has_space_for_a_part_gets_the_rest_later(harness: DaemonHarness) -> None:
    result = settle(harness.uploading, items(harness), answer(None, None, problem("quota")))
    assert result == BatchResult(sessions=1, segments=1, bytes=SIZE, more=True)
    assert left(harness) == (0, 1, 0)


def test_a_push_of_which_nothing_was_stored_is_not_repeated_at_once(harness: DaemonHarness) -> None:
    """An endpoint that asks for a smaller push each time would cause an endless loop."""
    with pytest.raises(Unreachable, match="smaller"):
        settle(harness.uploading, items(harness), answer(*[problem("push-full")] * 3))
    assert left(harness) == (1, 2, 0)


@pytest.mark.parametrize("stored", [0, 1])
def test_the_rest_of_a_push_that_was_too_much_is_sent_at_once(harness: DaemonHarness, stored: int) -> None:
    """It does not matter whether a record or a transcript was stored."""
    problems: list[wire.Problem | None] = [problem("push-full")] * 3
    problems[stored] = None
    result = settle(harness.uploading, items(harness), answer(*problems))
    assert (result.sessions + result.segments, result.parked, result.more) == (1, 0, True)


@pytest.mark.parametrize(("beyond", "parked"), [(0, 0), (1, 1)])
def test_numbers_are_followed_up_to_a_bound(harness: DaemonHarness, beyond: int, parked: int) -> None:
    """A faulty endpoint must not use up the numbers, and a correct one may use all that the protocol allows."""
    generation, revision = wire.FREE_GENERATION + beyond, wire.FREE_REVISION + beyond
    problems = problem("stale", revision=revision), problem("offset-mismatch", generation=generation, offset=0)
    record, first, _ = items(harness)
    result = settle(harness.uploading, (record, first), answer(*problems))
    assert (result.parked, result.healed) == (2 * parked, 2 - 2 * parked)


def test_a_batch_that_continues_from_the_last_one_changes_nothing_else(harness: DaemonHarness) -> None:
    """An endpoint that does not report the one before is trusted until it is asked."""
    harness.spool.set_meta(LAST_BATCH, "the last one")
    for previous in ("the last one", msgspec.UNSET):
        harness.spool.set_meta(LAST_BATCH, "the last one")
        assert not store_batch(harness.uploading, BATCH, previous)
        assert harness.spool.meta(LAST_BATCH) == BATCH
    assert bound_again(harness) and not read_copies(harness.spool).diverged_ms


def bound_again(harness: DaemonHarness) -> bool:
    """Return whether the endpoint and the spool still agree, with the endpoint's last batch as the spool's."""
    about = harness.client.about()
    harness.spool.set_meta(LAST_BATCH, about.last_batch)
    return bind(harness.uploading)


def test_a_batch_behind_an_unknown_one_has_everything_compared_once_in_a_while(harness: DaemonHarness) -> None:
    """Two copies of a state directory find each other's batches at each push."""
    harness.spool.set_meta(LAST_BATCH, "the last one")
    assert store_batch(harness.uploading, BATCH, "another one")
    assert harness.spool.outbox.unknown_streams(10)
    assert read_copies(harness.spool).diverged_ms == [harness.now_ms]
    harness.now_ms += COMPARE_MS
    assert not store_batch(harness.uploading, BATCH, "another one")
    assert not bound_again(harness)
    harness.now_ms += 1
    assert store_batch(harness.uploading, BATCH, "another one")


def test_a_second_copy_has_all_files_compared_once_a_day(harness: DaemonHarness) -> None:
    """The number of a generation is free for one of the two only: to compare each time would never end."""

    def doubted(passed_ms: int) -> bool:
        with harness.spool.transaction():
            harness.spool.connection.execute("UPDATE stream SET unproven = 0")
            harness.spool.set_meta(LAST_BATCH, "the last one")
        harness.now_ms += passed_ms
        store_batch(harness.uploading, BATCH, "another one")
        return harness.spool.catalog.streams(1)[0].unproven

    assert doubted(0)
    assert not doubted(DISTRUST_MS)
    assert not doubted(DISTRUST_MS)
    assert doubted(DISTRUST_MS + 1)


def test_another_endpoint_is_asked_for_everything(harness: DaemonHarness) -> None:
    """Nothing that the endpoint before it acknowledged counts there."""
    settle(harness.uploading, items(harness), answer(None, None, None))
    harness.spool.set_meta("endpoint", "another one")
    assert not bind(harness.uploading)
    (stream,) = harness.spool.catalog.streams(1)
    assert (stream.known, stream.acked) == (False, 0)
    assert left(harness)[0] == 1


@pytest.mark.parametrize("which", [0, 1])
def test_an_item_of_an_erased_session_has_all_of_it_set_aside(harness: DaemonHarness, which: int) -> None:
    """Whether the endpoint refuses its record or its bytes."""
    problems = [None, None, None]
    problems[which] = problem("forgotten")  # type: ignore[call-overload]
    assert settle(harness.uploading, items(harness), answer(*problems)).forgotten == 1
    assert harness.spool.forgotten.is_kept(SESSION)
    assert left(harness)[:2] == (0, 0)


def test_a_first_batch_is_no_sign_of_a_second_copy(harness: DaemonHarness) -> None:
    """The spool was rebuilt, or the endpoint has lost everything: there is only one batch."""
    harness.spool.set_meta(LAST_BATCH, None)
    assert store_batch(harness.uploading, BATCH, "another one")
    harness.now_ms += COMPARE_MS + 1
    assert store_batch(harness.uploading, "the next one", None)
    assert not read_copies(harness.spool).diverged_ms


@pytest.mark.parametrize(("bound", "address", "kept"), [(None, "b", True), ("a", "a", True), ("a", "b", False)])
def test_only_another_address_discards_acknowledgements(
    harness: DaemonHarness, bound: str | None, address: str, kept: bool
) -> None:
    """`status` must not call bytes safe that the configured endpoint does not have."""
    settle(harness.uploading, items(harness), answer(None, None, None))
    harness.spool.set_meta("endpoint.url", bound)
    unbind_changed_endpoint(harness.spool, address)
    stream = harness.spool.catalog.streams(1)[0]
    assert (stream.acked, harness.spool.stats.waiting().sessions) == ((2 * SIZE, 0) if kept else (0, 1))
    assert (harness.spool.meta("endpoint") is not None) is kept


@pytest.mark.parametrize(
    ("name", "generation", "length", "healed"),
    [("main", 0, 2 * SIZE, 0), ("main", 0, 2 * SIZE + 1, 1), ("main", 1, 0, 1), ("agents/a1", 1, 0, 0)],
)
def test_a_stream_that_is_ahead_at_the_endpoint_is_asked_for(
    harness: DaemonHarness, name: str, generation: int, length: int, healed: int
) -> None:
    """The spool was restored from a backup then, and must not push other bytes under the same number."""
    ahead = [wire.StreamLength(name=name, generation=generation, length=length)]
    for item in items(harness)[:2]:
        results = [wire.Result(status="stored", ahead=ahead)]
        result = settle(harness.uploading, [item], wire.PushAnswer(batch=BATCH, results=results))
        assert (result.healed, result.more) == (healed, True)
        assert len(harness.spool.outbox.unknown_streams(10)) == healed


@pytest.mark.parametrize(
    "kinds",
    [
        ["push-full", None, "invalid"],
        ["invalid", "push-full", "invalid"],
        [None, "push-full", "push-full"],
        ["push-full", "offset-mismatch", "invalid"],
        ["stale", "push-full", "push-full"],
        ["forgotten", "push-full", "push-full"],
    ],
)
def test_a_push_of_which_anything_was_decided_goes_on(harness: DaemonHarness, kinds: list[str | None]) -> None:
    """Only if all of it was too much would the same push follow: what is stored, parked or healed is out of the way."""
    problems = [None if kind is None else problem(kind, generation=0, offset=0) for kind in kinds]
    assert settle(harness.uploading, items(harness), answer(*problems)).more is ("forgotten" not in kinds)


@pytest.mark.parametrize("offset", [None, 0, 7])
def test_the_position_that_a_refusal_tells_is_stored(harness: DaemonHarness, offset: int | None) -> None:
    """If it is stated once more. Then it is compared with the file: one byte too many would be taken for its bytes."""
    _, first, second = items(harness)
    refused = {"generation": 0, "sha256": "12" * 32} | ({} if offset is None else {"offset": offset})
    answered = answer(problem("offset-mismatch", **refused), problem("invalid"))
    settle(harness.uploading, (first, second), answered)
    (stream,) = harness.spool.catalog.streams(1)
    assert (stream.known, stream.remote_position) == (False, None)
    settle(harness.uploading, (first, second), answered)
    (stream,) = harness.spool.catalog.streams(1)
    assert stream.remote_position == wire.RemotePosition(
        session=uuid.UUID(SESSION), stream="main", generation=0, length=offset or 0, sha256="12" * 32
    )


def test_an_endpoint_is_asked_again_after_it_stored_something(harness: DaemonHarness) -> None:
    """Two answers that state other positions, a year apart, are no reason to believe the second one."""
    _, first, second = items(harness)
    disputed = answer(problem("offset-mismatch", generation=0, offset=7, sha256="12" * 32))
    settle(harness.uploading, (first,), disputed)
    settle(harness.uploading, (first,), answer(None))
    settle(harness.uploading, (second,), disputed)
    (stream,) = harness.spool.catalog.streams(1)
    assert (stream.known, stream.remote_position) == (False, None)


def test_another_endpoint_is_asked_as_well(harness: DaemonHarness) -> None:
    """What the one before it has stated is no reason to believe this one at once."""
    _, first, _ = items(harness)
    disputed = answer(problem("offset-mismatch", generation=0, offset=7, sha256="12" * 32))
    settle(harness.uploading, (first,), disputed)
    harness.spool.set_meta(BOUND_ENDPOINT, str(uuid.UUID(int=1)))
    bind(harness.uploading)
    settle(harness.uploading, (first,), disputed)
    (stream,) = harness.spool.catalog.streams(1)
    assert (stream.known, stream.remote_position) == (False, None)


def test_the_results_behind_those_of_a_purged_session_count(harness: DaemonHarness) -> None:
    """Otherwise what the endpoint has stored of other sessions would be pushed once more."""
    purged, *_ = items(harness)
    harness.write(OTHER_FILE, claude(OTHER, 1))
    harness.scan()
    kept = next(record for record in harness.spool.outbox.sessions(10) if record.id != purged.id)
    purge_session(harness.ingesting, purged.id)
    assert settle(harness.uploading, (purged, kept), answer(None, None)).sessions == 1
    assert harness.spool.stats.waiting().sessions == 0


@pytest.mark.parametrize("generation", [None, 0])
def test_a_segment_that_the_endpoint_had_already_has_its_stream_compared(
    harness: DaemonHarness, generation: int | None
) -> None:
    """An earlier spool of this machine may have pushed more than the file has now."""
    _, first, _ = items(harness)
    results = [wire.Result(status="duplicate" if generation == 0 else "stored")]
    settle(harness.uploading, [first], wire.PushAnswer(batch=BATCH, results=results))
    assert len(harness.spool.outbox.unknown_streams(10)) == (generation == 0)


def test_another_endpoint_is_no_sign_of_a_second_copy(harness: DaemonHarness) -> None:
    """It was used before, perhaps long ago: its positions are doubted, and `status` reports nothing."""
    settle(harness.uploading, items(harness), answer(None, None, None))
    harness.spool.set_meta(LAST_BATCH, "the last one")
    harness.spool.set_meta("endpoint", "another one")
    store_batch_there(harness)
    assert not bind(harness.uploading)
    assert not read_copies(harness.spool).diverged_ms
    assert harness.spool.catalog.streams(1)[0].unproven


def store_batch_there(harness: DaemonHarness) -> None:
    """Have the endpoint remember a batch that is none of this spool's."""
    headers = {"Authorization": f"Bearer {harness.endpoint.token}", "Sessiond-Device": str(harness.device_id)}
    headers["Sessiond-Batch"] = "of another installation"
    assert httpx.post(
        f"{harness.endpoint.url}/v1/push", headers=headers, content=b"{}", verify=False, timeout=60
    ).is_success
