"""Documents, folders and databases: streams by projection."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import cast

from msgspec.structs import replace

from sessiond.database import Database, open_database
from sessiond.errors import ReadError, Torn
from sessiond.ingest.admission import Admission, admit, leave
from sessiond.ingest.capture import DAMAGED
from sessiond.ingest.commit import add_stream, capture_stream
from sessiond.ingest.content import Records
from sessiond.ingest.context import FileSnapshot, IngestContext, Location, Outcome, inner_path
from sessiond.ingest.files import database_stat, list_folder, read_file, stale, with_further
from sessiond.ingest.presence import ask_again, note_back, note_gone
from sessiond.reader import check_regular, open_regular, read_document
from sessiond.session import Entry, session_id
from sessiond.sources.base import DatabaseSource, DocumentSource, Kind, Projection
from sessiond.spool.rows import FileState, StreamState

SURVEY_MS = 86_400_000
"""Between two looks at every row of a database: what moves no watermark is found then."""
SURVEYED = ""
"""The name among the watermarks under which the last such look is noted."""


def ingest_projected(
    context: IngestContext, location: Location, known: FileState | None, only: Collection[str] | None = None
) -> Outcome:
    """Bring the streams of a document, a folder or a database up to what stands there.

    `only` names sessions of a container that are read whether or not it changed: their transcripts wait.

    Raises: Torn where it was met in the middle of a rewrite.
    """
    match location.unit.kind:
        case Kind.DATABASE:
            return _ingest_database(context, location, known, only)
        case Kind.FOLDER:
            files, now = list_folder(location)
            snapshot = FileSnapshot(context=context, location=location, known=known, now=now)
            if _settled(snapshot, only):
                return Outcome()
            content = {name: read_file(location, name) for name in files}
            # What was left empty must not stop the rest.
            files_read = {name: data for name, data in content.items() if data or not stale(snapshot)}
            return replace(_ingest_document(snapshot, files_read), cost=snapshot.now.st_size)
        case _:
            descriptor = open_regular(location.root, location.below)
            try:
                snapshot = FileSnapshot(context=context, location=location, known=known, now=os.fstat(descriptor))
                # An emptied file is the first half of a rewrite; its other half is a change of its own (rule 8).
                if snapshot.now.st_size == 0 or _settled(snapshot, only):
                    return Outcome()
                outcome = _ingest_document(snapshot, {location.below: read_document(descriptor)})
                return replace(outcome, cost=snapshot.now.st_size)
            finally:
                os.close(descriptor)


def _settled(snapshot: FileSnapshot, only: Collection[str] | None) -> bool:
    if snapshot.known is not None and snapshot.known.gone_ms is not None:
        note_back(snapshot.context, snapshot.known)
    return snapshot.unchanged and not only


# Documents and folders


def _ingest_document(snapshot: FileSnapshot, files: Mapping[str, bytes]) -> Outcome:
    context, location, source = snapshot.context, snapshot.location, cast(DocumentSource, snapshot.location.source)
    try:
        projections = list(source.project(with_further(location, context.now_ms(), source, files), location.unit))
        # Records are made here, so that a half-written document is found out before anything is stored.
        contents = [Records(projection.records, context.digest) for projection in projections]
    except DAMAGED as error:
        raise (ReadError if stale(snapshot) else Torn)(f"it can't be parsed: {error}") from error
    container = len({projection.native_id for projection in projections}) > 1
    outcome, main, paths, excluded = Outcome(), None, set[str](), False
    for projection, content in zip(projections, contents, strict=True):
        path = inner_path(location.path, projection.native_id if container else "", projection.stream)
        paths.add(path)
        verdict = _admit(snapshot, projection, content)
        outcome = replace(outcome, retry=outcome.retry or verdict is Admission.LATER)
        excluded |= verdict is not Admission.YES
        if verdict is not Admission.YES:
            continue
        # Its parser vouches for a document that did not shrink.
        outcome, stream = _capture(snapshot, projection, content, outcome, path, shrinks=False)
        main = stream if path == location.path else main
    if outcome.retry or (excluded and not container):
        return outcome  # not even its path is kept
    with context.spool.transaction():
        snapshot.save(main, snapshot.checkpoint())
    for file in context.spool.catalog.inside(location.path):
        if file.path not in paths:
            note_gone(context, file)
    return outcome


# Databases


def _ingest_database(
    context: IngestContext, location: Location, known: FileState | None, only: Collection[str] | None
) -> Outcome:
    check_regular(location.root, location.below)
    snapshot = FileSnapshot(context=context, location=location, known=known, now=database_stat(location.path))
    if _settled(snapshot, only):
        return Outcome()
    marks, source = context.spool.catalog.marks(location.path), cast(DatabaseSource, location.source)
    outcome, trouble, listed = Outcome(), None, {SURVEYED}
    # One in the future was noted under a clock that was ahead.
    thorough = not 0 <= context.now_ms() - int(marks.pop(SURVEYED, 0)) < SURVEY_MS
    database = open_database(location.path, marks, thorough=thorough)
    try:
        for native_id, mark in list(source.sessions(database)):
            if not isinstance(native_id, str):
                trouble = f"a session has no id but {type(native_id).__name__}"
                continue
            listed.add(native_id)
            if marks.get(native_id) == mark and not (only and native_id in only):
                continue
            try:
                taken, outcome = _capture_session(snapshot, database, native_id, outcome)
            except DAMAGED as error:
                # Rule 9. Without a watermark it is tried again when the database changes.
                trouble = f"session {native_id} can't be read: {error}"
                continue
            if not taken:
                continue  # without a watermark it is looked at again with the next change
            with context.spool.transaction():
                context.spool.catalog.set_mark(location.path, native_id, mark)
    except DAMAGED as error:
        raise ReadError(f"it can't be read: {error}") from error
    finally:
        database.close()
    for native_id in marks.keys() - listed:
        path = inner_path(location.path, native_id)
        for file in (context.spool.catalog.file(path), *context.spool.catalog.inside(path)):
            note_gone(context, file)
        with context.spool.transaction():
            context.spool.catalog.drop_mark(location.path, native_id)
    with context.spool.transaction():
        snapshot.save(None, snapshot.checkpoint(), trouble=trouble)
        if thorough:
            context.spool.catalog.set_mark(location.path, SURVEYED, str(context.now_ms()))
    return Outcome(read=outcome.read, changed=outcome.changed, damaged=outcome.damaged, trouble=trouble)


def _capture_session(
    snapshot: FileSnapshot, database: Database, native_id: str, outcome: Outcome
) -> tuple[bool, Outcome]:
    taken = True
    for projection in cast(DatabaseSource, snapshot.location.source).projections(database, native_id):
        path = inner_path(snapshot.location.path, projection.native_id, projection.stream)
        content = Records(projection.records, snapshot.context.digest)
        if _admit(snapshot, projection, content) is Admission.YES:
            outcome, _ = _capture(snapshot, projection, content, outcome, path, shrinks=True)
        else:
            taken = False
    return taken, outcome


# One stream


def _admit(snapshot: FileSnapshot, projection: Projection, content: Records) -> Admission:
    """Decide on a stream before anything of it is stored."""
    if content.size == 0:
        return Admission.YES
    verdict = admit(snapshot, projection.native_id, content)
    identity = session_id(
        snapshot.location.source.tool, projection.native_id, snapshot.context.scope(snapshot.location.source)
    )
    stream = snapshot.context.spool.catalog.find_stream(identity, projection.stream)
    return Admission.EXCLUDED if stream is not None and leave(snapshot, stream, content) else verdict


def _capture(
    snapshot: FileSnapshot, projection: Projection, content: Records, so_far: Outcome, path: str, *, shrinks: bool
) -> tuple[Outcome, int | None]:
    """Capture one stream, under a path of its own (see `inner_path`).

    `shrinks`: fewer records are what the tool has now, not half of what it is writing.
    """
    context, source, known = snapshot.context, snapshot.location.source, snapshot.known
    if content.size == 0:
        # Never reported as emptied, and none that is not there yet.
        return so_far, known.stream if known is not None and path == snapshot.location.path else None
    stream = _find_stream(snapshot, projection, content, path)
    if stream is None:
        return so_far, None
    before = context.spool.catalog.file(path)
    if before is None or before.stream is None or before.gone_ms is not None:
        ask_again(context, stream)
    if path != snapshot.location.path and _stands(context, stream, content, path, projection.metadata):
        return so_far, stream.id

    def save(_: bool) -> None:
        # The file's checkpoint moves when all its streams are stored; until then it stays as it was.
        checkpoint = known.checkpoint if known is not None and path == snapshot.location.path else None
        context.spool.catalog.save_file(FileState(path=path, tool=source.tool, stream=stream.id, checkpoint=checkpoint))

    whole = shrinks or content.size >= stream.folded
    outcome = capture_stream(
        snapshot,
        stream,
        content,
        grew=False,
        save=save,
        parent=projection.parent,
        whole=whole,
        timeless=projection.timeless,
        told=projection.metadata,
    )
    return (
        Outcome(
            read=so_far.read + outcome.read,
            changed=so_far.changed or outcome.changed,
            damaged=so_far.damaged + outcome.damaged,
        ),
        stream.id,
    )


def _stands(context: IngestContext, stream: StreamState, content: Records, path: str, told: Entry | None) -> bool:
    """Tell whether nothing is to be done for a stream: of a container's hundreds, mostly one has changed."""
    file = context.spool.catalog.file(path)
    return (
        told is None
        and (file is not None and file.stream == stream.id and file.gone_ms is None)
        and (stream.caught_up and content.size == stream.folded)
        and content.standing(context.spool.catalog.extents(stream.id)) == content.size
    )


def _find_stream(snapshot: FileSnapshot, projection: Projection, content: Records, path: str) -> StreamState | None:
    """Find the stream of a projection; None where another file that is there has all of it.

    A migration, a copy to another workspace or a database beside old files give one session several roots. One
    that only repeats what another says adds nothing, one that goes on from there goes on; else both are kept.
    """
    context, source, name = snapshot.context, snapshot.location.source, projection.stream
    stream = add_stream(context, source, projection.native_id, name, thread=projection.thread)
    others = [file for file in context.spool.catalog.files(stream.id) if file.path != path and file.gone_ms is None]
    if not any(os.path.exists(file.path.partition("::")[0]) for file in others):
        return stream
    standing = content.standing(context.spool.catalog.extents(stream.id))
    if standing == stream.folded:
        return stream
    if standing == content.size:
        return None
    apart = blake2b(os.fsencode(path), digest_size=4).hexdigest()
    return add_stream(context, source, projection.native_id, f"{name}@{apart}", thread=projection.thread)
