"""The remains of a spool after a power cut: the write-ahead log up to some commit, and perhaps half of the next one."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from sessiond.spool import Spool

HEADER, FRAME_HEADER = 32, 24
"""Bytes before the first frame of a log and before the page of a frame (SQLite's file format, 4.1 and 4.2)."""


def cut_power(state: str, image: str, back: int, *, torn: bool) -> int:
    """Copy the files of an open spool as a power cut leaves them; tell how many commits are lost.

    `back` commits are taken off the end of the log, as a disk does that only claims to sync. `torn` leaves a
    part of the first lost frame, as when the power went in the middle of a write.
    """
    shutil.rmtree(image, ignore_errors=True)
    shutil.copytree(state, image)
    path = os.path.join(image, "spool.db-wal")
    with open(path, "rb") as file:
        log = file.read()
    ends = [HEADER, *_commits(log)] if log else [0]
    kept = ends[max(0, len(ends) - 1 - back)]
    with open(path, "wb") as file:
        file.write(log[: kept + 1000] if torn else log[:kept])
    if os.path.exists(index := os.path.join(image, "spool.db-shm")):
        os.unlink(index)  # memory, not disk
    return len(ends) - 1 - ends.index(kept)


def _commits(log: bytes) -> list[int]:
    """Return where each commit in a log ends. Frames of an earlier round of the log have another salt."""
    size = struct.unpack(">I", log[8:12])[0]
    found, position = [], HEADER
    while position + FRAME_HEADER + size <= len(log) and log[position + 8 : position + 16] == log[16:24]:
        pages = struct.unpack(">I", log[position + 4 : position + 8])[0]
        position += FRAME_HEADER + size
        if pages:
            found.append(position)
    return found


class Killed(BaseException):
    """Raised where the process ends."""


class CrashingSpool(Spool):
    """A spool whose daemon may be killed before or after any commit: `steps` says how many more it sees."""

    steps: int | None = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit as the spool does, with a possible kill before and after it."""
        with super().transaction():
            yield
            if self._depth == 1:
                self.step()
        if self._depth == 0:
            self.step()

    def step(self) -> None:
        """Count a step. Raises: Killed."""
        if self.steps is not None:
            self.steps -= 1
            if self.steps < 0:
                raise Killed
