"""Turns a stream's content into what the spool stores: folded, masked and compressed, in steps.

A step fits into memory and into one transaction. The steps of a stream are made and stored in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import cast

import msgspec

from sessiond import zstd
from sessiond.ingest.content import Content
from sessiond.ingest.context import IngestContext
from sessiond.ingest.line_reader import CONTEXT
from sessiond.ingest.masked import mask_chunk, read_extents
from sessiond.ingest.position import Queue, position_of, set_position
from sessiond.ingest.prompt import first_prompt
from sessiond.line_ends import split_lines
from sessiond.reader import CHUNK, Chunk, Extent
from sessiond.redact.policy import Masked
from sessiond.session import USER, Entry, Fold
from sessiond.sources.base import Memory, Source
from sessiond.sources.damaged import DAMAGED, may_hold_message, recover
from sessiond.spool.rows import StreamState
from sessiond.spool.safety import CHANGED

STEP = 4 << 20
"""Bytes read between two commits."""

LEVEL = 1
"""Compression level of zstd: 360 MB/s. Level 3 makes a seventh less, at 233 MB/s."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes for the outbox: masked, as a zstd frame."""

    generation: int
    offset: int
    length: int
    data: bytes


class Step(msgspec.Struct, kw_only=True):
    """What one transaction stores."""

    extents: list[Extent] = []
    masked: dict[int, bytes | None] = {}
    """By the start of an extent: the digest of what was queued, where it differs from the file. None: it does not."""
    segments: list[Segment] = []
    run: list[bytes] = []
    """Consecutive masked bytes that are not yet compressed: small records share a segment."""
    run_start: int = 0
    run_length: int = 0
    read: int = 0
    last: bool = False
    """Whether nothing follows: the step is stored together with the session's new record."""
    redactions: Counter[str] = msgspec.field(default_factory=Counter)
    """Number of masked secrets by rule."""
    gap_filled: tuple[int, int] | None = None
    """(end of the gap, offset up to which it is filled)."""


class StreamPipeline:
    """Captures one stream from the spool's position to the end of its content."""

    def __init__(
        self,
        context: IngestContext,
        source: Source,
        stream: StreamState,
        path: str,
        latest_ms: int,
        budget: int,
    ) -> None:
        """Prepare the capture.

        `path` is the file, for redaction rules that depend on it. Times after `latest_ms` are ignored. `budget` is the
        size of the outbox, in bytes, from which on no transcript is queued.
        """
        self.stream = stream
        self._spool = context.spool
        self._source = source
        self._masking = context.masking
        self._path = path
        self._latest_ms = latest_ms
        self._digest = context.digest
        self._context = context
        self._budget = budget
        self.touched = False
        """Whether anything was captured or requeued, so that the session's record has to be rebuilt."""
        self.mentions: set[str] = set()
        """Names of side files in the records that were read; see `Entry.mentions`."""

    def rewrite(self, content: Content, keep: int, now_ms: int, *, only_projection: bool = False) -> None:
        """Begin a new generation that keeps the first `keep` bytes, and fold them again.

        Queued bytes of the old generation stay in the outbox: they were on the disk and exist nowhere else now.
        `only_projection`: the file is unchanged, and only its projection differs. Then bytes that did not fit into the
        outbox don't count as lost, because the new generation has them.
        """
        self._context.begin_work(keep)
        stream = self.stream
        fold = Fold()
        for chunk in content.records(0, keep):
            decode(self._source, chunk.data, fold, self._latest_ms, self.mentions)
        previous = stream.generation
        moved, shared, lost = position_of(stream).rewritten(keep)
        if not stream.unproven and stream.remote_position is None and self._spool.meta(CHANGED) is None:
            # Otherwise it is not known what the endpoint has.
            lost += position_of(stream).abandoned(keep, Queue(self._spool.outbox.runs(stream.id)))
        set_position(stream, moved)
        stream.fold = fold
        self._mask_fold()
        # One transaction: extents of the new generation with the number of the old one would match no file again.
        with self._spool.transaction():
            self._spool.catalog.cut_extents(stream.id, keep)
            self._spool.outbox.add_generation(stream.id, stream.generation, previous, shared, now_ms)
            self._spool.catalog.restart(stream.id, acked=shared)
            self._spool.catalog.leave_generation(stream.id, previous, () if only_projection else lost)
            self._spool.catalog.save_stream(stream)
        self.touched = True

    def read_new(self, content: Content) -> Iterator[Step]:
        """Read what was added, in steps. The caller has to store each step before it asks for the next."""
        stream = self.stream
        yield from self.requeue(content)
        step = Step()
        for chunk in content.chunks(stream.folded):
            if chunk.decodable is None:
                stream.fold.oversized += 1
            else:
                decode(self._source, chunk.decodable, stream.fold, self._latest_ms, self.mentions)
            step.extents.append(Extent(start=chunk.offset, length=len(chunk.data), digest=self._digest(chunk.data)))
            if stream.skipped is not None:
                stream.queued = chunk.end
            # Rule 5: past the budget only the record is kept up to date; the transcript waits in its file, pinned.
            elif stream.queued == chunk.offset and self._has_space(step):
                masked = self.mask(chunk)
                stream.queued = self._queue_masked(step, chunk.offset, masked)
                if masked.data != chunk.data:
                    step.masked[chunk.offset] = self._digest(masked.data)
            stream.folded = chunk.end
            step.read += len(chunk.data)
            # Also inside a long record: the next read, or the next start of the daemon, goes on from here.
            if step.read >= STEP:
                yield self._finished(step)
                step = Step()
        step.last = True
        yield self._finished(step) if step.read else step

    def requeue(self, content: Content) -> Iterator[Step]:
        """Queue what was captured and did not fit into the outbox; read nothing that was added since."""
        yield from self._refill(content, self.stream.queued, self.stream.folded)

    def fill_gap(self, content: Content) -> Iterator[Step]:
        """Queue again what the endpoint acknowledged and then lost."""
        if self.stream.gap is not None:
            start, end = self.stream.gap
            yield from self._refill(content, start, end, gap=True)

    def _refill(self, content: Content, start: int, end: int, *, gap: bool = False) -> Iterator[Step]:
        """Queue bytes that were captured before, as they would have been queued then."""
        if start >= end:
            return
        self._context.begin_work(end - start)
        step, position = Step(), start
        extents = self._spool.catalog.extents(self.stream.id, max(0, start - CHUNK - CONTEXT))
        for chunk in read_extents(content, extents, start):
            # Begin a gap even if the outbox is full: what fills it may be waiting for the gap.
            if position >= end or not (self._has_space(step) or (gap and position == start)):
                break
            masked = self.mask(chunk)
            position = self._queue_masked(step, chunk.offset, masked, position, end)
            # In any case: the rules may have changed since these bytes were queued first.
            step.masked[chunk.offset] = self._digest(masked.data) if masked.data != chunk.data else None
            step.read += len(chunk.data)
            if gap:
                step.redactions.clear()  # counted when these bytes were first queued
                step.gap_filled = (end, position)
            else:
                self.stream.queued = position
            if step.read >= STEP:
                yield self._finished(step)
                step = Step()
        if position > start and step.read:
            yield self._finished(step)

    def _queue_masked(self, step: Step, offset: int, masked: Masked, start: int = 0, end: int = 1 << 62) -> int:
        """Queue the masked bytes between `start` and `end`; return the offset after them."""
        low, high = max(offset, start), min(offset + len(masked.data), end)
        whole = low == offset and high == offset + len(masked.data)
        self._queue(step, low, masked.data if whole else masked.data[low - offset : high - offset])
        step.redactions.update(finding.rule for finding in masked.findings)
        return high

    def mask(self, chunk: Chunk) -> Masked:
        """Mask a chunk of the stream."""
        return mask_chunk(self._masking, chunk, self._path)

    def _has_space(self, step: Step) -> bool:
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
        """Write a step. Runs inside the transaction that also moves the checkpoint (rule 1)."""
        catalog, outbox = self._spool.catalog, self._spool.outbox
        catalog.put_extents(self.stream.id, step.extents)
        catalog.put_masked(self.stream.id, step.masked)
        for segment in step.segments:
            outbox.add(self.stream.id, segment.generation, segment.offset, segment.length, segment.data, now_ms)
        catalog.add_redactions(step.redactions)
        catalog.add_mentions(self._source.tool, self.stream.session, self.mentions)
        self._mask_fold()
        catalog.save_stream(self.stream)
        if step.gap_filled is not None:
            catalog.fill_gap(self.stream.id, *step.gap_filled)

    def _mask_fold(self) -> None:
        """Mask the texts in the fold before it is stored. A stream whose transcript is not kept keeps no prompt."""
        if self.stream.skipped is not None:
            self.stream.fold.prompt = None
        self._masking.fold(self.stream.fold)


def decode(source: Source, data: bytes, fold: Fold, now_ms: int, mentions: set[str] | None = None) -> None:
    """Fold a run of whole records. Rule 9: a damaged record is counted and does not stop the others.

    `mentions` collects the names of side files.
    """
    fold.add(_entries(source, data, fold, mentions), now_ms)


def _entries(source: Source, data: bytes, fold: Fold, mentions: set[str] | None) -> Iterator[Entry | None]:
    memory = fold.memory

    def read(record: bytes, memory: Memory) -> Entry | None:
        entry = source.decode(record, memory)
        if entry is not None:
            if mentions is not None and entry.mentions:
                mentions.update(entry.mentions)
            if entry.unknown and not may_hold_message(record):
                entry = msgspec.structs.replace(entry, unknown=None)
            if fold.prompt is None and (entry.role is USER or entry.more):
                fold.prompt = first_prompt(source, bytes(record), entry, memory)
        return entry

    for line in _views(data) if source.views and b"\0" not in data else split_lines(data):
        if line:
            try:
                entry = read(line, memory)
            except DAMAGED:
                entries, complete = recover(read, bytes(line), memory)
                yield from entries
                fold.damaged += not complete
                continue
            yield entry


def _views(data: bytes) -> Iterator[bytes]:
    """Split into lines without copying."""
    whole, start, find = cast(bytes, memoryview(data)), 0, data.find
    while (end := find(b"\n", start)) >= 0:
        yield whole[start:end]
        start = end + 1
    yield whole[start:]
