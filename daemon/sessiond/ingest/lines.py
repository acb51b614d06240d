"""Ingests a file of JSON lines. Its tool appends to it, and may move, copy, compress or rewrite it."""

from __future__ import annotations

import os
from hashlib import blake2b

from msgspec.structs import replace

from sessiond.ingest.admission import Admission, admit, leave, reject
from sessiond.ingest.content import Lines
from sessiond.ingest.context import FileSnapshot, IngestContext, Location, Outcome, Turn
from sessiond.ingest.presence import ask_again, note_back, release_pins
from sessiond.ingest.stream_capture import StreamDetails, add_stream, capture_stream, unended_trouble
from sessiond.reader import Checkpoint, open_regular
from sessiond.sources.base import Memory
from sessiond.sources.damaged import decode_all
from sessiond.spool.rows import FileState, StreamState

HEAD = 16 << 20
"""Bytes in which a session's id has to appear, so that a log of gigabytes beside the sessions is not read whole."""


def ingest_lines(context: IngestContext, turn: Turn, location: Location, known: FileState | None) -> Outcome:
    """Bring the stream of a file up to date."""
    descriptor = open_regular(location.root, location.below)
    try:
        now = os.fstat(descriptor)
        snapshot = FileSnapshot(context=context, turn=turn, location=location, known=known, stat=now)
        stream = None if known is None or known.stream is None else context.spool.catalog.stream(known.stream)
        if snapshot.unchanged and (stream is None or stream.caught_up):
            if known is not None and known.gone_ms is not None:
                note_back(context, known)
            return Outcome()
        if snapshot.stat.st_size == 0 and stream is None:
            return Outcome()  # a tool creates its file before it writes the first record (rule 8)
        context.begin_work(_unread(snapshot))
        if location.unit.packed:
            if os.path.exists(location.path.removesuffix(".zst")):
                return Outcome()  # the plain file takes precedence: the tool appends to it
            packed = descriptor
            descriptor = context.compressed.open(packed, location.path, context.pins.directory, context.now_ms())
            os.close(packed)
        # A compressed file is decompressed again for each scan, so a search could not go on where it stopped.
        slice_bytes = None if location.unit.packed else turn.slice
        endings = context.endings.of(descriptor, context.digest, slice_bytes)
        outcome = _update(snapshot, stream, Lines(descriptor, context.digest, endings))
        return replace(outcome, cost=os.fstat(descriptor).st_size) if location.unit.packed else outcome
    finally:
        os.close(descriptor)


def _unread(snapshot: FileSnapshot) -> int:
    """Return about how many bytes have to be read: those that were added, or all."""
    size, checkpoint = snapshot.stat.st_size, None if snapshot.known is None else snapshot.known.checkpoint
    grew = checkpoint is not None and checkpoint.offset <= size and not checkpoint.edited(snapshot.stat)
    if snapshot.location.unit.packed or checkpoint is None or not grew:
        return size
    return size - checkpoint.offset


def _update(snapshot: FileSnapshot, stream: StreamState | None, content: Lines) -> Outcome:
    context, location = snapshot.context, snapshot.location
    checkpoint = None if snapshot.known is None else snapshot.known.checkpoint
    waited = stream is None or not stream.caught_up  # files are pinned only while their stream waits
    if stream is None:
        native_id = location.unit.native_id or _native_id(location, content)
        verdict = None if native_id is None else admit(snapshot, native_id, content)
        if not content.search.done:  # nothing is stored before the project is known
            return _search_outcome(content)
        if native_id is None or verdict is None:
            return _note_no_session(snapshot, content)
        if verdict is not Admission.YES:
            return reject(verdict)
        thread = location.unit.thread
        stream = add_stream(context, location.source, native_id, location.unit.stream, thread=thread)
        # If nothing of the stream was read yet, there is nothing to compare this file with.
        fresh = (stream.generation, stream.folded) == (0, 0)
        other = None if fresh else _other_file(context, stream, location.path)
        checkpoint = None if other is None else other.checkpoint
        if other is not None and os.path.exists(other.path) and not _continues(content, stream, other):
            # Two live files claim one stream. A file that only repeats it adds nothing. Any other becomes a stream of
            # its own: in one stream, each would look like a rewrite of the other and start a generation each time.
            if content.unchanged_prefix(context.spool.catalog.extents(stream.id)) == content.size:
                return _note_no_session(snapshot, content)
            suffix = blake2b(os.fsencode(location.path), digest_size=4).hexdigest()
            stream = add_stream(context, location.source, native_id, f"{location.unit.stream}@{suffix}", thread=thread)
            checkpoint = None
    elif leave(snapshot, stream, content):
        return reject(Admission.EXCLUDED)
    if snapshot.known is None or snapshot.known.stream is None or snapshot.known.gone_ms is not None:
        ask_again(context, stream)
    only_grew = (
        checkpoint is not None and checkpoint.offset == stream.folded and content.grew(checkpoint, snapshot.stat)
    )
    details = StreamDetails(
        parent=location.unit.parent,
        thread_id=location.unit.native_id if location.unit.thread else None,
        only_grew=only_grew,
    )
    return capture_stream(
        snapshot,
        stream,
        content,
        details,
        save=lambda done: _save(snapshot, stream, content, done=done, waited=waited),
        limit=None if location.unit.packed else snapshot.turn.slice,  # a compressed file is always read from its start
    )


def _save(snapshot: FileSnapshot, stream: StreamState, content: Lines, *, done: bool, waited: bool) -> None:
    """Move the checkpoint. If the file was not read to its end, the checkpoint's size says so.

    A file whose bytes are not all in the outbox is pinned (rule 5): its tool may delete it before they are.
    """
    old = snapshot.known.pin if snapshot.known else None
    needed = stream.queued < stream.folded
    pin = snapshot.context.pins.settle(snapshot.location.path, stream.id, needed=needed, old=old)
    if not needed and (waited or old):
        release_pins(snapshot.context, stream.id)
    checkpoint = snapshot.checkpoint(
        stream.folded,
        content.probe(stream.folded),
        size=snapshot.stat.st_size if done else ~snapshot.stat.st_size,
        ctime_ns=content.ctime_ns() if needed or old else snapshot.stat.st_ctime_ns,  # our hard link changes it
    )
    snapshot.save(stream.id, checkpoint, pin, trouble=unended_trouble(content))


def _native_id(location: Location, content: Lines) -> str | None:
    """Return the session id that the first records have; None if there is none within HEAD bytes."""
    memory: Memory = {}
    for chunk in content.records(0):
        if chunk.offset > HEAD:
            return None
        for line in chunk.data.split(b"\n"):
            for entry in decode_all(location.source.decode, line, memory):
                if entry.native_id:
                    return entry.native_id
    return None


def _other_file(context: IngestContext, stream: StreamState, path: str) -> FileState | None:
    """Return another file that the stream was read from: one that exists, else the one that vanished last."""
    files = [file for file in context.spool.catalog.files(stream.id) if file.path != path and file.checkpoint]
    return max(files, key=lambda file: (file.gone_ms is None, file.gone_ms or 0), default=None)


def _continues(content: Lines, stream: StreamState, other: FileState) -> bool:
    """Return whether a second file of a stream begins with all bytes that were captured."""
    checkpoint: Checkpoint | None = other.checkpoint
    return (
        checkpoint is not None
        and checkpoint.offset == stream.folded <= content.size
        and content.probe(stream.folded) == checkpoint.probe
    )


def _note_no_session(snapshot: FileSnapshot, content: Lines) -> Outcome:
    """Store that a file has no session so far, or only repeats one. It is read again when it changes."""
    trouble = unended_trouble(content)
    with snapshot.context.spool.transaction():
        snapshot.save(None, snapshot.checkpoint(), trouble=trouble)
    return Outcome(trouble=trouble, searched=content.search.read)


def _search_outcome(content: Lines) -> Outcome:
    """Return the outcome while the end of the first record is still being searched."""
    search = content.search
    return Outcome(more=search.more, retry=search.later, searched=search.read)
