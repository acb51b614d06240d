"""Captures one stream: from its content at the tool to the commits in the spool and the session's new record."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from itertools import chain

import msgspec

from sessiond.errors import ReadError, Torn
from sessiond.ingest.content import Content
from sessiond.ingest.context import FileSnapshot, IngestContext, Location, Outcome, stream_name
from sessiond.ingest.endings import REPORTED
from sessiond.ingest.pipeline import Step, StreamPipeline
from sessiond.ingest.reconcile import reconcile
from sessiond.ingest.record import RecordBuilder
from sessiond.reader import open_regular, read_document
from sessiond.session import Entry, session_id
from sessiond.sources.base import Kind, Source
from sessiond.sources.damaged import DAMAGED
from sessiond.spool.rows import StreamState

MAX_CONTEXT_FILE = 1 << 20
"""Largest file beside a unit that is read, in bytes. A larger one is not the small file that its source expects."""


class StreamDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a stream besides its content."""

    parent: str | None = None
    """Native id of the parent session, where only the path has it."""
    thread_id: str | None = None
    """Native id in the path of a main thread. Records that name another session show that the file is a copy."""
    metadata: Entry | None = None
    """Metadata of the whole session; see Projection."""
    timeless: bool = False
    """Whether the records have no times; see Projection."""
    complete: bool = False
    """Whether the content is a consistent state even if it is shorter than before, as in a database transaction."""
    only_grew: bool = False
    """Whether the bytes captured before are known to be unchanged."""


def capture_stream(
    snapshot: FileSnapshot,
    stream: StreamState,
    content: Content,
    details: StreamDetails,
    save: Callable[[bool], None],
    limit: int | None = None,
) -> Outcome:
    """Capture what was added to a stream, or the new generation that a rewrite begins.

    `save(done)` moves the checkpoint, inside the transaction that stores what was read (rule 1). After about `limit`
    bytes this function stops: the checkpoint then says that the file was not read to its end.

    Raises: Torn where the content may be half of a rewrite.
    """
    context, location, source = snapshot.context, snapshot.location, snapshot.location.source
    now_ms, damaged = context.now_ms(), stream.fold.damaged
    latest_ms = max(now_ms, snapshot.mtime_ms)  # later times are ignored; the machine may have lost its clock
    capture = StreamPipeline(context, source, stream, location.path, latest_ms, _budget(snapshot))
    _apply_rewrite(snapshot, capture, content, details, now_ms)
    _add_working_directory(location, capture, latest_ms)
    stream.rank = max(stream.rank, snapshot.mtime_ms)
    read, final = 0, Step()
    for step in chain(capture.fill_gap(content), capture.read_new(content)):
        read += step.read
        if step.last or (limit is not None and read >= limit):
            final = step
            break
        with context.spool.transaction():
            capture.store(step, now_ms)
            save(False)
    _add_details(snapshot, capture, details, latest_ms)
    # Rule 1: the last bytes, the checkpoint and the record are committed together. A kill before that repeats the step.
    with context.spool.transaction():
        capture.store(final, now_ms)
        save(final.last and content.search.done)
        # Even if nothing was read: an earlier scan may have been killed between its last two commits.
        records = RecordBuilder(context, source, snapshot.turn.live)
        changed = records.refresh(stream.session, touched=capture.touched, stream=stream)
        context.spool.catalog.cache_fold(stream)
    return Outcome(
        read=read,
        changed=changed,
        damaged=max(stream.fold.damaged - damaged, 0),
        more=not final.last or content.search.more,
        retry=content.search.later,
        searched=content.search.read,
        trouble=unended_trouble(content),
    )


def _budget(snapshot: FileSnapshot) -> int:
    lines = snapshot.location.unit.kind is Kind.LINES
    return snapshot.context.budget_of_lines if lines else snapshot.context.budget


def unended_trouble(content: Content) -> str | None:
    """Return what to report of a file whose last record has had no newline for very long; None for all others."""
    length = content.search.unended
    if length <= REPORTED:
        return None
    return f"its last line has no end after {length >> 20} MiB: it is captured once it ends"


def _apply_rewrite(
    snapshot: FileSnapshot, capture: StreamPipeline, content: Content, details: StreamDetails, now_ms: int
) -> None:
    """Begin a new generation if bytes captured before have changed. Raises: Torn, see `_unchanged_prefix`."""
    stream, location = capture.stream, snapshot.location
    kept = stream.folded if details.only_grew else _unchanged_prefix(snapshot, stream, content, details, now_ms)
    if stream.remote_position is not None and stream.skipped is None:
        # Before anything is queued: the new bytes must follow those that the endpoint really holds.
        reconcile(snapshot.context, stream, content, location.path)
        capture.touched = True
    if kept < stream.folded:
        started_ms = stream.fold.started_ms
        capture.rewrite(content, kept, now_ms)
        if location.unit.timeless:
            stream.fold.started_ms = started_ms


def _unchanged_prefix(
    snapshot: FileSnapshot, stream: StreamState, content: Content, details: StreamDetails, now_ms: int
) -> int:
    """Return how many bytes at the start are unchanged. Raises: Torn where the content may be half of a rewrite."""
    snapshot.context.begin_work(stream.folded)
    kept = content.unchanged_prefix(snapshot.context.spool.catalog.extents(stream.id))
    if kept < stream.folded:
        emptied = kept == 0 and next(iter(content.chunks(0)), None) is None
        recent = 0 <= now_ms - snapshot.mtime_ms < snapshot.context.settle_ms
        if emptied or (recent and not details.complete):
            # Rule 8: tools rewrite files in location, so half of a rewrite is normal. Capturing it would start a
            # generation with content that the tool never meant; an emptied file is left until it has a record again.
            raise Torn("the file lost bytes a moment ago")
    return kept


def _add_working_directory(location: Location, capture: StreamPipeline, latest_ms: int) -> None:
    """Fold what the files beside the unit and its root say, while the stream itself has no working directory."""
    fold = capture.stream.fold
    if location.unit.beside and fold.cwd is None:
        entry = read_context(location)
        fold.add([entry], latest_ms)
        capture.touched |= entry is not None
    if location.cwd and fold.cwd is None:
        fold.cwd = location.cwd


def _add_details(snapshot: FileSnapshot, capture: StreamPipeline, details: StreamDetails, latest_ms: int) -> None:
    """Fold what is known besides the records: the file's times where the records have none, and metadata."""
    fold = capture.stream.fold
    if capture.touched and snapshot.location.unit.timeless:
        fold.add([Entry(time_ms=moment) for moment in _file_times(snapshot.stat)], latest_ms)
    elif capture.touched and details.timeless:
        fold.add([Entry(time_ms=snapshot.mtime_ms)], latest_ms)
    if details.metadata is not None:
        fold.apply_metadata(details.metadata, latest_ms)
    if details.thread_id is not None:
        fold.mark_as_copy_of(details.thread_id)
    if fold.parent is None and details.parent:
        fold.parent = details.parent


def _file_times(stat: os.stat_result) -> tuple[int, int]:
    """Return when a file was created, where the system knows it, and when it was last written, in unix ms."""
    written = stat.st_mtime_ns // 1_000_000
    return min(int(getattr(stat, "st_birthtime", written / 1000) * 1000), written), written


def read_context(location: Location) -> Entry | None:
    """Read the files beside a unit. Missing or half-written ones are ignored until the unit changes again."""
    beside = {}
    for name in location.unit.beside:
        with suppress(FileNotFoundError, ReadError, Torn):
            descriptor = open_regular(location.root, name)
            try:
                beside[name] = read_document(descriptor, MAX_CONTEXT_FILE)
            finally:
                os.close(descriptor)
    with suppress(*DAMAGED):
        return location.source.context(beside, location.unit) if beside else None
    return None


def add_stream(context: IngestContext, source: Source, native_id: str, name: str, *, thread: bool) -> StreamState:
    """Return a stream of a session; create both if they are new.

    The endpoint has nothing of a new stream. So it is asked about one only if it is not known yet which endpoint it is.
    """
    name = stream_name(name)
    catalog, bound = context.spool.catalog, context.spool.meta("endpoint") is not None
    with context.spool.transaction():
        identity = session_id(source.tool, native_id, context.scope(source))
        number = catalog.add_session(identity, source.tool, native_id)
        stream = catalog.add_stream(number, name, thread=thread, known=bound)
    if stream.skipped is None and source.tool in context.records_only:
        stream.skipped = stream.queued
    return stream
