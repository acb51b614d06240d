"""From a stream's content to what the spool stores: folded, redacted, compressed, step by step.

A step is what fits into memory and into one transaction. Steps of a stream are made and stored in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import msgspec

from sessiond import zstd
from sessiond.ingest.content import Content
from sessiond.reader import CHUNK, Digest, Extent
from sessiond.session import Entry, Fold
from sessiond.sources.base import Source
from sessiond.spool import Spool
from sessiond.spool.rows import StreamState

STEP = 4 << 20
"""Bytes that are read between two commits."""

LEVEL = 1
"""Of zstd: 360 MB/s, where level 3 does 233 for a seventh less."""

DAMAGED = (msgspec.MsgspecError, ValueError, RecursionError)
"""What a source raises for a damaged record."""

Redact = Callable[[bytes], bytes]


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes for the outbox: redacted, as a zstd frame."""

    generation: int
    offset: int
    length: int
    data: bytes


class Step(msgspec.Struct, kw_only=True):
    """What one transaction stores."""

    extents: list[Extent] = []
    segments: list[Segment] = []
    run: list[bytes] = []
    """Redacted bytes that follow one another and are not yet packed: small records share a segment."""
    run_start: int = 0
    run_length: int = 0
    read: int = 0
    last: bool = False
    """Nothing follows: it is stored together with the session's new record."""
    gap_filled: tuple[int, int] | None = None
    """(end of the gap, how far it is filled)."""


class Capture:
    """Brings one stream from where the spool has it to where the source has it."""

    def __init__(
        self, spool: Spool, source: Source, stream: StreamState, redact: Redact, digest: Digest, budget: int
    ) -> None:
        self.stream = stream
        self._spool = spool
        self._source = source
        self._redact = redact
        self._digest = digest
        self._budget = budget
        self.touched = False
        """Whether anything was captured or healed: the session's record then needs a new look."""

    def rewrite(self, content: Content, keep: int, now_ms: int) -> None:
        """Begin a new generation that keeps the first bytes, and fold them anew: what follows may differ.

        What the outbox holds of the old generation stays there: it was on the disk, so it is history.
        """
        stream = self.stream
        fold = Fold()
        for chunk in content.chunks(0, keep):
            if not chunk.piece:
                decode(self._source, chunk.data, fold, now_ms)
        # What of the kept bytes the endpoint has not been promised is queued again, as this generation's.
        shared = min(keep, stream.queued, stream.gap[0] if stream.gap else keep)
        previous = stream.generation
        stream.fold, stream.folded, stream.queued, stream.gap = fold, keep, shared, None
        stream.generation += 1
        with self._spool.transaction():
            self._spool.catalog.cut_extents(stream.id, keep)
            self._spool.outbox.add_generation(stream.id, stream.generation, previous, shared, now_ms)
            self._spool.catalog.restart(stream.id, acked=shared)
            self._spool.catalog.save_stream(stream)
        self.touched = True

    def advance(self, content: Content, now_ms: int) -> Iterator[Step]:
        """Read what was added, step by step. The caller stores each step before it asks for the next."""
        stream = self.stream
        if stream.queued < stream.folded:
            yield from self._refill(content, stream.queued, stream.folded)
        step = Step()
        for chunk in content.chunks(stream.folded):
            if chunk.piece:
                stream.fold.oversized += chunk.last
            else:
                decode(self._source, chunk.data, stream.fold, now_ms)
            step.extents.append(Extent(start=chunk.offset, length=len(chunk.data), digest=self._digest(chunk.data)))
            # Rule 5: records outrun transcripts. Past the budget only the record goes on.
            if stream.queued == chunk.offset and self._has_room(step):
                self._queue(step, chunk.offset, self._redact(chunk.data))
                stream.queued = chunk.end
            stream.folded = chunk.end
            step.read += len(chunk.data)
            if step.read >= STEP and chunk.last:
                yield self._finished(step)
                step = Step()
        step.last = True
        yield self._finished(step) if step.read else step

    def fill_gap(self, content: Content) -> Iterator[Step]:
        """Queue again what the endpoint has acknowledged once and lost."""
        if self.stream.gap is not None:
            start, end = self.stream.gap
            yield from self._refill(content, start, end, gap=True)

    def _refill(self, content: Content, start: int, end: int, *, gap: bool = False) -> Iterator[Step]:
        step = Step()
        for extent in self._spool.catalog.extents(self.stream.id, start):
            # A gap is begun even without room: what fills the outbox may be waiting behind it.
            if extent.start >= end or not (self._has_room(step) or (gap and not step.read)):
                break
            data = content.slice(extent)
            if data is None:
                break  # rewritten meanwhile: the next look at the file finds it out
            cut, over = max(start - extent.start, 0), max(extent.end - end, 0)
            self._queue(step, extent.start + cut, self._redact(data)[cut : extent.length - over])
            step.read += len(data)
            if gap:
                step.gap_filled = (end, extent.end)
            else:
                self.stream.queued = extent.end
            if step.read >= STEP:
                yield self._finished(step)
                step = Step()
        if step.read:
            yield self._finished(step)

    def _has_room(self, step: Step) -> bool:
        packed = sum(len(segment.data) for segment in step.segments)
        return self._spool.outbox.size + packed + step.run_length < self._budget

    def _queue(self, step: Step, offset: int, masked: bytes) -> None:
        if step.run and (step.run_start + step.run_length != offset or step.run_length + len(masked) > CHUNK):
            self._pack(step)
        if not step.run:
            step.run_start = offset
        step.run.append(masked)
        step.run_length += len(masked)

    def _pack(self, step: Step) -> None:
        data = b"".join(step.run)
        for start in range(0, len(data), CHUNK):
            piece = data[start : start + CHUNK]
            step.segments.append(
                Segment(
                    generation=self.stream.generation,
                    offset=step.run_start + start,
                    length=len(piece),
                    data=zstd.compress(piece, LEVEL),
                )
            )
        step.run, step.run_length = [], 0

    def _finished(self, step: Step) -> Step:
        self._pack(step)
        self.touched = True
        return step

    def store(self, step: Step, now_ms: int) -> None:
        """Write a step; runs inside the transaction that also moves the checkpoint (rule 1)."""
        catalog, outbox = self._spool.catalog, self._spool.outbox
        catalog.put_extents(self.stream.id, step.extents)
        for segment in step.segments:
            outbox.add(self.stream.id, segment.generation, segment.offset, segment.length, segment.data, now_ms)
        catalog.save_stream(self.stream)
        if step.gap_filled is not None:
            catalog.fill_gap(self.stream.id, *step.gap_filled)


def decode(source: Source, data: bytes, fold: Fold, now_ms: int) -> None:
    """Fold a run of whole records. Rule 9: a bad one is counted and stops no other."""
    fold.add(_entries(source, data, fold), now_ms)


def _entries(source: Source, data: bytes, fold: Fold) -> Iterator[Entry | None]:
    read, memory = source.decode, fold.memory
    for line in _views(data) if source.views else data.split(b"\n"):
        if line:
            try:
                yield read(line, memory)
            except DAMAGED:
                if bytes(line).strip(b"\0 \t\r"):
                    fold.damaged += 1


def _views(data: bytes) -> Iterator[bytes]:
    """Split into lines without copying them; never splitlines(): U+2028 and U+0085 stand raw inside strings."""
    whole, start, find = cast(bytes, memoryview(data)), 0, data.find
    while (end := find(b"\n", start)) >= 0:
        yield whole[start:end]
        start = end + 1
    yield whole[start:]
