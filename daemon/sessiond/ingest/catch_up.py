"""Queues bytes that are still missing in the outbox: those that did not fit, and those that the endpoint has lost."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from sessiond.errors import ReadError, Torn
from sessiond.ingest import ONCE, IngestContext, Location, Outcome, Turn, ingest
from sessiond.ingest.content import Content, Lines
from sessiond.ingest.file_bytes import FileBytes
from sessiond.ingest.inner_paths import outer_path
from sessiond.ingest.pipeline import StreamPipeline
from sessiond.ingest.presence import note_gone, release_pins
from sessiond.ingest.reconcile import give_up, reconcile
from sessiond.ingest.units import open_unit
from sessiond.sources.base import Source
from sessiond.sources.damaged import DAMAGED
from sessiond.spool.rows import FileState, StreamState


def can_catch_up(context: IngestContext) -> bool:
    """Return whether `catch_up` may progress: a stream waits, and the outbox has space or the endpoint lacks bytes.

    The capture thread asks this after each commit, and the upload thread after each push. Each of them changes one half
    of the condition, so whichever is last sees both. Otherwise a stream could wait until the next scan.
    """
    with context.spool.reading():
        return context.spool.catalog.has_behind(urgent=context.spool.outbox.size >= context.budget_of_lines)


def catch_up(context: IngestContext, limit: int, stuck: set[int] | None = None, turn: Turn = ONCE) -> bool:
    """Read on in up to `limit` waiting streams; return whether it is worth going on at once.

    Streams that made no progress although the outbox had space are added to `stuck`. As long as the caller passes the
    same set, they are skipped, and don't delay other streams. Stops early after `turn.slice` bytes.
    """
    skipped, catalog, outbox = set[int]() if stuck is None else stuck, context.spool.catalog, context.spool.outbox
    with context.spool.reading():
        waiting = [number for number in catalog.behind(limit + len(skipped)) if number not in skipped][:limit]
    worth, read = False, 0
    for number in waiting:
        if turn.slice is not None and read >= turn.slice:
            return True
        with context.spool.reading():
            before, urgent = catalog.progress(number)
            # Before the attempt: the upload thread may make space during it, and the stream would be skipped for that.
            space_left = outbox.size < context.budget_of_lines
        outcome = _catch_up_one(context, turn, number)
        read += outcome.read + outcome.searched
        with context.spool.reading():
            if catalog.progress(number)[0] != before or (outcome.more and outcome.searched):
                worth = True
            elif urgent or space_left:
                worth |= stuck is not None
                skipped.add(number)
    return worth


def _catch_up_one(context: IngestContext, turn: Turn, number: int) -> Outcome:
    """Read a stream again from its tool's file or else from our hard link to it. If neither exists, give it up."""
    with context.spool.reading():
        stream = context.spool.catalog.stream(number)
        files = context.spool.catalog.files(number)
        identity = context.spool.catalog.session_by_row(stream.session).uuid
        if context.spool.forgotten.has(str(identity)):
            return Outcome()  # erased: nothing more of it is queued
    unwatched = False
    for file in files:
        path, native_id = outer_path(file.path)
        # A container may exist although this session in it is gone.
        if not os.path.lexists(path) or (native_id and file.gone_ms is not None):
            continue
        for location in context.index(path):
            if location.source.tool == file.tool:
                return ingest(context, location, replace(turn, only=frozenset([native_id or path])))
        for location in context.dormant_index(path):
            if location.source.tool == file.tool:
                return _read_dormant(context, stream, file, location)
        unwatched = True
    for file in files:
        if file.pin is not None:
            return _from_pin(context, turn, stream, file)
    if not unwatched:  # a file that no root contains any more still exists: its stream waits, and is not lost
        _note_files_gone(context, turn, files)
        give_up(context, stream)
    return Outcome()


def _note_files_gone(context: IngestContext, turn: Turn, files: Iterable[FileState]) -> None:
    """Note that files are gone, before their stream is given up.

    Otherwise a file that comes back before the next scan would not be compared with the endpoint, and bytes that only
    the file has would stay lost.
    """
    for file in files:
        if not os.path.lexists(outer_path(file.path)[0]):
            note_gone(context, file, turn.live)


class _Copy(NamedTuple):
    """The file with the bytes of a stream: its tool's file, or our hard link to it."""

    path: str
    """The path of the tool's file, for redaction rules that depend on it."""
    source: Source
    content: Content


def _read_dormant(context: IngestContext, stream: StreamState, file: FileState, location: Location) -> Outcome:
    """Read again what was captured of a disabled source, and nothing that was added since."""
    native_id = outer_path(file.path)[1] or None
    try:
        with open_unit(location, context.reading(ONCE, location.unit)) as unit:
            for source in unit.streams(native_id):
                if location.unit.kind.verbatim or source.name == stream.name:
                    copy = _Copy(file.path, location.source, source.content)
                    return _read_again(context, stream, copy, captured_only=True)
    except (ReadError, Torn, *DAMAGED) as error:
        return Outcome(trouble=str(error))
    except OSError as error:
        return Outcome(trouble=str(error.strerror))
    return Outcome(trouble=f"it no longer has a stream {stream.name}")


def _from_pin(context: IngestContext, turn: Turn, stream: StreamState, file: FileState) -> Outcome:
    """Read a file that its tool has deleted, through our hard link to it (rule 5)."""
    assert file.pin is not None
    path = context.pins.path(file.pin)
    known = (*context.roots, *context.dormant)
    source = next((source for source, _ in known if source.tool == file.tool), None)
    if source is None:
        return Outcome()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        _note_files_gone(context, turn, context.spool.catalog.files(stream.id))
        give_up(context, stream)
        return Outcome()
    try:
        limit = turn.slice
        locations = (*context.index(file.path), *context.dormant_index(file.path))
        if any(location.unit.packed for location in locations if location.source is source):
            packed = descriptor
            descriptor = context.compressed.open(packed, path, context.pins.directory, context.now_ms())
            os.close(packed)
            limit = None
        endings = context.endings.of(descriptor, context.digest, limit)
        content = Lines(descriptor, context.digest, endings)
        if stream.media_type is not None:
            content = FileBytes(descriptor, context.digest, largest=context.side_file_max_bytes)
        return _read_again(context, stream, _Copy(file.path, source, content), limit=limit)
    except ReadError as error:
        return Outcome(trouble=str(error))
    except OSError as error:  # for example, no disk space to decompress it
        return Outcome(trouble=str(error.strerror))
    finally:
        os.close(descriptor)


def _read_again(
    context: IngestContext, stream: StreamState, copy: _Copy, *, captured_only: bool = False, limit: int | None = None
) -> Outcome:
    """Queue what is missing in the outbox. After about `limit` bytes this stops, so that others have their turn."""
    content = copy.content
    now_ms, read = context.now_ms(), 0
    if stream.remote_position is not None:
        reconcile(context, stream, content, copy.path)
    budget = context.budget_of_lines
    capture = StreamPipeline(context, copy.source, stream, copy.path, now_ms, budget)
    # The tool may have truncated its file before it deleted it. Then our link has no new bytes, and not all old ones.
    captured_only |= content.size < stream.folded
    behind = capture.requeue(content) if captured_only else capture.read_new(content)
    for steps in (capture.fill_gap(content), behind):
        for step in steps:
            read += step.read
            with context.spool.transaction():
                capture.store(step, now_ms)
            if limit is not None and read >= limit:
                return Outcome(read=read, more=True)
    with context.spool.reading():
        stream = context.spool.catalog.stream(stream.id)
        space_left = context.spool.outbox.size < budget
    if stream.queued < stream.folded or stream.gap is not None:
        if not read and space_left:  # the file has other bytes now, so the captured ones exist nowhere
            give_up(context, stream)
    elif content.search.done:
        # Until the end of the last record is found, the link is the only copy of a file that its tool has deleted.
        with context.spool.transaction():
            release_pins(context, stream.id)
    return Outcome(read=read, more=content.search.more, searched=content.search.read)
