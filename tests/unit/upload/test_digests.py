"""The stream digests of a push: only what continues the very generation and length that is known has one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from sessiond.endpoint.stream_digest import StreamDigest
from sessiond.spool.rows import Segment
from sessiond.upload.digests import PushDigests
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness, encode

PUSHED = encode(claude(SESSION, 1))
MORE = b"more\n"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    """Yield a home whose only stream was pushed: generation 0, with the bytes PUSHED."""
    with daemon_harness(tmp_path) as made:
        made.write(CLAUDE, PUSHED)
        made.settle()
        yield made


def begun(harness: DaemonHarness) -> tuple[PushDigests, int]:
    """Begin a push of the stream; return its digests and the stream's number."""
    state = harness.spool.catalog.session(UUID(SESSION))
    assert state is not None
    (stream,) = harness.spool.catalog.streams(state.id)
    digests = PushDigests(harness.spool)
    digests.begin([stream.id])
    return digests, stream.id


def segment(stream: int, generation: int, offset: int, *, previous: int | None = None, keep: int = 0) -> Segment:
    return Segment(
        id=1,
        session=UUID(SESSION),
        stream_id=stream,
        stream="main",
        media_type=None,
        generation=generation,
        offset=offset,
        length=len(MORE),
        data=None,
        previous=previous,
        keep=keep,
    )


def digest(content: bytes) -> str:
    found = StreamDigest()
    found.update(content)
    return found.hexdigest()


@pytest.mark.parametrize(
    ("generation", "offset", "known"),
    [(0, len(PUSHED), True), (1, len(PUSHED), False), (0, len(PUSHED) - 1, False)],
)
def test_an_append_continues_the_generation_and_length_that_are_known(
    harness: DaemonHarness, generation: int, offset: int, *, known: bool
) -> None:
    digests, stream = begun(harness)
    found = digests.append(segment(stream, generation, offset), MORE)
    assert found == (digest(PUSHED + MORE) if known else None)


@pytest.mark.parametrize(
    ("previous", "keep", "known"),
    [(0, len(PUSHED), True), (1, len(PUSHED), False), (0, len(PUSHED) - 1, False)],
)
def test_a_generation_continues_all_that_is_known_of_the_one_before(
    harness: DaemonHarness, previous: int, keep: int, *, known: bool
) -> None:
    digests, stream = begun(harness)
    digests.begin_generation(segment(stream, 2, 0, previous=previous, keep=keep))
    assert digests.append(segment(stream, 2, keep), MORE) == (digest(PUSHED + MORE) if known else None)


def test_a_generation_that_keeps_nothing_begins_anew(harness: DaemonHarness) -> None:
    digests, stream = begun(harness)
    digests.begin_generation(segment(stream, 1, 0, previous=0))
    assert digests.append(segment(stream, 1, 0), MORE) == digest(MORE)
