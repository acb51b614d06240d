"""From a stream's content to what the spool stores: folded, redacted, compressed, step by step.

A step is what fits into memory and into one transaction. Steps of a stream are made and stored in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import cast

import msgspec

from sessiond import zstd
from sessiond.ingest.content import Content
from sessiond.privacy import Masking
from sessiond.reader import CHUNK, Digest, Extent
from sessiond.redact.policy import Masked
from sessiond.session import Entry, Fold
from sessiond.sources.base import Source
from sessiond.spool import Spool
from sessiond.spool.rows import StreamState

STEP = 4 << 20
"""Bytes that are read between two commits."""

OVERLAP = 1 << 16
"""Bytes of a long record that are looked at again before what is queued of it; no secret is longer."""

LEVEL = 1
"""Of zstd: 360 MB/s, where level 3 does 233 for a seventh less."""

DAMAGED = (
    msgspec.MsgspecError,
    ValueError,
    RecursionError,
    # A cell of a database has any type at all, whatever its column says: rule 9 is kept here and not by each source.
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
)
"""What a source raises for a damaged record."""


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
    redactions: Counter[str] = msgspec.field(default_factory=Counter)
    """Secrets that were masked, by their rule."""
    gap_filled: tuple[int, int] | None = None
    """(end of the gap, how far it is filled)."""


class StreamCapture:
    """Brings one stream from where the spool has it to where the source has it."""

    def __init__(
        self,
        spool: Spool,
        source: Source,
        stream: StreamState,
        masking: Masking,
        digest: Digest,
        budget: int,
        path: str,
        latest_ms: int,
    ) -> None:
        """`path` is the file that is read, for rules about paths; times after `latest_ms` are not believed."""
        self.stream = stream
        self._spool = spool
        self._source = source
        self._masking = masking
        self._path = path
        self._latest_ms = latest_ms
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
                decode(self._source, chunk.data, fold, self._latest_ms)
        # What of the kept bytes the endpoint has not been promised is queued again, as this generation's.
        kept = stream.queued if stream.skipped is None else stream.skipped
        shared = min(keep, kept, stream.gap[0] if stream.gap else keep)
        lost = stream.folded - max(keep, stream.queued)
        if stream.gap is not None:  # it was to be read again, for an endpoint that lacks it, and was rewritten before
            lost += max(0, stream.gap[1] - max(keep, stream.gap[0]))
        previous = stream.generation
        stream.fold, stream.folded, stream.queued, stream.gap = fold, keep, shared, None
        stream.generation += 1
        if stream.skipped is not None:
            stream.skipped, stream.queued = shared, keep
        with self._spool.transaction():
            self._spool.catalog.cut_extents(stream.id, keep)
            self._spool.outbox.add_generation(stream.id, stream.generation, previous, shared, now_ms)
            self._spool.catalog.restart(stream.id, acked=shared)
            if lost > 0:  # it waited for room in the file, and stands there no more
                self._spool.catalog.add_lost(stream.id, lost)
            self._spool.catalog.save_stream(stream)
        self.touched = True

    def read_new(self, content: Content) -> Iterator[Step]:
        """Read what was added, step by step. The caller stores each step before it asks for the next."""
        stream = self.stream
        yield from self.requeue(content)
        step, run = Step(), self._masking.run(self._path)
        fed: int | None = stream.queued
        for chunk in content.chunks(stream.folded):
            if chunk.piece:
                stream.fold.oversized += chunk.last
            else:
                decode(self._source, chunk.data, stream.fold, self._latest_ms)
            step.extents.append(Extent(start=chunk.offset, length=len(chunk.data), digest=self._digest(chunk.data)))
            if stream.skipped is not None:
                stream.queued = chunk.end
            # Rule 5: records outrun transcripts. Past the budget only the record goes on.
            elif fed == chunk.offset and self._has_room(step):
                for offset, masked in run.feed(chunk.offset, chunk.data):
                    stream.queued = self._queue_masked(step, offset, masked)
                fed = chunk.end
            else:
                fed = None
            stream.folded = chunk.end
            step.read += len(chunk.data)
            if step.read >= STEP and chunk.last:
                yield self._finished(step)
                step = Step()
        step.last = True
        yield self._finished(step) if step.read else step

    def requeue(self, content: Content) -> Iterator[Step]:
        """Queue what was captured and had no room in the outbox; read nothing that was added since."""
        yield from self._refill(content, self.stream.queued, self.stream.folded)

    def fill_gap(self, content: Content) -> Iterator[Step]:
        """Queue again what the endpoint has acknowledged once and lost."""
        if self.stream.gap is not None:
            start, end = self.stream.gap
            yield from self._refill(content, start, end, gap=True)

    def _refill(self, content: Content, start: int, end: int, *, gap: bool = False) -> Iterator[Step]:
        """Queue what was captured before and is not queued, the same bytes as they would have been then."""
        if start >= end:
            return
        step, position = Step(), start
        # In the middle of a long record a secret may have begun before: what is read before it is not queued.
        run = self._masking.run(self._path)
        for extent in self._spool.catalog.extents(self.stream.id, max(0, start - OVERLAP)):
            # A gap is begun even without room: what fills the outbox may be waiting behind it.
            if position >= end or not (self._has_room(step) or (gap and position == start)):
                break
            data = content.slice(extent)
            if data is None:
                break  # rewritten meanwhile: the next look at the file finds it out
            if extent.end <= start and data.endswith(b"\n"):
                continue
            for offset, masked in run.feed(extent.start, data):
                if offset + len(masked.data) > position and position < end:
                    position = self._queue_masked(step, offset, masked, position, end)
            step.read += len(data)
            if gap:
                step.redactions.clear()  # they were counted when these bytes were queued first
                step.gap_filled = (end, position)
            else:
                self.stream.queued = position
            if step.read >= STEP:
                yield self._finished(step)
                step = Step()
        if position > start and step.read:
            yield self._finished(step)

    def _queue_masked(self, step: Step, offset: int, masked: Masked, start: int = 0, end: int = 1 << 62) -> int:
        """Queue masked bytes, as far as they lie between two offsets; return where they end."""
        low, high = max(offset, start), min(offset + len(masked.data), end)
        whole = low == offset and high == offset + len(masked.data)
        self._queue(step, low, masked.data if whole else masked.data[low - offset : high - offset])
        step.redactions.update(finding.rule for finding in masked.findings)
        return high

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
        catalog.add_redactions(step.redactions)
        self._masking.fold(self.stream.fold)
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
