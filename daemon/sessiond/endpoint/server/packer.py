"""The packer: merges the small chunks that pushes add into larger ones, which compress better.

A push only adds chunks, because a chunk that is extended with each line would be written again with each line. Bytes
of a generation never change, so the packer reads and compresses outside the write transaction. In it, the packer only
replaces chunks that are still there: those of a session that was erased meanwhile are not stored again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec

from sessiond import zstd
from sessiond.endpoint.server.database import Database
from sessiond.errors import StateError

if TYPE_CHECKING:
    from sessiond.endpoint.server.store import Store

CHUNK = 64 << 10
"""Decoded bytes of the largest chunk that small ones are merged to."""
SOON = 20.0
"""Seconds after a push until generations with MANY small chunks are packed."""
LATER = 600.0
"""Seconds after a push until all others with small chunks are packed."""
MANY = 16
JOBS = 64
ROWS = 1000
"""Generations, and chunks of each, that are packed in one transaction."""
BYTES = 8 << 20
"""Decoded bytes that are packed in one transaction."""


class Chunk(msgspec.Struct, frozen=True):
    """A chunk of a generation; `frame` is None for one that is too large to be merged."""

    start: int
    length: int
    frame: bytes | None


class Merge(msgspec.Struct, frozen=True):
    """Chunks that one new chunk replaces."""

    old: list[Chunk]
    frame: bytes


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The packing of a generation: its merges, the small chunks that need no more packing, and the end of them."""

    stream: int
    generation: int
    merges: list[Merge]
    small: int
    packed: int


def pack(store: Store, least: int) -> int:
    """Pack generations with at least `least` small chunks, and return how many, up to JOBS.

    Raises:
        StateError: the store can't be read or written.
    """
    with store.read() as db:
        jobs = _jobs(db, least)
    if jobs:
        with store.write() as db:
            store.lock_chunks(db)
            for job in jobs:
                _save(db, job)
    return len(jobs)


def _jobs(db: Database, least: int) -> list[Job]:
    found = db.execute(
        "SELECT stream, generation, packed FROM generations WHERE tails > 0 AND tails >= ?"
        " ORDER BY stream, generation LIMIT ?",
        (least, JOBS),
    ).fetchall()
    jobs: list[Job] = []
    size = 0
    for stream, generation, packed in found:
        chunks = _chunks(db, stream, generation, packed)
        merges = merge(chunks)
        size += sum(chunk.length for each in merges for chunk in each.old)
        new = [chunk for chunk in chunks if chunk.start >= packed]
        if new:
            small = sum(chunk.length < CHUNK for chunk in new)
            end = new[-1].start + new[-1].length
            jobs.append(Job(stream=stream, generation=generation, merges=merges, small=small, packed=end))
        if size > BYTES:
            break
    return jobs


def _chunks(db: Database, stream: int, generation: int, packed: int) -> list[Chunk]:
    """Return the chunks behind `packed`, and the one before, which may have space left."""
    rows = db.execute(
        "SELECT start, length, CASE WHEN length < ? THEN frame END FROM chunks WHERE stream = ? AND generation = ?"
        " AND start >= coalesce((SELECT max(start) FROM chunks AS before WHERE before.stream = ?"
        " AND before.generation = ? AND before.start < ?), 0) ORDER BY start LIMIT ?",
        (CHUNK, stream, generation, stream, generation, packed, ROWS),
    )
    return [Chunk(*row) for row in rows]


def merge(chunks: Sequence[Chunk]) -> list[Merge]:
    """Return the merges of adjacent small chunks. Each new chunk has up to CHUNK bytes."""
    merges: list[Merge] = []
    run: list[Chunk] = []
    size = 0
    for chunk in chunks:
        if chunk.frame is None or size + chunk.length > CHUNK:
            _add(merges, run)
            run, size = [], 0
        if chunk.frame is not None:
            run.append(chunk)
            size += chunk.length
    _add(merges, run)
    return merges


def _add(merges: list[Merge], run: list[Chunk]) -> None:
    if len(run) > 1:
        plain = b"".join(zstd.decompress(chunk.frame, CHUNK) for chunk in run if chunk.frame is not None)
        merges.append(Merge(run, zstd.compress(plain)))


def _save(db: Database, job: Job) -> None:
    for each in job.merges:
        old = [value for chunk in each.old for value in (chunk.start, chunk.length)]
        removed = db.execute(
            "DELETE FROM chunks WHERE stream = ? AND generation = ? AND (start, length) IN"
            f" (VALUES {', '.join(['(?, ?)'] * len(each.old))})",
            (job.stream, job.generation, *old),
        ).rowcount
        if removed == 0:
            return  # the session was erased, or another process has packed it
        if removed != len(each.old):  # the transaction is rolled back, and the chunks stay as they are
            raise StateError(f"the chunks of stream {job.stream} changed while they were packed")
        db.execute(
            "INSERT INTO chunks (stream, generation, start, length, frame) VALUES (?, ?, ?, ?, ?)",
            (job.stream, job.generation, each.old[0].start, sum(chunk.length for chunk in each.old), each.frame),
        )
    db.execute(
        "UPDATE generations SET tails = tails - ?, packed = ? WHERE stream = ? AND generation = ?",
        (job.small, job.packed, job.stream, job.generation),
    )


class Packer:
    """Packs some time after pushes. Without pushes it does nothing. Use it from one event loop only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._limiter = anyio.CapacityLimiter(1)
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def note_push(self) -> None:
        """Pack later, because a push was stored."""
        loop = asyncio.get_running_loop()
        for least, seconds in ((MANY, SOON), (1, LATER)):
            if least not in self._timers:
                self._timers[least] = loop.call_later(seconds, self._start, least)

    def _start(self, least: int) -> None:
        del self._timers[least]
        task = asyncio.ensure_future(self._run(least))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, least: int) -> None:
        with suppress(StateError):  # the next push fails for the same reason and reports it; packing can wait
            while await anyio.to_thread.run_sync(pack, self._store, least, limiter=self._limiter):
                pass
