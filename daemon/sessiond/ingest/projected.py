"""Ingests documents, folders and databases, whose content a source projects to streams of records."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, cast

from msgspec.structs import replace

from sessiond.database import Database, open_database
from sessiond.errors import ReadError, Torn
from sessiond.ingest.admission import Admission, admit, leave
from sessiond.ingest.content import Records
from sessiond.ingest.context import FileSnapshot, IngestContext, Location, Outcome, Turn, inner_path
from sessiond.ingest.files import database_stat, is_settled, list_folder, read_file, with_further
from sessiond.ingest.presence import ask_again, note_back, note_gone
from sessiond.ingest.stream_capture import StreamDetails, add_stream, capture_stream
from sessiond.reader import check_regular, open_regular, read_document
from sessiond.session import Entry, session_id
from sessiond.sources.base import DatabaseSource, DocumentSource, Kind, Projection
from sessiond.sources.damaged import DAMAGED
from sessiond.sources.rows import UNREADABLE
from sessiond.spool.rows import FileState, StreamState

FULL_SCAN_MS = 86_400_000
"""Between two scans of every row of a database, which find changes that move no watermark."""
LAST_FULL_SCAN = ""
"""The key of the last full scan among the watermarks."""
SHOWN = 3
"""Unreadable sessions of a database that are named; of more, the number is."""


def ingest_projected(context: IngestContext, turn: Turn, location: Location, known: FileState | None) -> Outcome:
    """Bring the streams of a document, a folder or a database up to date.

    Raises: Torn where it is in the middle of a rewrite.
    """
    match location.unit.kind:
        case Kind.DATABASE:
            return _ingest_database(context, turn, location, known)
        case Kind.FOLDER:
            files, now = list_folder(location)
            snapshot = FileSnapshot(context=context, turn=turn, location=location, known=known, stat=now)
            if _is_unchanged(snapshot):
                return Outcome()
            context.begin_work(snapshot.stat.st_size)
            content = {name: read_file(location, name) for name in files}
            # A file that stays empty must not stop the others.
            files_read = {name: data for name, data in content.items() if data or not is_settled(snapshot)}
            return replace(_ingest_document(snapshot, files_read), cost=snapshot.stat.st_size)
        case _:
            descriptor = open_regular(location.root, location.below)
            try:
                now = os.fstat(descriptor)
                snapshot = FileSnapshot(context=context, turn=turn, location=location, known=known, stat=now)
                # An emptied file is the first half of a rewrite. The other half is a change of its own (rule 8).
                if snapshot.stat.st_size == 0 or _is_unchanged(snapshot):
                    return Outcome()
                context.begin_work(snapshot.stat.st_size)
                outcome = _ingest_document(snapshot, {location.below: read_document(descriptor)})
                return replace(outcome, cost=snapshot.stat.st_size)
            finally:
                os.close(descriptor)


def _is_unchanged(snapshot: FileSnapshot) -> bool:
    """Return whether nothing is to be read; if the file had vanished, store that it is back."""
    if snapshot.known is not None and snapshot.known.gone_ms is not None:
        note_back(snapshot.context, snapshot.known)
    return snapshot.unchanged and not snapshot.turn.only


# Documents and folders


def _ingest_document(snapshot: FileSnapshot, files: Mapping[str, bytes]) -> Outcome:
    context, location, source = snapshot.context, snapshot.location, cast(DocumentSource, snapshot.location.source)
    try:
        projections = list(source.project(with_further(location, context.now_ms(), source, files), location.unit))
        # All records are built first, so that a half-written document is noticed before anything is stored.
        contents = [Records(projection.records, context.digest) for projection in projections]
    except DAMAGED as error:
        raise (ReadError if is_settled(snapshot) else Torn)(f"it can't be parsed: {error}") from error
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
        # A document that parses and did not shrink is complete.
        outcome, stream = _capture(snapshot, projection, content, outcome, path, shrinks=False)
        main = stream if path == location.path else main
    if outcome.retry or (excluded and not container):
        return outcome  # not even its path is kept
    with context.spool.transaction():
        snapshot.save(main, snapshot.checkpoint())
    for file in context.spool.catalog.inside(location.path):
        if file.path not in paths:
            note_gone(context, file, snapshot.turn.live)
    return outcome


# Databases


def _ingest_database(context: IngestContext, turn: Turn, location: Location, known: FileState | None) -> Outcome:
    check_regular(location.root, location.below)
    now = database_stat(location.path)
    snapshot = FileSnapshot(context=context, turn=turn, location=location, known=known, stat=now)
    if _is_unchanged(snapshot):
        return Outcome()
    marks = context.spool.catalog.marks(location.path)
    # A time in the future was stored while the clock was ahead.
    thorough = not 0 <= context.now_ms() - int(marks.pop(LAST_FULL_SCAN, 0)) < FULL_SCAN_MS
    outcome = Outcome()
    # How many sessions changed, and how long they are, shows only when they are read. Each is committed by itself.
    context.spool.end_group()
    database = open_database(location.path, marks, thorough=thorough)
    try:
        listing = _list_sessions(cast(DatabaseSource, location.source), database)
        for native_id, mark in listing.marks.items():
            if mark != UNREADABLE and marks.get(native_id) == mark and native_id not in turn.only:
                continue
            try:
                outcome = _capture_session(snapshot, database, native_id, mark, outcome)
            except Torn:
                raise
            except (ReadError, *DAMAGED) as error:
                # Rule 9. Its watermark does not move, so it is tried again when the database changes.
                reason = str(error) if isinstance(error, ReadError) else f"it can't be parsed: {error}"
                listing.troubles.append(f"session {native_id}: {reason}")
    finally:
        database.close()
    trouble = _summary(listing.troubles)
    for native_id in marks.keys() - listing.marks.keys() if listing.complete else ():
        path = inner_path(location.path, native_id)
        for file in (context.spool.catalog.file(path), *context.spool.catalog.inside(path)):
            note_gone(context, file, snapshot.turn.live)
        with context.spool.transaction():
            context.spool.catalog.drop_mark(location.path, native_id)
    with context.spool.transaction():
        snapshot.save(None, snapshot.checkpoint(), trouble=trouble)
        if thorough:
            context.spool.catalog.set_mark(location.path, LAST_FULL_SCAN, str(context.now_ms()))
    return Outcome(read=outcome.read, changed=outcome.changed, damaged=outcome.damaged, trouble=trouble)


class _Listing(NamedTuple):
    marks: dict[str, str]
    """The watermark of each session, by native id."""
    troubles: list[str]
    complete: bool
    """Whether a session that is not listed is gone."""


def _list_sessions(source: DatabaseSource, database: Database) -> _Listing:
    """List the sessions of a database, as far as its list can be read. Raises: Torn; ReadError if none can be read."""
    found = _Listing({}, [], complete=True)
    try:
        for native_id, mark in source.sessions(database):
            if isinstance(native_id, str):
                found.marks[native_id] = mark
            else:
                found.troubles.append(f"the id of a session is of type {type(native_id).__name__}")
    except Torn:
        raise
    except (ReadError, *DAMAGED) as error:
        if not found.marks:
            raise ReadError(f"it can't be read: {error}") from error
        found.troubles.append(f"the list of its sessions can't be read to its end: {error}")
        return found._replace(complete=False)
    return found


def _summary(troubles: Sequence[str]) -> str | None:
    """Return one line about all troubles, with the first few in full."""
    if not troubles:
        return None
    more = f"; and {len(troubles) - SHOWN} more" if len(troubles) > SHOWN else ""
    return "; ".join(troubles[:SHOWN]) + more


def _capture_session(snapshot: FileSnapshot, database: Database, native_id: str, mark: str, so_far: Outcome) -> Outcome:
    """Capture a session of a database and store its watermark, in one commit unless the session is long."""
    context, location, captured = snapshot.context, snapshot.location, True
    # All of it is read before anything is stored: nobody else can write to the spool during a transaction.
    streams = [
        (projection, Records(projection.records, context.digest))
        for projection in cast(DatabaseSource, location.source).projections(database, native_id)
    ]
    with context.spool.group():
        context.begin_work(sum(content.size for _, content in streams))
        for projection, content in streams:
            path = inner_path(location.path, projection.native_id, projection.stream)
            if _admit(snapshot, projection, content) is Admission.YES:
                so_far, _ = _capture(snapshot, projection, content, so_far, path, shrinks=True)
            else:
                captured = False
        if captured and mark != UNREADABLE:  # otherwise it is read again with the next change
            with context.spool.transaction():
                context.spool.catalog.set_mark(location.path, native_id, mark)
    return so_far


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

    `shrinks`: fewer records than before are a consistent state, not half of a rewrite.
    """
    context, source, known = snapshot.context, snapshot.location.source, snapshot.known
    if content.size == 0:
        # An empty projection changes nothing: no stream is created for it, and none counts as emptied.
        return so_far, known.stream if known is not None and path == snapshot.location.path else None
    stream = _find_stream(snapshot, projection, content, path)
    if stream is None:
        return so_far, None
    before = context.spool.catalog.file(path)
    if before is None or before.stream is None or before.gone_ms is not None:
        ask_again(context, stream)
    if path != snapshot.location.path and _has_no_news(context, stream, content, path, projection.metadata):
        return so_far, stream.id

    def save(_: bool) -> None:
        # The file's checkpoint moves only after all its streams are stored: a kill in between reads all of them again.
        checkpoint = known.checkpoint if known is not None and path == snapshot.location.path else None
        context.spool.catalog.save_file(FileState(path=path, tool=source.tool, stream=stream.id, checkpoint=checkpoint))

    details = StreamDetails(
        parent=projection.parent,
        complete=shrinks or content.size >= stream.folded,
        timeless=projection.timeless,
        metadata=projection.metadata,
    )
    outcome = capture_stream(snapshot, stream, content, details, save)
    return (
        Outcome(
            read=so_far.read + outcome.read,
            changed=so_far.changed or outcome.changed,
            damaged=so_far.damaged + outcome.damaged,
        ),
        stream.id,
    )


def _has_no_news(
    context: IngestContext, stream: StreamState, content: Records, path: str, metadata: Entry | None
) -> bool:
    """Return whether a stream needs no work: of hundreds in a container, mostly one has changed."""
    file = context.spool.catalog.file(path)
    return (
        metadata is None
        and (file is not None and file.stream == stream.id and file.gone_ms is None)
        and (stream.caught_up and content.size == stream.folded)
        and content.unchanged_prefix(context.spool.catalog.extents(stream.id)) == content.size
    )


def _find_stream(snapshot: FileSnapshot, projection: Projection, content: Records, path: str) -> StreamState | None:
    """Return the stream of a projection; None if another existing file has all of it.

    After a migration, a copy to another workspace, or with a database beside old files, a session is in several files.
    A file that only repeats another adds nothing. A file that continues another continues its stream. Any other becomes
    a stream of its own, so that both are kept.
    """
    context, source, name = snapshot.context, snapshot.location.source, projection.stream
    stream = add_stream(context, source, projection.native_id, name, thread=projection.thread)
    others = [file for file in context.spool.catalog.files(stream.id) if file.path != path and file.gone_ms is None]
    if not any(os.path.exists(file.path.partition("::")[0]) for file in others):
        return stream
    kept = content.unchanged_prefix(context.spool.catalog.extents(stream.id))
    if kept == stream.folded:
        return stream
    if kept == content.size:
        return None
    suffix = blake2b(os.fsencode(path), digest_size=4).hexdigest()
    return add_stream(context, source, projection.native_id, f"{name}@{suffix}", thread=projection.thread)
