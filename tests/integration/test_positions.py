"""Each way in which the spool and the endpoint can differ, in one table with the result for the stream.

The spool has three lines of generation 1. A case says how many of them the endpoint acknowledged, whether the others
are in the outbox, what the endpoint holds now, and what became of the tool's file.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from sessiond import zstd
from sessiond.endpoint import wire
from sessiond.spool.safety import State
from sessiond.upload import bind
from support.harness import NOW_MS, DaemonHarness, claude, daemon_harness, encode

CAPTURED = 3
"""Lines of the file that the spool has captured. A fourth one was appended later."""


class Case(NamedTuple):
    """One row of the table; lengths are in lines."""

    acked: int
    queued: bool
    """Whether the lines that are not acknowledged are in the outbox. If not, it was full."""
    remote: int | None
    """The endpoint's current generation: None, 0 (other lines), 1 (the spool's), or 2 (which the spool lost)."""
    length: int
    """Lines of generation 1 at the endpoint."""
    same: bool
    """Whether lines that the spool does not know to be there are ours, or those of another copy of this machine."""
    file: str
    """What became of the tool's file: `grown`, `rewritten` or `gone`."""

    @property
    def lost(self) -> set[int]:
        """Return the lines that exist nowhere: not in the file or the outbox, and not acknowledged and still stored."""
        unsent = CAPTURED - self.acked
        if self.file == "grown":
            return {0}
        if self.file == "rewritten":
            # Old lines that were not in the outbox are lost. The count ends when the stream has to start over.
            return {0} if self.queued else {0, unsent}
        there = {None: 0, 0: 0, 1: min(self.acked, self.length), 2: self.acked}[self.remote]
        return {CAPTURED - there - (unsent if self.queued else 0)}


def cases() -> Iterator[Case]:
    for acked in range(CAPTURED + 1):
        for queued in (True, False) if acked < CAPTURED else (True,):
            for file in ("grown", "rewritten", "gone"):
                for remote in (None, 0):
                    yield Case(acked, queued, remote, 0, True, file)
                for length in range(CAPTURED + 2):
                    for same in (True, False) if length > acked else (True,):
                        yield Case(acked, queued, 1, length, same, file)
                for same in (True, False):
                    # An endpoint appends to its current generation only: what was acknowledged is older than the next.
                    yield Case(acked, queued, 2, acked, same, file)


CASES = list(cases())
SESSIONS = [f"5f1d7c1e-0000-4000-8000-{number:012x}" for number in range(len(CASES))]


def lines(session: str, first: int, last: int, text: str = "ours") -> bytes:
    """Return lines `first` to `last` (excluded) of a session. All have the same length, for a text of four letters."""
    return b"".join(encode(claude(session, number, text=f"{text} {number}")) for number in range(first, last))


def path_of(harness: DaemonHarness, session: str) -> Path:
    return Path(harness.home, ".claude/projects/-home-dev-project", f"{session}.jsonl")


def append(session: str, generation: int, offset: int, data: bytes) -> wire.PushAppend:
    frame = zstd.compress(data, 1)
    return wire.PushAppend(
        machine_id="testbox",
        session=uuid.UUID(session),
        stream="main",
        generation=generation,
        offset=offset,
        length=len(data),
        sha256=sha256(frame).hexdigest(),
        data=base64.b64encode(frame).decode(),
        encoding="zstd",
    )


def begin(session: str, generation: int) -> wire.PushGeneration:
    return wire.PushGeneration(
        machine_id="testbox",
        session=uuid.UUID(session),
        stream="main",
        generation=generation,
        previous=generation - 1,
        keep=0,
    )


def at_the_endpoint(case: Case, session: str) -> Iterator[wire.Push]:
    """Iterate over the pushes that bring the endpoint into the state of the case."""
    if case.remote is None:
        return
    yield append(session, 0, 0, lines(session, 0, 2, "once"))
    if case.remote == 0:
        return
    yield begin(session, 1)
    ours = min(case.length, case.acked)
    data = lines(session, 0, ours) + lines(session, ours, case.length, "ours" if case.same else "else")
    if data:
        yield append(session, 1, 0, data)
    if case.remote == 2:
        yield begin(session, 2)
        yield append(session, 2, 0, lines(session, 0, CAPTURED, "ours" if case.same else "else"))


def in_the_spool(harness: DaemonHarness, case: Case, session: str) -> None:
    """Bring the spool into the state of the case, as its own methods leave it."""
    catalog, outbox = harness.spool.catalog, harness.spool.outbox
    stream = catalog.find_stream(uuid.UUID(session), "main")
    assert stream is not None
    whole, acked = lines(session, 0, CAPTURED), len(lines(session, 0, case.acked))
    outbox.drop_generation(stream.id, 0)
    if case.acked == 0:
        outbox.add_generation(stream.id, 1, 0, 0, NOW_MS)
    if case.queued and acked < len(whole):
        outbox.add(stream.id, 1, acked, len(whole) - acked, zstd.compress(whole[acked:], 1), NOW_MS)
    stream.generation, stream.queued = 1, len(whole) if case.queued else acked
    catalog.save_stream(stream)
    catalog.set_position(stream.id, 1, stream.queued, acked, None)
    state = catalog.session_by_row(stream.session)
    assert outbox.acknowledge(msgspec.structs.replace(state, revision=1 << 60))


def at_the_tool(harness: DaemonHarness, case: Case, session: str) -> None:
    path = path_of(harness, session)
    if case.file == "gone":
        path.unlink()
    elif case.file == "grown":
        path.write_bytes(lines(session, 0, CAPTURED + 1))
    elif case.file == "rewritten":
        path.write_bytes(lines(session, 0, 1) + lines(session, 1, 2, "anew"))


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonHarness]:
    """Return a harness in which each case has its own session, after both sides have compared their positions."""
    with daemon_harness(tmp_path_factory.mktemp("positions")) as harness:
        bind(harness.uploading)
        for session in SESSIONS:
            path_of(harness, session).parent.mkdir(parents=True, exist_ok=True)
            path_of(harness, session).write_bytes(lines(session, 0, CAPTURED))
        harness.scan()
        pushes = (
            push for case, session in zip(CASES, SESSIONS, strict=True) for push in at_the_endpoint(case, session)
        )
        left: list[wire.Push] = []
        while batch := [*left, *islice(pushes, 150 - len(left))]:
            answer = harness.client.push(batch, "of-another-life")
            problems = [result.problem.type for result in answer.results if result.problem is not None]
            assert set(problems) <= {"push-full"}  # on a slow machine a push takes longer than one may
            left = batch[len(batch) - len(problems) :]
        with harness.spool.transaction():
            for case, session in zip(CASES, SESSIONS, strict=True):
                in_the_spool(harness, case, session)
        for case, session in zip(CASES, SESSIONS, strict=True):
            at_the_tool(harness, case, session)
        harness.retrying.identify_again()
        harness.settle()
        yield harness


def judge(harness: DaemonHarness, case: Case, session: str) -> Iterator[str]:
    """Iterate over the errors in the stream of a case."""
    found = harness.spool.catalog.session(uuid.UUID(session))
    assert found is not None
    (safety,) = harness.spool.safety.streams(found.id, harness.address)
    (stream,) = harness.spool.catalog.streams(found.id)
    path = path_of(harness, session)
    captured = path.read_bytes() if path.exists() else lines(session, 0, CAPTURED)
    if stream.folded != len(captured):
        yield f"{stream.folded} bytes captured of {len(captured)}"
    if safety.lost not in {count * len(lines(session, 0, 1)) for count in case.lost}:
        yield f"{safety.lost} bytes counted as lost"
    if safety.state is not (State.LOST if safety.lost else State.SAFE):
        yield f"state {safety.state.word}"
    if safety.state is State.SAFE and harness.held(session, generation=stream.generation)[: len(captured)] != captured:
        yield "reported as safe, and the endpoint has other bytes"
    if path.exists() and harness.held(session) != captured:
        yield "the endpoint's current generation is not the file"


def test_a_stream_is_safe_if_and_only_if_the_endpoint_has_its_bytes(settled: DaemonHarness) -> None:
    """Safe bytes are at the endpoint, lost ones exist nowhere, and nothing waits without end."""
    assert len(CASES) == len(set(CASES)) > 200
    assert 40 < sum(0 not in case.lost for case in CASES) < len(CASES) / 2
    wrong = [(case, list(judge(settled, case, session))) for case, session in zip(CASES, SESSIONS, strict=True)]
    report = "\n".join(f"{case}: {', '.join(found)}" for case, found in wrong if found)
    assert not report, report
