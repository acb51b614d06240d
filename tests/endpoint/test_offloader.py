"""Chunks are moved to objects, and no byte changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from endpoint_lines import SESSION, append, generation, sender, store_push
from offloaded import check, push, read, rows
from stores import KINDS, move_all, new_store

from sessiond.endpoint.server import offloader, reading, streams
from sessiond.endpoint.server.offloader import offload
from sessiond.endpoint.server.packer import pack
from sessiond.endpoint.server.push import PushRequest
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.wire import Limits


@pytest.fixture(autouse=True)
def small_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Move any number of bytes."""
    monkeypatch.setattr(offloader, "SMALLEST", 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Yield a store in a directory, with objects in files."""
    with new_store("sqlite+files", tmp_path / "store") as it:
        yield it


def test_chunks_are_moved_and_read_from_there(store: Store) -> None:
    """All generations, ranges across objects and rows, and later appends."""
    content = b"".join(b"line %d of a transcript\n" % number for number in range(60_000))
    for at in range(0, len(content), 500_000):
        push(store, append(at, content[at : at + 500_000]))
    assert offload(store, 1)
    assert all(moved for _, _, moved in rows(store))
    assert max(length for _, length, _ in rows(store)) == offloader.PART
    assert not offload(store, 1)
    push(store, append(len(content), b"more\n"), generation(1, 0, 700), append(700, b"other\n", generation=1))
    assert read(store) == content + b"more\n"
    assert read(store, 1) == content[:700] + b"other\n"
    with store.read() as db:
        stream = streams.find(db, "default", "ada", SESSION, "main")
    assert stream is not None
    for start, end in [(0, 1), (offloader.PART - 1, offloader.PART + 1), (len(content) - 3, len(content) + 5), (9, 9)]:
        assert reading.read(store, stream, 0, start, end) == (content + b"more\n")[start:end]
    check(store)
    move_all(store)
    assert read(store) == content + b"more\n"
    check(store)


def test_one_request_reads_the_chunks_that_follow_each_other(store: Store) -> None:
    """A long stream costs few requests."""
    content = b"".join(os.urandom(30).hex().encode() for _ in range(50_000))
    for at in range(0, len(content), 1 << 20):
        push(store, append(at, content[at : at + (1 << 20)]))
    move_all(store)
    assert store.blobs is not None
    calls = []
    get = store.blobs.get
    store.blobs.get = lambda *where: calls.append(where) or get(*where)  # type: ignore[method-assign, func-returns-value]
    assert read(store) == content
    assert len(rows(store)) == 3
    assert len(calls) == 1


def test_small_sessions_stay_in_the_database(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object for each of them would cost more than it saves."""
    monkeypatch.setattr(offloader, "SMALLEST", 16 << 10)
    push(store, append(0, b"short\n"))
    assert not offload(store)
    push(store, append(6, os.urandom(9000).hex().encode()))
    assert not offload(store)
    push(store, append(6 + 18_000, os.urandom(16_000).hex().encode()))
    assert not offload(store, offloader.LARGE)
    assert offload(store)
    assert [moved for _, _, moved in rows(store)] == [True]


def test_the_index_of_candidates_is_used(store: Store) -> None:
    """Looking for work costs nothing if there is none, however many sessions there are."""
    where = "WHERE waiting >= 16384 AND waiting >= ? ORDER BY waiting DESC"
    with store.read() as db:
        plan = " ".join(
            row[3] for row in db.execute(f"EXPLAIN QUERY PLAN SELECT stream FROM generations {where}", (1,))
        )
    assert "generations_waiting" in plan


def test_an_object_has_bytes_of_one_session_of_one_user(store: Store) -> None:
    """Equal bytes of two users are two objects, in folders that differ."""
    for user in ("default", "bob"):
        request = PushRequest(store, Limits(), sender(user=user))
        store_push(store, request, msgspec.json.encode(append(0, b"the same bytes\n")))  # type: ignore[arg-type]
    push(store, append(0, b"the same bytes\n") | {"session": SESSION[:-1] + "2"})
    move_all(store)
    assert store.blobs is not None
    names = [each.name for each in store.blobs.list()]
    assert len(names) == 3
    assert len({name.partition("/")[0] for name in names}) == 2
    assert not any("bob" in name or "default" in name for name in names)


def test_a_large_session_needs_several_objects(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is limited by the size of an object."""
    monkeypatch.setattr(offloader, "OBJECT", 50_000)
    content = b"".join(os.urandom(10_000).hex().encode() for _ in range(12))
    for at in range(0, len(content), 20_000):
        push(store, append(at, content[at : at + 20_000]))
    while offload(store):
        pass
    assert all(moved for _, _, moved in rows(store))
    assert read(store) == content
    with store.read() as db:
        assert db.execute("SELECT count(*) FROM objects").fetchone()[0] >= 2
    check(store)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_move_of_a_stream_keeps_its_bytes(kind: str, tmp_path: Path) -> None:
    """Appends, generations, packing and moving in turn, on each kind of store."""
    held: dict[int, bytes] = {}
    with new_store(kind, tmp_path / "store") as store:
        for turn in range(12):
            latest = max(held, default=0)
            before = held.get(latest, b"")
            if turn % 4 == 3:
                keep = len(before) * 2 // 3
                push(store, generation(latest + 1, latest, keep))
                held[latest + 1] = before[:keep]
            else:
                added = (f"{turn} " * 900 * (turn + 1)).encode()
                push(store, append(len(before), added, generation=latest))
                held[latest] = before + added
            (pack, offload, lambda *_: None)[turn % 3](store, 1)
            for number, content in held.items():
                assert read(store, number) == content
        move_all(store)
        for number, content in held.items():
            assert read(store, number) == content
        check(store)
