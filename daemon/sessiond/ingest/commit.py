"""From a stream's content to its session's new record: what lines and projections have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from itertools import chain

from sessiond.errors import ReadError, Torn
from sessiond.ingest.capture import DAMAGED, Step, StreamCapture
from sessiond.ingest.content import Content
from sessiond.ingest.context import FileSnapshot, IngestContext, Location, Outcome, stream_name
from sessiond.ingest.endings import REPORTED
from sessiond.ingest.reconcile import reconcile
from sessiond.ingest.record import refresh
from sessiond.reader import open_regular, read_document
from sessiond.session import Entry, session_id
from sessiond.sources.base import Kind, Source
from sessiond.spool.rows import StreamState

LARGEST_BESIDE = 1 << 20
"""Bytes of a file beside a unit; a larger one is not what its source takes it for."""


def capture_stream(
    snapshot: FileSnapshot,
    stream: StreamState,
    content: Content,
    *,
    grew: bool,
    save: Callable[[bool], None],
    parent: str | None = None,
    whole: bool = False,
    timeless: bool = False,
    told: Entry | None = None,
    own: str | None = None,
    most: int | None = None,
) -> Outcome:
    """Capture what the content adds to its stream, or the new generation that a rewrite begins.

    `grew`: it is known that what was captured stands. `save(done)` moves the checkpoint, inside the
    transactions. `parent` is the parent's native id where only the path says it. `whole`: the content is known
    to be one state as the tool meant it, such as a transaction's, however short it is.
    `timeless` and `told`: see Projection. `own` is the native id of a thread whose path says it. Past `most` bytes it
    stops: the record is that of what was read, and the checkpoint that of a file which is not read to its end.

    Raises: Torn where the content may be half a rewrite.
    """
    context, location, source = snapshot.context, snapshot.location, snapshot.location.source
    now_ms, damaged = context.now_ms(), stream.fold.damaged
    # Times up to here are believed; on a machine that has lost its clock the file's own is the better one.
    latest_ms = max(now_ms, snapshot.now.st_mtime_ns // 1_000_000)
    capture = StreamCapture(
        context.spool,
        source,
        stream,
        context.masking,
        context.digest,
        context.budget_of_lines if location.unit.kind is Kind.LINES else context.budget,
        location.path,
        latest_ms,
    )
    kept = stream.folded if grew else _kept(snapshot, stream, content, whole, now_ms)
    if stream.remote_position is not None and stream.skipped is None:
        reconcile(
            context.spool, stream, content, stream.remote_position, context.masking, now_ms, snapshot.location.path
        )
        capture.touched = True
    if kept < stream.folded:
        started_ms = stream.fold.started_ms
        capture.rewrite(content, kept, now_ms)
        if location.unit.timeless:
            stream.fold.started_ms = started_ms
    if location.unit.beside and stream.fold.cwd is None:
        entry = read_context(location)
        stream.fold.add([entry], latest_ms)
        capture.touched |= entry is not None
    if location.cwd and stream.fold.cwd is None:
        stream.fold.cwd = location.cwd
    stream.rank = max(stream.rank, snapshot.now.st_mtime_ns // 1_000_000)
    read, final = 0, Step()
    for step in chain(capture.fill_gap(content), capture.read_new(content)):
        read += step.read
        if step.last or (most is not None and read >= most):
            final = step
            break
        with context.spool.transaction():
            capture.store(step, now_ms)
            save(False)
    if location.unit.timeless and capture.touched:
        stream.fold.add([Entry(time_ms=moment) for moment in _times(snapshot.now)], latest_ms)
    elif timeless and capture.touched:
        stream.fold.add([Entry(time_ms=_times(snapshot.now)[1])], latest_ms)
    if told is not None:
        stream.fold.apply_metadata(told, latest_ms)
    if own is not None:
        stream.fold.mark_as_copy_of(own)
    if stream.fold.parent is None and parent:
        stream.fold.parent = parent
    with context.spool.transaction():
        capture.store(final, now_ms)
        save(final.last and content.search.done)
        # Also where nothing was read: a look before this one may have ended between its last two commits.
        changed = refresh_session(context, stream.session, source, touched=capture.touched, mine=stream, there=True)
        context.spool.catalog.keep(stream)
    search = content.search
    return Outcome(
        read=read,
        changed=changed,
        damaged=max(stream.fold.damaged - damaged, 0),
        more=not final.last or search.more,
        retry=search.later,
        searched=search.read,
        trouble=unended_trouble(content),
    )


def unended_trouble(content: Content) -> str | None:
    """Return what to report of a file whose last record has had no newline for very long; None for all others."""
    length = content.search.unended
    if length <= REPORTED:
        return None
    return f"its last line has no end after {length >> 20} MiB: it is captured once it ends"


def _kept(snapshot: FileSnapshot, stream: StreamState, content: Content, whole: bool, now_ms: int) -> int:
    """Count the bytes that stand as they were captured. Raises: Torn where it may be half a rewrite."""
    kept = content.standing(snapshot.context.spool.catalog.extents(stream.id))
    if kept < stream.folded:
        torn = kept == 0 and next(iter(content.chunks(0)), None) is None
        fresh = 0 <= now_ms - snapshot.now.st_mtime_ns // 1_000_000 < snapshot.context.settle_ms
        if torn or (fresh and not whole):
            # Rule 8: half a rewrite is normal. A file without a record changes nothing until it has one again.
            raise Torn("the file lost bytes a moment ago")
    return kept


def _times(found: os.stat_result) -> tuple[int, int]:
    """Tell when a file was made, where the system knows it, and when it was written last."""
    written = found.st_mtime_ns // 1_000_000
    return min(int(getattr(found, "st_birthtime", written / 1000) * 1000), written), written


def read_context(location: Location) -> Entry | None:
    """Read what stands beside a unit. What is not there or not whole yet is looked for at its next change."""
    beside = {}
    for name in location.unit.beside:
        with suppress(FileNotFoundError, ReadError, Torn):
            descriptor = open_regular(location.root, name)
            try:
                beside[name] = read_document(descriptor, LARGEST_BESIDE)
            finally:
                os.close(descriptor)
    with suppress(*DAMAGED):
        return location.source.context(beside, location.unit) if beside else None
    return None


def refresh_session(
    context: IngestContext,
    number: int,
    source: Source,
    *,
    touched: bool,
    mine: StreamState | None = None,
    there: bool = False,
) -> bool:
    """Store a session's record anew; runs inside a transaction. Tells whether it changed.

    `there`: a file of it is there, which may have been gone.
    """
    state = context.spool.catalog.session_by_row(number)
    if there and state.gone_ms is not None:
        touched |= context.spool.catalog.set_gone(number, None)
    return refresh(
        context.spool,
        state,
        rules=context.rules(),
        masking=context.masking,
        scope=context.scope(source),
        kindred=not source.own_keys,
        live=(state.tool, state.native_id) in context.live,
        touched=touched,
        mine=mine,
    )


def add_stream(context: IngestContext, source: Source, native_id: str, name: str, *, thread: bool) -> StreamState:
    """Find or make a stream. One that is made while its endpoint is known needs no question where it stands."""
    name = stream_name(name)
    catalog, bound = context.spool.catalog, context.spool.meta("endpoint") is not None
    with context.spool.transaction():
        identity = session_id(source.tool, native_id, context.scope(source))
        number = catalog.add_session(identity, source.tool, native_id)
        stream = catalog.add_stream(number, name, thread=thread, known=bound)
    if stream.skipped is None and source.tool in context.records_only:
        stream.skipped = stream.queued
    return stream
