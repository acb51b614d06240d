"""Stores whose chunks are moved to objects, and the objects of a store that fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import msgspec
from endpoint_lines import SESSION, sender, store_push
from stores import move_all

from sessiond.endpoint.server import packer, reading, streams
from sessiond.endpoint.server.blobs import Blobs, BlobsUnavailable, Listed
from sessiond.endpoint.server.push import PushRequest
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.wire import Limits


class Faulty:
    """Objects that fail when they are told to."""

    def __init__(self, inner: Blobs) -> None:
        self.inner = inner
        self.down = False
        self.before_put = lambda: None

    def put(self, name: str, data: bytes) -> None:
        self.before_put()
        self._check()
        self.inner.put(name, data)

    def get(self, name: str, start: int, end: int) -> bytes:
        self._check()
        return self.inner.get(name, start, end)

    def delete(self, names: Sequence[str]) -> None:
        self._check()
        self.inner.delete(names)

    def list(self) -> Iterator[Listed]:
        self._check()
        return self.inner.list()

    def _check(self) -> None:
        if self.down:
            raise BlobsUnavailable("the object store is down")


class Slow(Faulty):
    """Objects that are read only after `go`."""

    def __init__(self, inner: Blobs) -> None:
        super().__init__(inner)
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()

    def get(self, name: str, start: int, end: int) -> bytes:
        self.entered.release()
        self.go.wait(60)
        return self.inner.get(name, start, end)


def push(store: Store, *lines: dict[str, object]) -> None:
    """Push lines, each of which must be stored."""
    request = PushRequest(store, Limits(), sender())
    for result in store_push(store, request, *map(msgspec.json.encode, lines)).results:  # type: ignore[arg-type]
        assert result.status == "stored"


def read(store: Store, number: int = 0) -> bytes:
    """Return all bytes of a generation of the stream `main`."""
    with store.read() as db:
        stream = streams.find(db, "default", "ada", SESSION, "main")
        assert stream is not None
        row = streams.find_generation(db, stream, number)
    assert row is not None
    return reading.read(store, stream, number, 0, row.length)


def rows(store: Store) -> list[tuple[int, int, bool]]:
    """Return start, length and whether it is in an object, of each chunk."""
    with store.read() as db:
        found = db.execute("SELECT start, length, object IS NOT NULL FROM chunks ORDER BY stream, generation, start")
        return [(start, length, bool(moved)) for start, length, moved in found]


def check(store: Store) -> None:
    """Check the counters, and that the objects are those that the tables name."""
    with store.read() as db:
        wrong = db.execute(
            "SELECT * FROM generations AS g WHERE waiting <> (SELECT coalesce(sum(length(frame)), 0) FROM chunks AS c"
            " WHERE c.stream = g.stream AND c.generation = g.generation) OR tails <> (SELECT count(*) FROM chunks AS c"
            " WHERE c.stream = g.stream AND c.generation = g.generation AND start >= packed AND length < ?)",
            (packer.CHUNK,),
        ).fetchall()
        assert wrong == []
        named = {row[0] for row in db.execute("SELECT name FROM objects")}
        unused = (
            "SELECT name FROM objects AS o WHERE state = 1"
            " AND NOT EXISTS (SELECT 1 FROM chunks AS c WHERE c.object = o.object)"
        )
        assert db.execute(unused).fetchall() == []
    assert store.blobs is not None
    assert {each.name for each in store.blobs.list()} == named


def check_counters_then_move(store: Store) -> None:
    """Check a store before and after all is moved."""
    check(store)
    move_all(store)
    assert all(moved for _, _, moved in rows(store))
    check(store)
