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
from sessiond.ingest.advance import add_stream, advance
from sessiond.ingest.capture import DAMAGED
from sessiond.ingest.content import Records
from sessiond.ingest.files import database_stat, list_folder, read_file, stale, with_further
from sessiond.ingest.gone import ask_again, note_back, note_gone
from sessiond.ingest.setting import Outcome, Place, Setting, Visit, inner_path
from sessiond.reader import check_regular, open_regular, read_document
from sessiond.session import Entry, session_id
from sessiond.sources.base import DatabaseSource, DocumentSource, Kind, Projection
from sessiond.spool.rows import FileState, StreamState

SURVEY_MS = 86_400_000
"""Between two looks at every row of a database: what moves no watermark is found then."""
SURVEYED = ""
"""The name among the watermarks under which the last such look is noted."""


def ingest_projected(
    setting: Setting, place: Place, known: FileState | None, only: Collection[str] | None = None
) -> Outcome:
    """Bring the streams of a document, a folder or a database up to what stands there.

    `only` names sessions of a container that are read whether or not it changed: their transcripts wait.

    Raises: Torn where it was met in the middle of a rewrite.
    """
    match place.unit.kind:
        case Kind.DATABASE:
            return _ingest_database(setting, place, known, only)
        case Kind.FOLDER:
            files, now = list_folder(place)
            visit = Visit(setting=setting, place=place, known=known, now=now)
            if _settled(visit, only):
                return Outcome()
            content = {name: read_file(place, name) for name in files}
            # What was left empty must not stop the rest.
            files_read = {name: data for name, data in content.items() if data or not stale(visit)}
            return replace(_ingest_document(visit, files_read), cost=visit.now.st_size)
        case _:
            descriptor = open_regular(place.root, place.below)
            try:
                visit = Visit(setting=setting, place=place, known=known, now=os.fstat(descriptor))
                # An emptied file is the first half of a rewrite; its other half is a change of its own (rule 8).
                if visit.now.st_size == 0 or _settled(visit, only):
                    return Outcome()
                outcome = _ingest_document(visit, {place.below: read_document(descriptor)})
                return replace(outcome, cost=visit.now.st_size)
            finally:
                os.close(descriptor)


def _settled(visit: Visit, only: Collection[str] | None) -> bool:
    if visit.known is not None and visit.known.gone_ms is not None:
        note_back(visit.setting, visit.known)
    return visit.unchanged and not only


# Documents and folders


def _ingest_document(visit: Visit, files: Mapping[str, bytes]) -> Outcome:
    setting, place, source = visit.setting, visit.place, cast(DocumentSource, visit.place.source)
    try:
        projections = list(source.project(with_further(place, setting.now_ms(), source, files), place.unit))
        # Records are made here, so that a half-written document is found out before anything is stored.
        contents = [Records(projection.records, setting.digest) for projection in projections]
    except DAMAGED as error:
        raise (ReadError if stale(visit) else Torn)(f"it can't be parsed: {error}") from error
    container = len({projection.native_id for projection in projections}) > 1
    outcome, main, paths, excluded = Outcome(), None, set[str](), False
    for projection, content in zip(projections, contents, strict=True):
        path = inner_path(place.path, projection.native_id if container else "", projection.stream)
        paths.add(path)
        verdict = _admit(visit, projection, content)
        outcome = replace(outcome, retry=outcome.retry or verdict is Admission.LATER)
        excluded |= verdict is not Admission.YES
        if verdict is not Admission.YES:
            continue
        # Its parser vouches for a document that did not shrink.
        outcome, stream = _capture(visit, projection, content, outcome, path, shrinks=False)
        main = stream if path == place.path else main
    if outcome.retry or (excluded and not container):
        return outcome  # not even its path is kept
    with setting.spool.transaction():
        visit.save(main, visit.checkpoint())
    for file in setting.spool.catalog.inside(place.path):
        if file.path not in paths:
            note_gone(setting, file)
    return outcome


# Databases


def _ingest_database(setting: Setting, place: Place, known: FileState | None, only: Collection[str] | None) -> Outcome:
    check_regular(place.root, place.below)
    visit = Visit(setting=setting, place=place, known=known, now=database_stat(place.path))
    if _settled(visit, only):
        return Outcome()
    marks, source = setting.spool.catalog.marks(place.path), cast(DatabaseSource, place.source)
    outcome, trouble, listed = Outcome(), None, {SURVEYED}
    # One in the future was noted under a clock that was ahead.
    thorough = not 0 <= setting.now_ms() - int(marks.pop(SURVEYED, 0)) < SURVEY_MS
    database = open_database(place.path, marks, thorough=thorough)
    try:
        for native_id, mark in list(source.sessions(database)):
            if not isinstance(native_id, str):
                trouble = f"a session has no id but {type(native_id).__name__}"
                continue
            listed.add(native_id)
            if marks.get(native_id) == mark and not (only and native_id in only):
                continue
            try:
                taken, outcome = _capture_session(visit, database, native_id, outcome)
            except DAMAGED as error:
                # Rule 9. Without a watermark it is tried again when the database changes.
                trouble = f"session {native_id} can't be read: {error}"
                continue
            if not taken:
                continue  # without a watermark it is looked at again with the next change
            with setting.spool.transaction():
                setting.spool.catalog.set_mark(place.path, native_id, mark)
    except DAMAGED as error:
        raise ReadError(f"it can't be read: {error}") from error
    finally:
        database.close()
    for native_id in marks.keys() - listed:
        path = inner_path(place.path, native_id)
        for file in (setting.spool.catalog.file(path), *setting.spool.catalog.inside(path)):
            note_gone(setting, file)
        with setting.spool.transaction():
            setting.spool.catalog.drop_mark(place.path, native_id)
    with setting.spool.transaction():
        visit.save(None, visit.checkpoint(), trouble=trouble)
        if thorough:
            setting.spool.catalog.set_mark(place.path, SURVEYED, str(setting.now_ms()))
    return Outcome(read=outcome.read, changed=outcome.changed, damaged=outcome.damaged, trouble=trouble)


def _capture_session(visit: Visit, database: Database, native_id: str, outcome: Outcome) -> tuple[bool, Outcome]:
    taken = True
    for projection in cast(DatabaseSource, visit.place.source).projections(database, native_id):
        path = inner_path(visit.place.path, projection.native_id, projection.stream)
        content = Records(projection.records, visit.setting.digest)
        if _admit(visit, projection, content) is Admission.YES:
            outcome, _ = _capture(visit, projection, content, outcome, path, shrinks=True)
        else:
            taken = False
    return taken, outcome


# One stream


def _admit(visit: Visit, projection: Projection, content: Records) -> Admission:
    """Decide on a stream before anything of it is stored."""
    if content.size == 0:
        return Admission.YES
    verdict = admit(visit, projection.native_id, content)
    identity = session_id(visit.place.source.tool, projection.native_id, visit.setting.scope(visit.place.source))
    stream = visit.setting.spool.catalog.find_stream(identity, projection.stream)
    return Admission.EXCLUDED if stream is not None and leave(visit, stream, content) else verdict


def _capture(
    visit: Visit, projection: Projection, content: Records, so_far: Outcome, path: str, *, shrinks: bool
) -> tuple[Outcome, int | None]:
    """Capture one stream, under a path of its own (see `inner_path`).

    `shrinks`: fewer records are what the tool has now, not half of what it is writing.
    """
    setting, source, known = visit.setting, visit.place.source, visit.known
    if content.size == 0:
        # Never reported as emptied, and none that is not there yet.
        return so_far, known.stream if known is not None and path == visit.place.path else None
    stream = _find_stream(visit, projection, content, path)
    if stream is None:
        return so_far, None
    before = setting.spool.catalog.file(path)
    if before is None or before.stream is None or before.gone_ms is not None:
        ask_again(setting, stream)
    if path != visit.place.path and _stands(setting, stream, content, path, projection.metadata):
        return so_far, stream.id

    def save(_: bool) -> None:
        # The file's checkpoint moves when all its streams are stored; until then it stays as it was.
        checkpoint = known.checkpoint if known is not None and path == visit.place.path else None
        setting.spool.catalog.save_file(FileState(path=path, tool=source.tool, stream=stream.id, checkpoint=checkpoint))

    whole = shrinks or content.size >= stream.folded
    outcome = advance(
        visit,
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


def _stands(setting: Setting, stream: StreamState, content: Records, path: str, told: Entry | None) -> bool:
    """Tell whether nothing is to be done for a stream: of a container's hundreds, mostly one has changed."""
    file = setting.spool.catalog.file(path)
    return (
        told is None
        and (file is not None and file.stream == stream.id and file.gone_ms is None)
        and (stream.caught_up and content.size == stream.folded)
        and content.standing(setting.spool.catalog.extents(stream.id)) == content.size
    )


def _find_stream(visit: Visit, projection: Projection, content: Records, path: str) -> StreamState | None:
    """Find the stream of a projection; None where another file that is there has all of it.

    A migration, a copy to another workspace or a database beside old files give one session several places. One
    that only repeats what another says adds nothing, one that goes on from there goes on; else both are kept.
    """
    setting, source, name = visit.setting, visit.place.source, projection.stream
    stream = add_stream(setting, source, projection.native_id, name, thread=projection.thread)
    others = [file for file in setting.spool.catalog.files(stream.id) if file.path != path and file.gone_ms is None]
    if not any(os.path.exists(file.path.partition("::")[0]) for file in others):
        return stream
    standing = content.standing(setting.spool.catalog.extents(stream.id))
    if standing == stream.folded:
        return stream
    if standing == content.size:
        return None
    apart = blake2b(os.fsencode(path), digest_size=4).hexdigest()
    return add_stream(setting, source, projection.native_id, f"{name}@{apart}", thread=projection.thread)
