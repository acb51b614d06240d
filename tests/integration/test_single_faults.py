"""Faults that the larger tests meet only in passing, each by itself; docs/faults.md names them by their ids."""

from __future__ import annotations

import os
import shutil
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from sessiond.endpoint.answers import MAX_RETRY_AFTER
from sessiond.endpoint.backoff import next_wait
from sessiond.endpoint.server import running
from sessiond.errors import Unreachable
from support.harness import CLAUDE, NOW_MS, SESSION, TOKEN, DaemonHarness, claude, daemon_harness

OTHER = "5f1d7c1e-0000-4000-8000-000000000002"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def generations(harness: DaemonHarness, session: str = SESSION) -> list[int]:
    """Number the generations of a session's main stream at the endpoint."""
    (main,) = harness.get(f"/v1/sessions/testbox/{session}/streams").json()["streams"]
    return [each["generation"] for each in main["generations"]]


@pytest.mark.parametrize(
    "change",
    [str.upper, lambda name: unicodedata.normalize("NFD", name)],
    ids=["case", "normal form"],
)
def test_a_name_in_another_case_or_normal_form_is_the_same_file(
    harness: DaemonHarness, change: Callable[[str], str]
) -> None:
    """W16: the path is only a label. The stream continues where it was, and only new bytes are sent."""
    folder = os.path.join(harness.home, ".claude/projects/-home-café")
    path = harness.write(f"{folder}/{SESSION}.jsonl", claude(SESSION, 1, text="x" * 5000))
    harness.settle()
    other = os.path.join(os.path.dirname(folder), change(os.path.basename(folder)))
    os.rename(folder, other)
    path = harness.write(f"{other}/{SESSION}.jsonl", claude(SESSION, 2))
    del harness.transport.requests[:]
    harness.settle()
    assert harness.held(SESSION) == Path(path).read_bytes()
    assert generations(harness) == [0]
    assert sum(size for _, size in harness.transport.requests) < 2000
    assert harness.held_sessions()[SESSION]["record"]["source_path"] == path


def test_half_a_line_that_nobody_finishes_stays_in_its_file(harness: DaemonHarness) -> None:
    """R2: the tool crashed. Whole records are pushed, the session ends, nothing waits and nothing is retried."""
    half = b'{"type":"user","message":{"role":"us'
    path = harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2), half)
    harness.settle()
    whole = Path(path).read_bytes().removesuffix(half)
    assert harness.held(SESSION) == whole
    requests = len(harness.transport.requests)
    for _ in range(3):
        harness.now_ms += 3_600_000
        harness.settle()
    assert not harness.transport.requests[requests:] or all(
        size == 0 for _, size in harness.transport.requests[requests:]
    )
    assert harness.held_sessions()[SESSION]["record"]["message_count"] == 2
    os.unlink(path)
    harness.settle()
    assert harness.held(SESSION) == whole


def test_an_inode_that_is_used_again_is_another_file(harness: DaemonHarness) -> None:
    """R8: deleted and created again between two scans, longer than before, with the same inode and the same name."""
    path = harness.write(CLAUDE, *(claude(SESSION, n) for n in range(3)))
    before, inode = Path(path).read_bytes(), os.stat(path).st_ino
    harness.settle()
    others = []
    for number in range(100):
        os.unlink(path)
        harness.write(CLAUDE, *(claude(SESSION, n, text="another") for n in range(10, 20)))
        if os.stat(path).st_ino == inode:
            break
        others.append(os.path.join(harness.home, str(number)))  # it keeps the inode that was not wanted
        os.link(path, others[-1])
    else:
        pytest.skip("this filesystem gives no inode twice")
    harness.settle()
    assert harness.held(SESSION) == Path(path).read_bytes()
    assert harness.held(SESSION, generation=0) == before
    assert generations(harness) == [0, 1]


def test_a_file_with_two_names_is_one_stream(harness: DaemonHarness) -> None:
    """R11: a hard link in another project's directory adds nothing, by whichever name the tool goes on."""
    path = harness.write(CLAUDE, claude(SESSION, 1))
    second = os.path.join(harness.home, f".claude/projects/-elsewhere/{SESSION}.jsonl")
    os.makedirs(os.path.dirname(second))
    os.link(path, second)
    harness.settle()
    harness.write(second, claude(SESSION, 2))
    harness.settle()
    harness.write(path, claude(SESSION, 3))
    harness.settle()
    assert list(harness.held_sessions()) == [SESSION]
    assert harness.held(SESSION) == Path(path).read_bytes()
    assert generations(harness) == [0]


def test_a_file_that_grows_faster_than_it_is_pushed_starves_nobody(tmp_path: Path) -> None:
    """R16: the outbox keeps its budget, another session's record is pushed at once, and everything arrives."""
    budget = 2 << 20
    with daemon_harness(tmp_path, budget=budget) as harness:
        for turn in range(6):
            path = harness.write(CLAUDE, claude(SESSION, turn, text=os.urandom(1 << 20).hex()))
            os.utime(path, ns=((NOW_MS + 1000 * turn) * 1_000_000,) * 2)
            harness.scan()
            if turn == 4:
                other = harness.write(f".claude/projects/-x/{OTHER}.jsonl", claude(OTHER, 1))
                harness.scan()
            harness.push()
            if turn == 4:
                assert harness.held_sessions()[OTHER]["record"]["message_count"] == 1
            assert harness.spool.outbox.size <= budget + (1 << 20)
        assert harness.spool.stats.waiting().behind
        harness.settle(200)
        assert harness.held(SESSION) == Path(path).read_bytes()
        assert harness.held(OTHER) == Path(other).read_bytes()
        assert generations(harness) == [0]


def test_a_cloned_machine_overwrites_nothing(tmp_path: Path) -> None:
    """Q13: home and state were copied, and both machines go on. Everything that either wrote is in some generation."""
    with running(str(tmp_path / "endpoint"), token=TOKEN) as endpoint:
        one = DaemonHarness(str(tmp_path / "one"), endpoint)
        path = one.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2))
        one.settle()
        one.close()
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        one.client.close()
        one.open()
        two = DaemonHarness(str(tmp_path / "two"), endpoint)
        one.write(path, claude(SESSION, 3, text="at the first"))
        one.settle()
        other = two.write(CLAUDE, claude(SESSION, 4, text="at the second"), claude(SESSION, 5))
        two.settle()
        assert two.held(SESSION) == Path(other).read_bytes()
        one.write(path, claude(SESSION, 6, text="at the first again"))
        one.settle()
        assert one.held(SESSION) == Path(path).read_bytes()
        held = [one.held(SESSION, generation=number) for number in generations(one)]
        for harness in (one, two):
            assert (Path(harness.home) / CLAUDE).read_bytes() in held
            harness.client.close()
            harness.close()


def in_seconds(seconds: float) -> str:
    """Format a moment as HTTP does."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("said", "low", "high"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        pytest.param(in_seconds(3000), 500, 3000, id="date"),
        ("31536000", MAX_RETRY_AFTER, MAX_RETRY_AFTER),
        ("1e999", MAX_RETRY_AFTER, MAX_RETRY_AFTER),
        ("-5", None, None),
        ("0", None, None),
        ("nan", None, None),
        ("soon", None, None),
        ("", None, None),
        pytest.param(in_seconds(-1000), None, None, id="past"),
        ("Sun, 99 Foo 99999 25:61:61", None, None),
    ],
)
def test_what_retry_after_says_is_the_least_wait(
    harness: DaemonHarness, said: str, low: float | None, high: float | None
) -> None:
    """N5: it may be seconds or a date, and counts for an hour at most, plus a tenth. For the past and for nonsense our
    own waits apply.
    """
    harness.transport.fate = lambda *_: httpx.Response(
        429, headers={"retry-after": said}, stream=httpx.ByteStream(b"{}")
    )
    with pytest.raises(Unreachable) as raised:
        harness.push()
    asked = raised.value.retry_after
    assert (asked is None) == (low is None)
    if asked is not None and low is not None and high is not None:
        assert low <= asked <= high
        assert all(asked <= next_wait(raised.value, 1) <= max(2.0, asked * 1.1) for _ in range(100))


def test_a_slow_line_gets_small_batches_and_live_sessions_first(harness: DaemonHarness) -> None:
    """N21: no request is larger than ten seconds of 1 Mbit/s, and a live change is pushed before the backlog."""
    for number in range(8):
        name = str(uuid.UUID(int=uuid.UUID(SESSION).int + 100 + number))
        harness.write(f".claude/projects/-x/{name}.jsonl", claude(name, 1, text=os.urandom(300_000).hex()))
    harness.scan()
    harness.push()
    path = harness.write(CLAUDE, claude(SESSION, 1))
    harness.ingest(path)
    waiting = harness.spool.stats.waiting().segments
    assert waiting > 2
    harness.push()
    assert harness.held(SESSION) == Path(path).read_bytes()
    harness.settle()
    assert max(size for _, size in harness.transport.requests) < (1 << 20) + (1 << 18)


@pytest.mark.parametrize("date", ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 2999 23:59:59 GMT", "no date"])
def test_the_endpoints_clock_decides_nothing(harness: DaemonHarness, date: str) -> None:
    """N23: for any time of the endpoint, all arrives, and the records have the tool's times."""

    def fate(_: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        answer = send()
        answer.headers["date"] = date
        return answer

    harness.transport.fate = fate
    path = harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    assert harness.held(SESSION) == Path(path).read_bytes()
    assert harness.held_sessions()[SESSION]["record"]["started_at"] == "2026-09-01T10:00:01Z"


def test_an_outage_in_the_middle_of_halving_parks_nothing(harness: DaemonHarness) -> None:
    """A refusal halves the batch, and then the endpoint is unreachable: the rest stays undecided."""
    harness.push()  # both sides know one another
    for number in range(4):
        name = str(uuid.UUID(int=uuid.UUID(SESSION).int + number))
        harness.write(f".claude/projects/-x/{name}.jsonl", claude(name, 1))
    harness.scan()
    pushes = 0

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        nonlocal pushes
        if request.url.path == "/v1/push":
            pushes += 1
            if pushes == 1:
                return httpx.Response(413, stream=httpx.ByteStream(b"{}"))
            if pushes > 2:
                raise httpx.ConnectError("refused", request=request)
        return send()

    harness.transport.fate = fate
    with pytest.raises(Unreachable):
        harness.push()
    assert harness.spool.stats.waiting().parked == 0
    harness.transport.fate = None
    harness.settle()
    assert len(harness.held_sessions()) == 4
