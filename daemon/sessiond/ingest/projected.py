"""Documents, folders and databases: streams by projection (design.md section 5)."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from stat import S_ISREG
from typing import cast

from sessiond.errors import ReadError, Torn
from sessiond.ingest.advance import add_stream, advance
from sessiond.ingest.capture import DAMAGED
from sessiond.ingest.content import Records
from sessiond.ingest.gone import note_back, note_gone
from sessiond.ingest.setting import Outcome, Place, Setting, Visit
from sessiond.reader import open_database, open_regular, read_document
from sessiond.sources.base import DatabaseSource, DocumentSource, Kind, Portrait
from sessiond.spool.rows import FileState

FOLDER_DEPTH = 3
"""Levels of directories that a folder unit may have."""


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
            files, now = _list_folder(place)
            visit = Visit(setting=setting, place=place, known=known, now=now)
            if _settled(visit, only):
                return Outcome()
            return _ingest_document(visit, {name: _read(place, name) for name in files})
        case _:
            descriptor = open_regular(place.root, place.below)
            try:
                visit = Visit(setting=setting, place=place, known=known, now=os.fstat(descriptor))
                if _settled(visit, only):
                    return Outcome()
                return _ingest_document(visit, {place.below: read_document(descriptor)})
            finally:
                os.close(descriptor)


def _settled(visit: Visit, only: Collection[str] | None) -> bool:
    if not visit.unchanged or only:
        return False
    if visit.known is not None and visit.known.gone_ms is not None:
        note_back(visit.setting, visit.known)
    return True


def _ingest_document(visit: Visit, files: Mapping[str, bytes]) -> Outcome:
    place, source = visit.place, cast(DocumentSource, visit.place.source)
    try:
        portraits = list(source.project(files, place.unit))
        # Records are made here, so that a half-written document is found out before anything is stored.
        contents = [Records(portrait.records, visit.setting.digest) for portrait in portraits]
    except DAMAGED as error:
        raise Torn(f"it can't be parsed: {error}") from error
    container = len({portrait.native_id for portrait in portraits}) > 1
    outcome, first = Outcome(), None
    for portrait, content in zip(portraits, contents, strict=True):
        path = f"{place.path}::{portrait.native_id}" if container else None
        outcome, stream = _capture(visit, portrait, content, outcome, path)
        first = first or stream
    with visit.setting.spool.transaction():
        visit.save(None if container else first, visit.checkpoint())
    return outcome


def _capture(
    visit: Visit, portrait: Portrait, content: Records, so_far: Outcome, path: str | None
) -> tuple[Outcome, int]:
    """Capture one stream of a container. A session in a container has a path of its own (`file::native id`)."""
    setting, source = visit.setting, visit.place.source
    stream = add_stream(setting, source, portrait.native_id, portrait.stream, thread=portrait.thread)

    def save(whole: bool) -> None:
        file = FileState(path=path or visit.place.path, tool=source.tool, stream=stream.id)
        if path is None and visit.known is not None:
            return
        setting.spool.catalog.save_file(file)

    if content.size == 0 and stream.folded:
        return so_far, stream.id  # never reported as emptied: the next look has its records again
    outcome = advance(visit, stream, content, grew=False, save=save, parent=portrait.parent)
    return (
        Outcome(
            read=so_far.read + outcome.read,
            changed=so_far.changed or outcome.changed,
            damaged=so_far.damaged + outcome.damaged,
        ),
        stream.id,
    )


def _ingest_database(setting: Setting, place: Place, known: FileState | None, only: Collection[str] | None) -> Outcome:
    os.close(open_regular(place.root, place.below))
    visit = Visit(setting=setting, place=place, known=known, now=_database_stat(place.path))
    if _settled(visit, only):
        return Outcome()
    source = cast(DatabaseSource, place.source)
    database = open_database(place.path)
    try:
        marks = setting.spool.catalog.marks(place.path)
        outcome, listed = Outcome(), set[str]()
        for native_id, mark in list(source.sessions(database)):
            listed.add(native_id)
            if marks.get(native_id) == mark and not (only and native_id in only):
                continue
            for portrait in source.portraits(database, native_id):
                content = Records(portrait.records, setting.digest)
                path = f"{place.path}::{native_id}"
                outcome, _ = _capture(visit, portrait, content, outcome, path)
            with setting.spool.transaction():
                setting.spool.catalog.set_mark(place.path, native_id, mark)
    except DAMAGED as error:
        raise ReadError(f"it can't be read: {error}") from error
    finally:
        database.close()
    for native_id in marks.keys() - listed:
        note_gone(setting, setting.spool.catalog.file(f"{place.path}::{native_id}"))
    with setting.spool.transaction():
        visit.save(None, visit.checkpoint())
    return outcome


def _database_stat(path: str) -> os.stat_result:
    """Look at a database and its -wal as one: a change shows in either (rule 6). The -shm says nothing."""
    found = os.stat(path, follow_symlinks=False)
    try:
        wal = os.stat(f"{path}-wal", follow_symlinks=False)
    except FileNotFoundError:
        return found
    return _merged(found, [found, wal])


def _merged(base: os.stat_result, parts: Iterable[os.stat_result]) -> os.stat_result:
    """Make one stat of several: sizes summed, newest times."""
    size, mtime, ctime = 0, 0, 0
    for part in parts:
        size, mtime, ctime = size + part.st_size, max(mtime, part.st_mtime_ns), max(ctime, part.st_ctime_ns)
    values = list(base[:10])
    values[6] = size
    times = {"st_mtime_ns": mtime, "st_ctime_ns": ctime, "st_atime_ns": 0}
    return os.stat_result(values, times)


def _list_folder(place: Place) -> tuple[list[str], os.stat_result]:
    names: list[str] = []
    stats: list[os.stat_result] = []

    def walk(directory: str, below: str, depth: int) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                name = below + entry.name
                if entry.is_dir(follow_symlinks=False) and depth:
                    walk(entry.path, f"{name}/", depth - 1)
                elif entry.is_file(follow_symlinks=False):
                    found = entry.stat(follow_symlinks=False)
                    if S_ISREG(found.st_mode):
                        names.append(name)
                        stats.append(found)

    walk(place.path, "", FOLDER_DEPTH)
    return sorted(names), _merged(os.stat(place.path), stats)


def _read(place: Place, name: str) -> bytes:
    descriptor = open_regular(place.root, f"{place.below}/{name}")
    try:
        return read_document(descriptor)
    finally:
        os.close(descriptor)
