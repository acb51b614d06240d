"""The packer: merges the small chunks that pushes add into larger ones, which compress better.

A push only adds chunks, because a chunk that is extended with each line would be written again with each line. Bytes
of a generation never change, so the packer reads and compresses outside the write transaction. In it, the packer only
replaces chunks that are still there: those of a session that was erased meanwhile are not stored again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from sessiond import zstd
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.reading import unpack
from sessiond.endpoint.server.streams import Damaged

if TYPE_CHECKING:
    from sessiond.endpoint.server.store import Store

CHUNK = 256 << 10
"""Decoded bytes of the largest chunk that small ones are merged to."""
MANY = 16
"""Small chunks of a generation that are worth packing soon."""
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
    """The packing of a generation: its merges, the small chunks that need no more packing, and the end of them.

    `before`: the end of those that needed none before.
    """

    stream: int
    generation: int
    merges: list[Merge]
    small: int
    packed: int
    before: int


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
            jobs.append(
                Job(stream=stream, generation=generation, merges=merges, small=small, packed=end, before=packed)
            )
        if size > BYTES:
            break
    return jobs


def _chunks(db: Database, stream: int, generation: int, packed: int) -> list[Chunk]:
    """Return the chunks behind `packed`, and the one before, which may have space left."""
    rows = db.execute(
        "SELECT start, length, CASE WHEN length < ? AND object IS NULL THEN frame END FROM chunks"
        " WHERE stream = ? AND generation = ? AND start >="
        " coalesce((SELECT max(start) FROM chunks AS before WHERE before.stream = ?"
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
    """Add the merge of a run. What is damaged stays as it is, and does not hold up other streams."""
    if len(run) > 1:
        with suppress(Damaged):
            plain = b"".join(unpack(chunk.frame, chunk.length) for chunk in run if chunk.frame is not None)
            merges.append(Merge(run, zstd.compress(plain)))


def _save(db: Database, job: Job) -> None:
    """Replace chunks. Do nothing if they changed: the session was erased, or another process was first."""
    row = db.execute(
        f"SELECT packed FROM generations WHERE stream = ? AND generation = ?{db.for_update}",
        (job.stream, job.generation),
    ).fetchone()
    if row is None or row[0] != job.before or not all(_unchanged(db, job, each) for each in job.merges):
        return
    added = 0
    for each in job.merges:
        _replace(db, job, each)
        added += len(each.frame) - sum(len(chunk.frame or b"") for chunk in each.old)
    db.execute(
        "UPDATE generations SET tails = tails - ?, packed = ?, waiting = waiting + ?"
        " WHERE stream = ? AND generation = ?",
        (job.small, job.packed, added, job.stream, job.generation),
    )


def _unchanged(db: Database, job: Job, merge: Merge) -> bool:
    """Return whether the chunks of a merge are still there. Until the transaction ends, only it replaces chunks."""
    where, values = _chunks_of(job, merge)
    (found,) = db.execute(f"SELECT count(*) FROM chunks WHERE {where}", values).fetchone()
    return bool(found == len(merge.old))


def _replace(db: Database, job: Job, merge: Merge) -> None:
    where, values = _chunks_of(job, merge)
    db.execute(f"DELETE FROM chunks WHERE {where}", values)
    db.execute(
        "INSERT INTO chunks (stream, generation, start, length, frame) VALUES (?, ?, ?, ?, ?)",
        (job.stream, job.generation, merge.old[0].start, sum(chunk.length for chunk in merge.old), merge.frame),
    )


def _chunks_of(job: Job, merge: Merge) -> tuple[str, list[int]]:
    """Return the condition for the chunks of a merge, and its values."""
    values = [value for chunk in merge.old for value in (chunk.start, chunk.length)]
    pairs = ", ".join(["(?, ?)"] * len(merge.old))
    where = f"stream = ? AND generation = ? AND object IS NULL AND (start, length) IN (VALUES {pairs})"
    return where, [job.stream, job.generation, *values]
