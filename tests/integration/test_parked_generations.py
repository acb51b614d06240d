"""An item of a generation was parked: later generations go on without it, and a retry sends its bytes all the same."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.spool.rows import StreamState
from sessiond.spool.safety import State
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness, encode


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def stream(harness: DaemonHarness) -> StreamState:
    found = harness.spool.catalog.find_stream(uuid.UUID(SESSION), "main")
    assert found is not None
    return found


def state(harness: DaemonHarness) -> State:
    return harness.spool.safety.session(stream(harness).session, harness.address)


def rewrite(harness: DaemonHarness, text: str, *, keep: int) -> bytes:
    """Replace the file's second half, or all of it, and capture that; return the content."""
    first = encode(claude(SESSION, 1))
    content = (first if keep else b"") + encode(claude(SESSION, 2, text=text))
    Path(harness.home, CLAUDE).write_bytes(content)
    harness.scan()
    return content


def park_start(harness: DaemonHarness, generation: int) -> None:
    with harness.spool.transaction():
        harness.spool.connection.execute(
            "UPDATE segment SET parked = 'no' WHERE generation = ? AND length = 0", (generation,)
        )
        harness.spool.connection.execute("UPDATE stream SET waiting = waiting - 1")


def held(harness: DaemonHarness) -> list[bytes]:
    """Return what the endpoint has of each generation, the current one last."""
    (main,) = harness.get(f"/v1/sessions/testbox/{SESSION}/streams").json()["streams"]
    return [harness.held(SESSION, generation=each["generation"]) for each in main["generations"]]


def divided(harness: DaemonHarness, *, keep: int) -> tuple[bytes, bytes]:
    """Push one generation, queue two more, and park the start of the first of them; return the two contents."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.settle()
    between = rewrite(harness, "between", keep=keep)
    last = rewrite(harness, "the last", keep=keep)
    assert stream(harness).generation == 2
    park_start(harness, 1)
    return between, last


@pytest.mark.parametrize("keep", [0, 1])
def test_a_later_generation_does_not_go_in_circles(harness: DaemonHarness, keep: int) -> None:
    """It is sent once more at most, under another number if need be, and not again and again."""
    _, last = divided(harness, keep=keep)
    for _ in range(10):
        harness.scan()
        harness.push()
    assert harness.held(SESSION) == last
    assert [path for path, _ in harness.transport.requests].count("/v1/push") < 6


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("keep", [0, 1])
def test_what_is_tried_again_arrives_and_the_last_generation_stays_current(
    harness: DaemonHarness, keep: int, gone: bool
) -> None:
    between, last = divided(harness, keep=keep)
    for _ in range(4):
        harness.scan()
        harness.push()
    if gone:
        Path(harness.home, CLAUDE).unlink()
        harness.scan()
    with harness.spool.transaction():
        harness.spool.outbox.retry()
    harness.settle()
    assert held(harness)[-1] == last == harness.held(SESSION, generation=stream(harness).generation)
    assert any(each.endswith(between[-20:]) for each in held(harness))
    if keep == 0:
        assert between in held(harness)
        assert state(harness) is State.SAFE


def test_the_first_bytes_of_a_lost_spool_go_on_though_the_endpoint_has_others(harness: DaemonHarness) -> None:
    """The first generation has no start of its own: its first bytes are refused, while a later one is stored."""
    harness.write(CLAUDE, claude(SESSION, 1, text="what the endpoint has"))
    harness.settle()
    harness.close()
    Path(harness.state, "spool.db").unlink()
    harness.open()
    harness.push()  # with nothing: the endpoint has answered before anything is captured
    other = encode(claude(SESSION, 1, text="what only the outbox has")) * 2
    harness.write(CLAUDE, other, mode="wb")
    harness.scan()
    last = rewrite(harness, "the last", keep=0)
    harness.settle()
    assert harness.held(SESSION) == last
    assert other in held(harness)
    assert not harness.spool.stats.waiting().segments
