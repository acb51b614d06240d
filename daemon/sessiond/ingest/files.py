"""Reads files that belong together: those of a folder, those that a document names, a database and its -wal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from stat import S_ISREG
from typing import NamedTuple

import msgspec

from sessiond.errors import Torn
from sessiond.ingest.context import Location
from sessiond.reader import check_document, open_regular, pread, read_document
from sessiond.sources.base import DocumentSource
from sessiond.sources.damaged import DAMAGED, to_utf8

FOLDER_DEPTH = 3
"""Levels of directories that a folder unit may have."""
STALE_MS = 60_000
"""A file that was not written for this long is not half of a rewrite: if it can't be parsed, it is damaged."""


class SessionList(NamedTuple):
    """The sessions of a database."""

    marks: dict[str, str]
    """The watermark of each session, by native id."""
    troubles: list[str]
    complete: bool
    """Whether a session that is not listed is gone."""

    def add(self, native_id: object, mark: str) -> None:
        """Add a session; one whose id is damaged is among the troubles."""
        if not isinstance(native_id, str):
            self.troubles.append(f"the id of a session is of type {type(native_id).__name__}")
        elif "\ufffd" in native_id:
            self.troubles.append("the id of a session is damaged")
        else:
            self.marks[native_id] = mark


def with_more_directories(
    location: Location, now_ms: int, source: DocumentSource, files: Mapping[str, bytes]
) -> Mapping[str, bytes]:
    """Return `files` and the files in the directories that they name; see `DocumentSource.more_directories`."""
    found, listed = dict(files), set[str]()
    while fresh := [name for name in source.more_directories(found, location.unit) if name not in listed]:
        listed.update(fresh)
        for directory in fresh:
            try:
                names = sorted(os.listdir(os.path.join(*location.resolve(directory))))
            except (FileNotFoundError, NotADirectoryError):
                continue  # not created yet, or gone with its session
            found |= {f"{directory}/{name}": _read_whole(location, now_ms, f"{directory}/{name}") for name in names}
    return found


def _read_whole(location: Location, now_ms: int, name: str) -> bytes:
    """Read one of many JSON files. A file that was damaged long ago does not stop its session (rule 9)."""
    try:
        descriptor = open_regular(*location.resolve(name))
    except FileNotFoundError as error:
        raise Torn("a file of the session vanished while it was read") from error
    try:
        now = os.fstat(descriptor)
        check_document(now.st_size)
        content = to_utf8(pread(descriptor, now.st_size, 0))
    finally:
        os.close(descriptor)
    try:
        msgspec.json.decode(content, type=msgspec.Raw)
    except DAMAGED as error:
        if now_ms - now.st_mtime_ns // 1_000_000 <= STALE_MS:
            raise Torn("a file of the session is being rewritten") from error
    return content


def list_folder(location: Location) -> tuple[list[str], os.stat_result]:
    """Return the files of a folder, and one stat for all of them."""
    names: list[str] = []
    stats = [os.stat(location.path)]

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

    walk(location.path, "", FOLDER_DEPTH)
    return sorted(names), _merge(stats)


def read_file(location: Location, name: str) -> bytes:
    """Read a file of a folder. An empty one may be half-written, a lock or an unused journal: its parser decides.

    Raises: Torn where it is being rewritten.
    """
    try:
        descriptor = open_regular(location.root, f"{location.below}/{name}")
    except FileNotFoundError as error:
        raise Torn("a file of the folder vanished while it was read") from error
    try:
        if os.fstat(descriptor).st_size == 0:
            return b""
        return to_utf8(read_document(descriptor))
    finally:
        os.close(descriptor)


def database_stat(path: str) -> os.stat_result:
    """Return one stat for a database and its -wal: a change shows in either (rule 6).

    The -shm is ignored, and so is the ctime of the -wal: SQLite sets the owner of a -wal that root opens, even to read,
    and that changes the ctime.
    """
    found = os.stat(path, follow_symlinks=False)
    try:
        wal = os.stat(f"{path}-wal", follow_symlinks=False)
    except FileNotFoundError:
        return found
    newest = max(found.st_mtime_ns, wal.st_mtime_ns)
    return _replace(found, size=found.st_size + wal.st_size, mtime_ns=newest, ctime_ns=found.st_ctime_ns)


def _merge(parts: Sequence[os.stat_result]) -> os.stat_result:
    """Combine several stats into one: the sum of the sizes, the newest times, all else from the first.

    Each part adds at least 1, so that a new empty file shows even within one tick of the clock.
    """
    return _replace(
        parts[0],
        size=sum(part.st_size + 1 for part in parts),
        mtime_ns=max(part.st_mtime_ns for part in parts),
        ctime_ns=max(part.st_ctime_ns for part in parts),
    )


def with_mtime(found: os.stat_result, mtime_ms: int) -> os.stat_result:
    """Return a stat with another time of the last write."""
    return _replace(found, size=found.st_size, mtime_ns=mtime_ms * 1_000_000, ctime_ns=found.st_ctime_ns)


def _replace(found: os.stat_result, *, size: int, mtime_ns: int, ctime_ns: int) -> os.stat_result:
    values = [*found[:6], size, *found[7:10]]
    return os.stat_result(values, {"st_mtime_ns": mtime_ns, "st_ctime_ns": ctime_ns, "st_atime_ns": 0})


def is_superseded(location: Location) -> bool:
    """Return whether the unpacked version of a packed file is beside it. The tool appends to the unpacked one."""
    return location.unit.packed and os.path.exists(location.path.removesuffix(".zst"))
