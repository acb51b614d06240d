"""A file of JSON lines, which its tool appends to, or moves, copies, packs and rewrites."""

from __future__ import annotations

import os
from hashlib import blake2b

from msgspec.structs import replace

from sessiond.ingest.admission import Admission, admit, leave, turn_away
from sessiond.ingest.advance import add_stream, advance, unended_trouble
from sessiond.ingest.capture import DAMAGED
from sessiond.ingest.content import Lines
from sessiond.ingest.gone import ask_again, note_back, release_pins
from sessiond.ingest.setting import Outcome, Place, Setting, Visit
from sessiond.reader import Checkpoint, open_regular
from sessiond.sources.base import Memory
from sessiond.spool.rows import FileState, StreamState

HEAD = 16 << 20
"""Bytes within which a session has to name itself: a log of gigabytes beside the sessions is not read to its end."""


def ingest_lines(setting: Setting, place: Place, known: FileState | None) -> Outcome:
    """Bring the stream of a file up to what stands in it."""
    descriptor = open_regular(place.root, place.below)
    try:
        visit = Visit(setting=setting, place=place, known=known, now=os.fstat(descriptor))
        stream = None if known is None or known.stream is None else setting.spool.catalog.stream(known.stream)
        if visit.unchanged and (stream is None or stream.caught_up):
            if known is not None and known.gone_ms is not None:
                note_back(setting, known)
            return Outcome()
        if visit.now.st_size == 0 and stream is None:
            return Outcome()  # a tool makes its file before its first record (rule 8)
        if place.unit.packed:
            if os.path.exists(place.path.removesuffix(".zst")):
                return Outcome()  # the plain file wins: it is the one that the tool appends to
            packed = descriptor
            descriptor = setting.packed.open(packed, place.path, setting.pins.directory, setting.now_ms())
            os.close(packed)
        # Packed files are unpacked anew for each look: their searches would be forgotten with the unpacked file.
        slice_bytes = None if place.unit.packed else setting.slice
        endings = setting.endings.of(descriptor, setting.digest, slice_bytes)
        outcome = _bring_up(visit, stream, Lines(descriptor, setting.digest, endings))
        return replace(outcome, cost=os.fstat(descriptor).st_size) if place.unit.packed else outcome
    finally:
        os.close(descriptor)


def _bring_up(visit: Visit, stream: StreamState | None, content: Lines) -> Outcome:
    setting, place = visit.setting, visit.place
    checkpoint = None if visit.known is None else visit.known.checkpoint
    waited = stream is None or not stream.caught_up  # only of a stream that waits a file may be pinned
    if stream is None:
        native_id = place.unit.native_id or _native_id(place, content)
        verdict = None if native_id is None else admit(visit, native_id, content)
        if not content.search.done:  # nothing is stored before its project is known
            return _search_on(content)
        if native_id is None or verdict is None:
            return _note_no_session(visit, content)
        if verdict is not Admission.YES:
            return turn_away(verdict)
        thread = place.unit.thread
        stream = add_stream(setting, place.source, native_id, place.unit.stream, thread=thread)
        # Of a stream that nothing was read of yet there is nothing to compare another file with.
        fresh = (stream.generation, stream.folded) == (0, 0)
        other = None if fresh else _other_file(setting, stream, place.path)
        checkpoint = None if other is None else other.checkpoint
        if other is not None and os.path.exists(other.path) and not _continues(content, stream, other):
            # Two live files of one stream. One that only repeats it adds nothing; else both are kept.
            if content.standing(setting.spool.catalog.extents(stream.id)) == content.size:
                return _note_no_session(visit, content)
            apart = blake2b(os.fsencode(place.path), digest_size=4).hexdigest()
            stream = add_stream(setting, place.source, native_id, f"{place.unit.stream}@{apart}", thread=thread)
            checkpoint = None
    elif leave(visit, stream, content):
        return turn_away(Admission.EXCLUDED)
    if visit.known is None or visit.known.stream is None or visit.known.gone_ms is not None:
        ask_again(setting, stream)
    own = place.unit.native_id if place.unit.thread else None
    grew = checkpoint is not None and checkpoint.offset == stream.folded and content.grew(checkpoint, visit.now)
    return advance(
        visit,
        stream,
        content,
        grew=grew,
        save=lambda whole: _save(visit, stream, content, whole=whole, waited=waited),
        parent=place.unit.parent,
        own=own,
        most=None if place.unit.packed else setting.slice,  # each look at a packed one unpacks it from its beginning
    )


def _save(visit: Visit, stream: StreamState, content: Lines, *, whole: bool, waited: bool) -> None:
    """Move the checkpoint; see Checkpoint.size for what was read in part."""
    old = visit.known.pin if visit.known else None
    needed = stream.queued < stream.folded
    pin = visit.setting.pins.settle(visit.place.path, stream.id, needed=needed, old=old)
    if not needed and (waited or old):
        release_pins(visit.setting, stream.id)
    checkpoint = visit.checkpoint(
        stream.folded,
        content.probe(stream.folded),
        size=visit.now.st_size if whole else ~visit.now.st_size,
        ctime_ns=content.ctime_ns() if needed or old else visit.now.st_ctime_ns,  # our link moves it
    )
    visit.save(stream.id, checkpoint, pin, trouble=unended_trouble(content))


def _native_id(place: Place, content: Lines) -> str | None:
    memory: Memory = {}
    for chunk in content.chunks(0):
        if chunk.piece or chunk.offset > HEAD:
            return None
        for line in chunk.data.split(b"\n"):
            try:
                entry = place.source.decode(line, memory) if line else None
            except DAMAGED:
                continue
            if entry is not None and entry.native_id:
                return entry.native_id
    return None


def _other_file(setting: Setting, stream: StreamState, but: str) -> FileState | None:
    """Find the other file that the stream was read from: the live one, else the one that went last."""
    files = [file for file in setting.spool.catalog.files(stream.id) if file.path != but and file.checkpoint]
    return max(files, key=lambda file: (file.gone_ms is None, file.gone_ms or 0), default=None)


def _continues(content: Lines, stream: StreamState, other: FileState) -> bool:
    """Tell whether a second file of a stream has all that was captured, and may have more."""
    checkpoint: Checkpoint | None = other.checkpoint
    return (
        checkpoint is not None
        and checkpoint.offset == stream.folded <= content.size
        and content.probe(stream.folded) == checkpoint.probe
    )


def _note_no_session(visit: Visit, content: Lines) -> Outcome:
    """Remember a file that (so far) names no session, or only repeats one: it is read again when it changes."""
    trouble = unended_trouble(content)
    with visit.setting.spool.transaction():
        visit.save(None, visit.checkpoint(), trouble=trouble)
    return Outcome(trouble=trouble, searched=content.search.read)


def _search_on(content: Lines) -> Outcome:
    """Return what comes of a file whose first records are not known to their end yet."""
    search = content.search
    return Outcome(more=search.more, retry=search.later, searched=search.read)
