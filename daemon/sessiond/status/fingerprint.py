"""Fingerprint of the state directory, to notice changes of the status with a few calls of stat."""

from __future__ import annotations

import os
from collections.abc import Iterable

from sessiond import pause, state
from sessiond.spool import NAME

Fingerprint = tuple[object, ...]

FILES = (NAME, f"{NAME}-wal", state.LOCK, pause.FILE)


def read_fingerprint(directory: str, config_files: Iterable[str]) -> Fingerprint:
    """Return a fingerprint of the state in `directory`; equal fingerprints mean that nothing was written.

    It includes the holder of the lock, because a daemon that is killed writes nothing.
    """
    try:
        holder = state.running(directory)
    except OSError as error:
        return (error.errno,)
    paths = (*(os.path.join(directory, name) for name in FILES), *config_files)
    return (holder, *map(_stamp, paths))


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
