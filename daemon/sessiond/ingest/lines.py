"""A file of JSON lines, which its tool appends to, or moves, copies, packs and rewrites."""

from __future__ import annotations

import os
from hashlib import blake2b

from msgspec.structs import replace

from sessiond.ingest.admission import Admission, admit, leave, turn_away
from sessiond.ingest.capture import DAMAGED
from sessiond.ingest.commit import add_stream, capture_stream, unended_trouble
from sessiond.ingest.content import Lines
from sessiond.ingest.context import FileSnapshot, IngestContext, Location, Outcome
from sessiond.ingest.presence import ask_again, note_back, release_pins
from sessiond.reader import Checkpoint, open_regular
from sessiond.sources.base import Memory
from sessiond.spool.rows import FileState, StreamState

HEAD = 16 << 20
"""Bytes within which a session has to name itself: a log of gigabytes beside the sessions is not read to its end."""


def ingest_lines(context: IngestContext, location: Location, known: FileState | None) -> Outcome:
    """Bring the stream of a file up to what stands in it."""
    descriptor = open_regular(location.root, location.below)
    try:
        snapshot = FileSnapshot(context=context, location=location, known=known, now=os.fstat(descriptor))
        stream = None if known is None or known.stream is None else context.spool.catalog.stream(known.stream)
        if snapshot.unchanged and (stream is None or stream.caught_up):
            if known is not None and known.gone_ms is not None:
                note_back(context, known)
            return Outcome()
        if snapshot.now.st_size == 0 and stream is None:
            return Outcome()  # a tool makes its file before its first record (rule 8)
        if location.unit.packed:
            if os.path.exists(location.path.removesuffix(".zst")):
                return Outcome()  # the plain file wins: it is the one that the tool appends to
            packed = descriptor
            descriptor = context.compressed.open(packed, location.path, context.pins.directory, context.now_ms())
            os.close(packed)
        # Packed files are unpacked anew for each look: their searches would be forgotten with the unpacked file.
        slice_bytes = None if location.unit.packed else context.slice
        endings = context.endings.of(descriptor, context.digest, slice_bytes)
        outcome = _bring_up(snapshot, stream, Lines(descriptor, context.digest, endings))
        return replace(outcome, cost=os.fstat(descriptor).st_size) if location.unit.packed else outcome
    finally:
        os.close(descriptor)


def _bring_up(snapshot: FileSnapshot, stream: StreamState | None, content: Lines) -> Outcome:
    context, location = snapshot.context, snapshot.location
    checkpoint = None if snapshot.known is None else snapshot.known.checkpoint
    waited = stream is None or not stream.caught_up  # only of a stream that waits a file may be pinned
    if stream is None:
        native_id = location.unit.native_id or _native_id(location, content)
        verdict = None if native_id is None else admit(snapshot, native_id, content)
        if not content.search.done:  # nothing is stored before its project is known
            return _search_on(content)
        if native_id is None or verdict is None:
            return _note_no_session(snapshot, content)
        if verdict is not Admission.YES:
            return turn_away(verdict)
        thread = location.unit.thread
        stream = add_stream(context, location.source, native_id, location.unit.stream, thread=thread)
        # Of a stream that nothing was read of yet there is nothing to compare another file with.
        fresh = (stream.generation, stream.folded) == (0, 0)
        other = None if fresh else _other_file(context, stream, location.path)
        checkpoint = None if other is None else other.checkpoint
        if other is not None and os.path.exists(other.path) and not _continues(content, stream, other):
            # Two live files of one stream. One that only repeats it adds nothing; else both are kept.
            if content.standing(context.spool.catalog.extents(stream.id)) == content.size:
                return _note_no_session(snapshot, content)
            apart = blake2b(os.fsencode(location.path), digest_size=4).hexdigest()
            stream = add_stream(context, location.source, native_id, f"{location.unit.stream}@{apart}", thread=thread)
            checkpoint = None
    elif leave(snapshot, stream, content):
        return turn_away(Admission.EXCLUDED)
    if snapshot.known is None or snapshot.known.stream is None or snapshot.known.gone_ms is not None:
        ask_again(context, stream)
    own = location.unit.native_id if location.unit.thread else None
    grew = checkpoint is not None and checkpoint.offset == stream.folded and content.grew(checkpoint, snapshot.now)
    return capture_stream(
        snapshot,
        stream,
        content,
        grew=grew,
        save=lambda whole: _save(snapshot, stream, content, whole=whole, waited=waited),
        parent=location.unit.parent,
        own=own,
        most=None if location.unit.packed else context.slice,  # each look at a packed one unpacks it from its beginning
    )


def _save(snapshot: FileSnapshot, stream: StreamState, content: Lines, *, whole: bool, waited: bool) -> None:
    """Move the checkpoint; see Checkpoint.size for what was read in part."""
    old = snapshot.known.pin if snapshot.known else None
    needed = stream.queued < stream.folded
    pin = snapshot.context.pins.settle(snapshot.location.path, stream.id, needed=needed, old=old)
    if not needed and (waited or old):
        release_pins(snapshot.context, stream.id)
    checkpoint = snapshot.checkpoint(
        stream.folded,
        content.probe(stream.folded),
        size=snapshot.now.st_size if whole else ~snapshot.now.st_size,
        ctime_ns=content.ctime_ns() if needed or old else snapshot.now.st_ctime_ns,  # our link moves it
    )
    snapshot.save(stream.id, checkpoint, pin, trouble=unended_trouble(content))


def _native_id(location: Location, content: Lines) -> str | None:
    memory: Memory = {}
    for chunk in content.chunks(0):
        if chunk.piece or chunk.offset > HEAD:
            return None
        for line in chunk.data.split(b"\n"):
            try:
                entry = location.source.decode(line, memory) if line else None
            except DAMAGED:
                continue
            if entry is not None and entry.native_id:
                return entry.native_id
    return None


def _other_file(context: IngestContext, stream: StreamState, but: str) -> FileState | None:
    """Find the other file that the stream was read from: the live one, else the one that went last."""
    files = [file for file in context.spool.catalog.files(stream.id) if file.path != but and file.checkpoint]
    return max(files, key=lambda file: (file.gone_ms is None, file.gone_ms or 0), default=None)


def _continues(content: Lines, stream: StreamState, other: FileState) -> bool:
    """Tell whether a second file of a stream has all that was captured, and may have more."""
    checkpoint: Checkpoint | None = other.checkpoint
    return (
        checkpoint is not None
        and checkpoint.offset == stream.folded <= content.size
        and content.probe(stream.folded) == checkpoint.probe
    )


def _note_no_session(snapshot: FileSnapshot, content: Lines) -> Outcome:
    """Remember a file that (so far) names no session, or only repeats one: it is read again when it changes."""
    trouble = unended_trouble(content)
    with snapshot.context.spool.transaction():
        snapshot.save(None, snapshot.checkpoint(), trouble=trouble)
    return Outcome(trouble=trouble, searched=content.search.read)


def _search_on(content: Lines) -> Outcome:
    """Return what comes of a file whose first records are not known to their end yet."""
    search = content.search
    return Outcome(more=search.more, retry=search.later, searched=search.read)
