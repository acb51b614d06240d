"""An item of a generation was parked: later generations go on without it, and a retry sends its bytes all the same."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.spool.rows import StreamState
from sessiond.spool.safety import State
from support.harness import CLAUDE, SESSION, Household, claude, encode, household


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Household]:
    with household(tmp_path) as made:
        yield made


def stream(house: Household) -> StreamState:
    found = house.spool.catalog.find_stream(uuid.UUID(SESSION), "main")
    assert found is not None
    return found


def state(house: Household) -> State:
    return house.spool.safety.session(stream(house).session, house.address)


def rewrite(house: Household, text: str, *, keep: int) -> bytes:
    """Replace the file's second half, or all of it, and capture that; return the content."""
    first = encode(claude(SESSION, 1))
    content = (first if keep else b"") + encode(claude(SESSION, 2, text=text))
    Path(house.home, CLAUDE).write_bytes(content)
    house.scan()
    return content


def park_start(house: Household, generation: int) -> None:
    with house.spool.transaction():
        house.spool.connection.execute(
            "UPDATE segment SET parked = 'no' WHERE generation = ? AND length = 0", (generation,)
        )
        house.spool.connection.execute("UPDATE stream SET waiting = waiting - 1")


def held(house: Household) -> list[bytes]:
    """Return what the endpoint has of each generation, the current one last."""
    (main,) = house.get(f"/v1/sessions/testbox/{SESSION}/streams").json()["streams"]
    return [house.held(SESSION, generation=each["generation"]) for each in main["generations"]]


def divided(house: Household, *, keep: int) -> tuple[bytes, bytes]:
    """Push one generation, queue two more, and park the start of the first of them; return the two contents."""
    house.write(CLAUDE, claude(SESSION, 1))
    house.scan()
    house.write(CLAUDE, claude(SESSION, 2))
    house.settle()
    between = rewrite(house, "between", keep=keep)
    last = rewrite(house, "the last", keep=keep)
    assert stream(house).generation == 2
    park_start(house, 1)
    return between, last


@pytest.mark.parametrize("keep", [0, 1])
def test_a_later_generation_does_not_go_in_circles(house: Household, keep: int) -> None:
    """It is sent once more at most, under another number if need be, and not again and again."""
    _, last = divided(house, keep=keep)
    for _ in range(10):
        house.scan()
        house.push()
    assert house.held(SESSION) == last
    assert [path for path, _ in house.transport.requests].count("/v1/push") < 6


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("keep", [0, 1])
def test_what_is_tried_again_arrives_and_the_last_generation_stays_current(
    house: Household, keep: int, gone: bool
) -> None:
    between, last = divided(house, keep=keep)
    for _ in range(4):
        house.scan()
        house.push()
    if gone:
        Path(house.home, CLAUDE).unlink()
        house.scan()
    with house.spool.transaction():
        house.spool.outbox.retry()
    house.settle()
    assert held(house)[-1] == last == house.held(SESSION, generation=stream(house).generation)
    assert any(each.endswith(between[-20:]) for each in held(house))
    if keep == 0:
        assert between in held(house)
        assert state(house) is State.SAFE
