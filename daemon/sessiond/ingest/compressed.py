"""Packed files, and which of them were found too large or damaged: unpacking one is what is learnt of that by."""

from __future__ import annotations

import os

import msgspec

from sessiond.errors import ReadError, Torn
from sessiond.ingest.content import LARGEST, unpack

STALE_MS = 60_000
"""A file that was not written for so long is not half a write: it stays as damaged as it is."""


class _Refusal(msgspec.Struct, frozen=True):
    """How a file looked that was refused, how many bytes were allowed to come out of it, and what was said."""

    looked: tuple[int, ...]
    most: int
    error: ReadError | Torn


class CompressedFiles:
    """What was refused since the start. It may have cost gigabytes of writing, which no look shall cost again."""

    def __init__(self, largest: int = LARGEST) -> None:
        self.largest = largest
        self._refused: dict[str, _Refusal] = {}

    def open(self, descriptor: int, path: str, directory: str, now_ms: int) -> int:
        """Unpack a file into an unnamed one in `directory`; return its descriptor.

        What was refused is refused again without a look inside, until it changes; or, where it was too large for the
        free disk, until twice as much may come out.

        Raises: Torn, ReadError; see unpack().
        """
        found, disk = os.fstat(descriptor), os.statvfs(directory)
        most = min(self.largest, disk.f_bavail * disk.f_frsize // 2)
        looked = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        refusal = self._refused.get(path)
        if refusal is not None and refusal.looked == looked:
            damaged = isinstance(refusal.error, Torn)
            if damaged or most < min(2 * refusal.most, self.largest) or most <= refusal.most:
                raise refusal.error.with_traceback(None)
        self._refused.pop(path, None)
        try:
            return unpack(descriptor, directory, most)
        except (ReadError, Torn) as error:
            if not isinstance(error, Torn) or now_ms - found.st_mtime_ns // 1_000_000 > STALE_MS:
                self._refused[path] = _Refusal(looked, most, error)
            raise
