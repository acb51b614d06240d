"""Small chunks are merged later, and no byte changes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue

import msgspec
import pytest
from endpoint_lines import SESSION, Pusher, append, generation, sender, store_push

from sessiond import zstd
from sessiond.endpoint.server import erase, packer, reading, running, upkeep
from sessiond.endpoint.server.packer import CHUNK, MANY, Chunk, merge, pack
from sessiond.endpoint.server.push import PushRequest
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.wire import Limits

WORDS = [random.Random(number).randbytes(4).hex() for number in range(300)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(str(tmp_path / "store"))
    yield made
    made.close()


def push_lines(store: SqliteStore, count: int, offset: int = 0, of: int = 0) -> bytes:
    """Append lines one push at a time; return them."""
    content = b""
    for number in range(count):
        chance = random.Random(number)
        line = (" ".join(chance.choice(WORDS) for _ in range(150)) + "\n").encode()
        item = append(offset + len(content), line, generation=of)
        (result,) = store_push(store, PushRequest(store, Limits(), sender()), msgspec.json.encode(item)).results
        assert result.status == "stored"
        content += line
    return content


def rows(store: SqliteStore) -> list[tuple[int, int]]:
    """Return start and length of the chunks of generation 0."""
    with store.read() as db:
        return db.execute("SELECT start, length FROM chunks WHERE generation = 0 ORDER BY start").fetchall()


def read(store: SqliteStore, number: int, end: int) -> bytes:
    return reading.read(store, 1, number, 0, end)


def test_lines_are_merged_into_chunks_of_64_kib(store: SqliteStore) -> None:
    content = push_lines(store, 100)
    before = sum(len(row[0]) for row in frames(store))
    assert len(rows(store)) == 100
    assert pack(store, packer.MANY) == 1
    assert read(store, 0, len(content)) == content
    found = rows(store)
    assert found[0][0] == 0
    assert all(start + length == after for (start, length), (after, _) in pairwise(found))
    assert all(length > CHUNK // 2 for _, length in found[:-1])
    assert sum(len(row[0]) for row in frames(store)) < before
    assert pack(store, 1) == 0, "nothing is left to pack"


def frames(store: SqliteStore) -> list[tuple[bytes]]:
    with store.read() as db:
        return db.execute("SELECT frame FROM chunks").fetchall()


def test_later_lines_fill_the_last_chunk(store: SqliteStore) -> None:
    content = push_lines(store, 5)
    assert pack(store, 1) == 1
    content += push_lines(store, 5, len(content))
    assert pack(store, 1) == 1
    assert rows(store) == [(0, len(content))]
    assert read(store, 0, len(content)) == content


def test_a_single_line_waits_for_others(store: SqliteStore) -> None:
    push_lines(store, packer.MANY - 1)
    assert pack(store, packer.MANY) == 0


def test_a_generation_keeps_the_bytes_that_it_shares(store: SqliteStore) -> None:
    content = push_lines(store, 10)
    begin = msgspec.json.encode(generation(1, 0, len(content) - 30))
    store_push(store, PushRequest(store, Limits(), sender()), begin)
    later = push_lines(store, 10, len(content) - 30, of=1)
    assert pack(store, 1) == 2
    assert read(store, 0, len(content)) == content
    assert read(store, 1, len(content) - 30 + len(later)) == content[:-30] + later


def test_a_session_that_is_erased_meanwhile_does_not_come_back(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chunks were read before it was erased, and would be written after that."""
    push_lines(store, 10)
    jobs = packer._jobs

    def erase_then(*arguments: object) -> list[packer.Job]:
        found = jobs(*arguments)  # type: ignore[arg-type]
        order = erase.Order(access=sender().access, device=sender().device, session=SESSION, machine="ada")
        with store.write() as db:
            erase.erase_rows(db, store, "default", order.session, ["ada"])
        return found

    monkeypatch.setattr(packer, "_jobs", erase_then)
    assert pack(store, 1) == 1
    assert rows(store) == []


def test_large_chunks_stay_as_they_are() -> None:
    """They divide the small ones, which are merged only with their neighbours."""
    small = [Chunk(at, 10, b"") for at in (0, 10)]
    large = Chunk(20, CHUNK, None)
    assert merge([large]) == []
    assert merge([small[0], large, Chunk(20 + CHUNK, 10, b"")]) == []


def test_a_chunk_is_filled_to_its_last_byte() -> None:
    whole = [Chunk(0, 1, zstd.compress(b"a")), Chunk(1, CHUNK - 1, zstd.compress(b"b" * (CHUNK - 1)))]
    assert [each.old for each in merge(whole)] == [whole]
    assert merge([whole[0], Chunk(1, CHUNK, zstd.compress(b"b" * CHUNK))]) == []


def test_an_endpoint_packs_some_time_after_a_push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generations with many chunks soon, and all others later. Nobody asks for it."""
    monkeypatch.setattr(upkeep, "SOON", 0.0)
    monkeypatch.setattr(upkeep, "LATER", 0.0)
    packed: SimpleQueue[int] = SimpleQueue()

    def noted(store: Store, least: int) -> int:
        packed.put(least)
        return pack(store, least)

    monkeypatch.setattr(upkeep, "pack", noted)
    with running(str(tmp_path / "served"), token="t" * 20) as endpoint, Pusher(endpoint.url, endpoint.token) as pusher:
        assert packed.empty()
        pusher.lines(append(0, b"one\n"))
        first, second = packed.get(timeout=30), packed.get(timeout=30)
    assert {first, second} >= {MANY}
    assert first != second
