"""Captures a file of JSON lines. Its tool appends to it, and may move, copy, compress or rewrite it."""

from __future__ import annotations

from typing import cast

from msgspec.structs import replace

from sessiond.ingest.admission import Admission, admit, outcome_of, purge_if_excluded
from sessiond.ingest.content import Lines
from sessiond.ingest.context import FileSnapshot, Outcome
from sessiond.ingest.files import is_superseded
from sessiond.ingest.presence import ask_again, note_back
from sessiond.ingest.stream_capture import StreamCapture, content_trouble
from sessiond.ingest.stream_lookup import stream_of_lines
from sessiond.ingest.unit_facts import first_native_id
from sessiond.ingest.units import OpenUnit, StreamSource
from sessiond.reader import Checkpoint
from sessiond.spool.rows import StreamState


def capture_lines(snapshot: FileSnapshot, unit: OpenUnit) -> Outcome:
    """Bring the stream of a file up to date."""
    stream = known_stream(snapshot)
    if nothing_to_read(snapshot, stream) or is_superseded(snapshot.location):
        return Outcome()
    snapshot.context.begin_work(unread(snapshot))
    (source,) = unit.streams()
    return replace(_capture(snapshot, source, stream), cost=unit.cost)


def known_stream(snapshot: FileSnapshot) -> StreamState | None:
    """Return the stream that a file had when it was last read; None if it had none."""
    known = snapshot.known
    return None if known is None or known.stream is None else snapshot.context.spool.catalog.stream(known.stream)


def nothing_to_read(snapshot: FileSnapshot, stream: StreamState | None) -> bool:
    """Return whether a file is unchanged or empty. One that was gone is noted as being back."""
    context, known = snapshot.context, snapshot.known
    if snapshot.unchanged and (stream is None or stream.caught_up):
        if known is not None and known.gone_ms is not None:
            note_back(context, known)
        return True
    return snapshot.stat.st_size == 0 and stream is None  # a tool creates its file before it writes to it (rule 8)


def unread(snapshot: FileSnapshot) -> int:
    """Return about how many bytes have to be read: those that were added, or all."""
    size, checkpoint = snapshot.stat.st_size, None if snapshot.known is None else snapshot.known.checkpoint
    grew = checkpoint is not None and checkpoint.offset <= size and not checkpoint.edited(snapshot.stat)
    if snapshot.location.unit.packed or checkpoint is None or not grew:
        return size
    return size - checkpoint.offset


def _capture(snapshot: FileSnapshot, source: StreamSource, stream: StreamState | None) -> Outcome:
    if stream is None:
        return _capture_new(snapshot, source)
    if purge_if_excluded(snapshot, stream, source.content):
        return outcome_of(Admission.EXCLUDED)
    return capture_stream(snapshot, source, stream, None if snapshot.known is None else snapshot.known.checkpoint)


def _capture_new(snapshot: FileSnapshot, source: StreamSource) -> Outcome:
    """Capture a file that had no stream so far."""
    content = cast(Lines, source.content)
    native_id = source.native_id or first_native_id(source.location.source, content)
    verdict = None if native_id is None else admit(snapshot, native_id, content, thread=source.thread)
    if not content.search.done:  # nothing is stored before the project is known
        return _search_outcome(content)
    if native_id is None or verdict is None:
        return note_no_session(snapshot, content)
    if verdict is Admission.RESTORED and source.thread:
        return note_no_session(snapshot, content)
    if verdict is not Admission.YES:
        return outcome_of(verdict)
    source = replace(source, native_id=native_id)
    stream, checkpoint = stream_of_lines(snapshot.context, source)
    if stream is None:
        return note_no_session(snapshot, content)
    return replace(capture_stream(snapshot, source, stream, checkpoint), sessions=frozenset([native_id]))


def capture_stream(
    snapshot: FileSnapshot, source: StreamSource, stream: StreamState, checkpoint: Checkpoint | None
) -> Outcome:
    """Capture the bytes that a file has beyond those of its stream.

    `checkpoint` is the checkpoint of the file that the stream was read from.
    """
    context, content = snapshot.context, cast(Lines, source.content)
    if snapshot.known is None or snapshot.known.stream is None or snapshot.known.gone_ms is not None:
        ask_again(context, stream)
    only_grew = (
        checkpoint is not None and checkpoint.offset == stream.folded and content.grew(checkpoint, snapshot.stat)
    )
    return StreamCapture(snapshot, source, stream).run(only_grew=only_grew)


def note_no_session(snapshot: FileSnapshot, content: Lines) -> Outcome:
    """Store that a file has no session yet, or only repeats another file. It is read again when it changes."""
    trouble = content_trouble(content)
    with snapshot.context.spool.transaction():
        snapshot.save(None, snapshot.checkpoint(), trouble=trouble)
    return Outcome(trouble=trouble, searched=content.search.read)


def _search_outcome(content: Lines) -> Outcome:
    """Return the outcome while the end of the first record is still being searched."""
    search = content.search
    return Outcome(more=search.more, retry=search.later, searched=search.read)
