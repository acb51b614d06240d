"""What a push reports, and how it handles refusals."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from sessiond import zstd
from sessiond.errors import EndpointError, SpoolDamaged
from sessiond.upload import BATCH_ITEMS, LAST_BATCH, BatchResult, begin_run, bind, upload
from sessiond.upload.context import KEPT_RUNS
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness, pushed

OTHER = "5f1d7c1e-0000-4000-8000-000000000002"
OTHER_FILE = f".claude/projects/-home-dev-project/{OTHER}.jsonl"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def test_a_push_counts_what_it_parked(harness: DaemonHarness) -> None:
    """An item that is refused alone while others are accepted counts like those that an answer parked."""
    for number in (1, 2):
        harness.settle()
        harness.write(CLAUDE, claude(SESSION, number))
        harness.write(OTHER_FILE, claude(OTHER, number))
    harness.scan()
    harness.transport.fate = refusing(OTHER)
    result = harness.push()
    assert (result.parked, result.sessions, result.segments) == (1, 2, 1)
    assert harness.spool.stats.waiting().parked == 1


def test_records_and_segments_share_a_batch(harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (1, 2):
        harness.settle()
        for number in range(6):
            session = f"{number}{SESSION[1:]}"
            harness.write(CLAUDE.replace(SESSION, session), claude(session, line))
    harness.scan()
    monkeypatch.setattr("sessiond.upload.BATCH_ITEMS", 4)
    result = harness.push()
    assert (result.sessions, result.segments) == (2, 2)


@pytest.mark.parametrize("records", [0, 1])
def test_whatever_was_stored_beside_a_refused_item_shows_that_the_item_is_at_fault(
    harness: DaemonHarness, records: int
) -> None:
    """One segment alone, or as many records as segments."""
    for number in (1, 2):
        harness.settle()
        harness.write(CLAUDE, claude(SESSION, number))
        harness.write(OTHER_FILE, claude(OTHER, number))
    harness.scan()
    with harness.spool.transaction():
        for record in harness.spool.outbox.sessions(10):
            if str(record.uuid) != SESSION or not records:
                harness.spool.outbox.park_session(record.id, record.revision, "left out")

    harness.transport.fate = refusing(OTHER)
    result = harness.push()
    assert (result.parked, result.sessions, result.segments) == (1, records, 1)


def refusing(session: str) -> Callable[[httpx.Request, Callable[[], httpx.Response]], httpx.Response]:
    """Refuse each push with bytes of a session as a whole."""

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        if request.url.path == "/v1/push":
            body = pushed(request.headers["content-encoding"], request.content)
            if b'"op":"append"' in body and session.encode() in body:
                return httpx.Response(400, stream=httpx.ByteStream(b"{}"))
        return send()

    return fate


def test_a_segment_that_is_damaged_on_disk_is_not_parked(harness: DaemonHarness) -> None:
    """The tool's file still has these bytes, and they are read again."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 2, text=os.urandom(60_000).hex()))
    harness.scan()
    spoiled = "substr(data, 1, 20000) || zeroblob(100) || substr(data, 20101)"
    harness.spool.connection.execute(f"UPDATE segment SET data = CAST({spoiled} AS BLOB)")
    with pytest.raises(SpoolDamaged):
        harness.push()
    assert harness.spool.stats.waiting().parked == 0


def test_an_endpoint_that_was_restored_is_asked_everything_once(harness: DaemonHarness) -> None:
    """Both sides remember the same push afterwards, also before there is anything to push."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    with harness.spool.transaction():
        harness.spool.set_meta(LAST_BATCH, "a push that the endpoint does not remember")
    assert not bind(harness.uploading)
    assert bind(harness.uploading)
    upload(harness.uploading)
    assert bind(harness.uploading)


def test_a_push_whose_answer_was_lost_does_not_make_another_endpoint(harness: DaemonHarness) -> None:
    """The endpoint stored it under a name that follows from the last one: nothing is asked for or sent again."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.scan()

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        answer = send()
        if request.url.path == "/v1/push":
            raise httpx.ReadError("the line broke")
        return answer

    harness.transport.fate = fate
    with pytest.raises(EndpointError):
        harness.push()
    harness.transport.fate = None
    assert bind(harness.uploading)


def test_a_push_after_a_lost_answer_has_a_name_of_its_own(harness: DaemonHarness) -> None:
    """An endpoint that is restored to the state between the two pushes must not pass for one that has both."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    names: list[str] = []

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        answer = send()
        if request.url.path == "/v1/push":
            names.append(request.headers["sessiond-batch"])
            if len(set(names)) == 1:
                raise httpx.ReadError("the line broke")
        return answer

    harness.transport.fate = fate
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.scan()
    with pytest.raises(EndpointError):
        harness.push()
    assert len(set(names)) == 1
    harness.write(CLAUDE, claude(SESSION, 3))
    harness.scan()
    assert harness.push().segments > 0
    assert len(set(names)) == 2


def test_records_leave_half_of_a_batch_to_transcripts(harness: DaemonHarness) -> None:
    """More records than a batch has items don't keep the transcripts back, and the batch stays within its bound."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    with harness.spool.transaction():
        for number in range(1, BATCH_ITEMS + 50):
            harness.spool.connection.execute(
                "INSERT INTO session (uuid, tool, native_id, record, revision)"
                " SELECT ?, tool, ?, record, 7 FROM session WHERE id = 1",
                (str(uuid.UUID(int=number)), str(number)),
            )
            harness.spool.outbox.add(1, 0, 1_000_000 + number, 1, zstd.compress(b"x", 1), harness.now_ms)
    lines: list[bytes] = []

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        lines.extend(pushed(request.headers["content-encoding"], request.content).splitlines())
        raise httpx.ReadError("the line broke")

    harness.transport.fate = fate
    with pytest.raises(EndpointError):
        upload(harness.uploading)
    sent = lines[:BATCH_ITEMS]
    assert sum(b'"op":"session"' in line for line in sent) == BATCH_ITEMS // 2
    assert sum(b'"op":"append"' in line for line in sent) == BATCH_ITEMS // 2
    assert set(lines[BATCH_ITEMS:]) <= set(sent)


def test_the_names_of_the_last_runs_are_kept_and_no_more(harness: DaemonHarness) -> None:
    """A batch is recognized although the daemon was restarted since, and each restart costs the same."""
    runs = [begin_run(harness.spool) for _ in range(KEPT_RUNS + 3)]
    newest_first = tuple(run[0] for run in reversed(runs))
    assert runs[-1] == newest_first[:KEPT_RUNS]


def test_the_parts_of_a_push_add_up() -> None:
    """The last part decides what is left to do."""
    first = BatchResult(sessions=1, segments=2, bytes=3, parked=4, healed=5, asked=6, more=True)
    second = BatchResult(sessions=10, segments=20, bytes=30, parked=40, healed=50, asked=60)
    assert first.plus(second) == BatchResult(sessions=11, segments=22, bytes=33, parked=44, healed=55, asked=60)
    assert second.plus(first).more
