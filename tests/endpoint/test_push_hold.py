"""How long one push holds the only writer, for which all other devices wait."""

from __future__ import annotations

import gc
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from endpoint_lines import SESSION, Line, append, generation, record, sender, store_push
from test_work import packed

from sessiond.endpoint.server.packer import CHUNK
from sessiond.endpoint.server.push import SECONDS, PushRequest
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.wire import Limits

MIB = 1 << 20
LONGEST = 1.0
"""Seconds of CPU: SECONDS for the lines, and the rest for the line that exceeds them and for the commit."""


class TimedStore(SqliteStore):
    """A store that measures the CPU time for which its writer is held. Other processes don't change that figure."""

    longest = 0.0

    @contextmanager
    def write(self) -> Iterator[Any]:
        with super().write() as db:
            begun = time.thread_time()
            yield db
            held = time.thread_time() - begun
        self.longest = max(self.longest, held)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TimedStore]:
    """Return a store. The objects of all tests before this one are not searched for garbage while it is timed."""
    gc.collect()
    gc.freeze()
    made = TimedStore(str(tmp_path / "store"))
    yield made
    made.close()
    gc.unfreeze()


def push(store: SqliteStore, lines: list[Line]) -> list[str]:
    """Push lines; return the result of each."""
    outcome = store_push(store, PushRequest(store, Limits(), sender()), *map(msgspec.json.encode, lines))
    return [each.problem.type if each.problem else each.status for each in outcome.results]


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size // 2).hex().encode()


def appends_to_a_full_chunk() -> list[list[Line]]:
    """Each short append decompresses and compresses the last chunk again."""
    start = noise(CHUNK - 2000)
    return [[append(0, start)], [append(len(start) + at, b"x") for at in range(1000)]]


def large_segments() -> list[list[Line]]:
    return [[packed(at * 4 * MIB, bytes(4 * MIB)) for at in range(8)]]


def large_records() -> list[list[Line]]:
    return [[record(id=str(uuid.UUID(int=at))) | {"title": noise(MIB - 4000).decode()} for at in range(1, 31)]]


def generations_upon_generations() -> list[list[Line]]:
    """Each generation shares the bytes of the one before, through all of them."""
    lines = [generation(number, number - 1, 1) for number in range(1, 5000)]
    return [[append(0, b"x")], *(lines[at : at + 999] for at in range(0, len(lines), 999))]


def repeated_lines() -> list[list[Line]]:
    """The same push stores the first line, so the others are compared with it inside the transaction."""
    return [[packed(0, bytes(4 * MIB)), *(append(at, b"\0" * 10) for at in range(999))]]


def a_record_with_many_streams() -> list[list[Line]]:
    names = [f"agents/{number}" for number in range(3000)]
    pushes = [[append(0, b"xy", stream=name) for name in names[at : at + 1000]] for at in range(0, len(names), 1000)]
    shown = [{"name": name, "generation": 0, "length": 1} for name in names]
    return [*pushes, [record(revision) | {"streams": shown} for revision in range(1, 10)]]


@pytest.mark.parametrize(
    "pushes",
    [
        appends_to_a_full_chunk,
        large_segments,
        large_records,
        generations_upon_generations,
        repeated_lines,
        a_record_with_many_streams,
    ],
    ids=lambda each: each.__name__,
)
def test_no_push_holds_the_writer_for_long(store: TimedStore, pushes: Callable[[], list[list[Line]]]) -> None:
    """Lines beyond the time limit are answered `push-full`, except the first one. The kind of lines does not matter."""
    assert SECONDS < LONGEST
    for lines in pushes():
        results = push(store, lines)
        assert set(results) <= {"stored", "duplicate", "push-full"}
        assert results[0] != "push-full"
    assert 0 < store.longest < LONGEST
    with store.read() as db:
        found = db.execute("SELECT count(*) FROM streams WHERE session = ?", (SESSION,)).fetchone()[0]
        records = db.execute("SELECT count(*) FROM sessions").fetchone()[0]
    assert found + records


def test_a_longer_hold_would_be_noticed(store: TimedStore) -> None:
    """The measured time is that of the transaction."""
    with store.write():
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
    assert store.longest >= 0.05
