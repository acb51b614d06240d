"""What waits to be read: transcripts for which the outbox had no room, and what the endpoint has lost."""

from __future__ import annotations

import os

from sessiond.errors import ReadError, Torn
from sessiond.ingest import IngestContext, Location, Outcome, ingest, locate
from sessiond.ingest.capture import DAMAGED, StreamCapture
from sessiond.ingest.content import Content, Lines
from sessiond.ingest.context import outer_path
from sessiond.ingest.opened import open_content
from sessiond.ingest.presence import release_pins
from sessiond.ingest.reconcile import reconcile, reconcile_without_source
from sessiond.sources.base import Source
from sessiond.spool.rows import FileState, StreamState


def catch_up(context: IngestContext, limit: int, stuck: set[int] | None = None) -> bool:
    """Read on in up to `limit` streams that wait; tells whether it is worth to go on with that now.

    `stuck` gathers the streams that got nowhere though there was room: they are passed over for as long as the
    caller remembers them, so that they do not keep the others waiting. It ends early after `context.slice` bytes.
    """
    passed, catalog, outbox = set[int]() if stuck is None else stuck, context.spool.catalog, context.spool.outbox
    with context.spool.reading():
        waiting = [number for number in catalog.behind(limit + len(passed)) if number not in passed][:limit]
    worth, read = False, 0
    for number in waiting:
        if context.slice is not None and read >= context.slice:
            return True
        with context.spool.reading():
            before, urgent = catalog.progress(number)
        outcome = _catch_up_one(context, number)
        read += outcome.read + outcome.searched
        with context.spool.reading():
            if catalog.progress(number)[0] != before or (outcome.more and outcome.searched):
                worth = True
            elif urgent or outbox.size < context.budget_of_lines:
                worth |= stuck is not None
                passed.add(number)
    return worth


def _catch_up_one(context: IngestContext, number: int) -> Outcome:
    """Read a stream again from the first location that has it: the tool's file, our link to it. Else give it up."""
    with context.spool.reading():
        stream = context.spool.catalog.stream(number)
        files = context.spool.catalog.files(number)
    unwatched = False
    for file in files:
        path, native_id = outer_path(file.path)
        # A container may stand while this session of it is gone.
        if not os.path.lexists(path) or (native_id and file.gone_ms is not None):
            continue
        for location in locate(context.roots, path):
            if location.source.tool == file.tool:
                return ingest(context, location, only=[native_id] if native_id else [path])
        for location in locate(context.dormant, path):
            if location.source.tool == file.tool:
                return _read_dormant(context, stream, file, location)
        unwatched = True
    for file in files:
        if file.pin is not None:
            return _from_pin(context, stream, file)
    if not unwatched:  # a file below no root any more is not read, but it is not lost either: it waits
        _give_up(context, stream)
    return Outcome()


def _read_dormant(context: IngestContext, stream: StreamState, file: FileState, location: Location) -> Outcome:
    """Read what was captured of a source that is switched off now; nothing that was added since."""
    try:
        with open_content(context, location, outer_path(file.path)[1], stream) as content:
            return _read_again(context, stream, file, content, location.source, captured_only=True)
    except (ReadError, Torn, *DAMAGED) as error:
        return Outcome(trouble=str(error))
    except OSError as error:
        return Outcome(trouble=f"not read: {error.strerror}")


def _from_pin(context: IngestContext, stream: StreamState, file: FileState) -> Outcome:
    """Read the file that its tool has deleted, through the link that we kept (rule 5)."""
    assert file.pin is not None
    path = context.pins.path(file.pin)
    known = (*context.roots, *context.dormant)
    source = next((source for source, _ in known if source.tool == file.tool), None)
    if source is None:
        return Outcome()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        _give_up(context, stream)
        return Outcome()
    try:
        most = context.slice
        if any(location.unit.packed for location in locate(known, file.path) if location.source is source):
            packed = descriptor
            descriptor = context.compressed.open(packed, path, context.pins.directory, context.now_ms())
            os.close(packed)
            most = None
        endings = context.endings.of(descriptor, context.digest, most)
        content = Lines(descriptor, context.digest, endings)
        return _read_again(context, stream, file, content, source, most=most)
    except ReadError as error:
        return Outcome(trouble=str(error))
    except OSError as error:  # no room to unpack it, say
        return Outcome(trouble=f"not read: {error.strerror}")
    finally:
        os.close(descriptor)


def _read_again(
    context: IngestContext,
    stream: StreamState,
    file: FileState,
    content: Content,
    source: Source,
    *,
    captured_only: bool = False,
    most: int | None = None,
) -> Outcome:
    now_ms, read = context.now_ms(), 0
    if stream.remote_position is not None:
        reconcile(context.spool, stream, content, stream.remote_position, context.masking, now_ms, file.path)
    budget = context.budget_of_lines
    capture = StreamCapture(context.spool, source, stream, context.masking, context.digest, budget, file.path, now_ms)
    behind = capture.requeue(content) if captured_only else capture.read_new(content)
    for steps in (capture.fill_gap(content), behind):
        for step in steps:
            read += step.read
            with context.spool.transaction():
                capture.store(step, now_ms)
            if most is not None and read >= most:
                return Outcome(read=read, more=True)
    with context.spool.reading():
        stream = context.spool.catalog.stream(stream.id)
        room = context.spool.outbox.size < budget
    if stream.queued < stream.folded or stream.gap is not None:
        if not read and room:  # other bytes stand there now: those that were captured are nowhere
            _give_up(context, stream)
    elif content.search.done:
        # While the search for a record's end goes on, the link keeps what its tool has deleted.
        with context.spool.transaction():
            release_pins(context, stream.id)
    return Outcome(read=read, more=content.search.more, searched=content.search.read)


def _give_up(context: IngestContext, stream: StreamState) -> None:
    """Stop waiting for bytes that no location has any more. `status` lists the session as lost; it is never silent."""
    if stream.remote_position is not None:
        return reconcile_without_source(context.spool, stream, stream.remote_position, context.now_ms())
    with context.spool.transaction():
        context.spool.catalog.give_up(stream.id)
    return None
