"""Decompresses transcripts, and remembers those that failed so that a scan does not decompress them again."""

from __future__ import annotations

import os
import tempfile

import msgspec

from sessiond import zstd
from sessiond.errors import ReadError, Torn
from sessiond.reader import CHUNK

MAX_DECOMPRESSED = 8 << 30
"""Bytes that a compressed file may decompress to, on the disk: four times the longest session seen."""
STALE_MS = 60_000
"""A file that was not written for this long is not half-written: it is damaged, and stays so."""


class _Refusal(msgspec.Struct, frozen=True):
    """A file that was refused: its identity and times, how many decompressed bytes were allowed, and the error."""

    identity: tuple[int, ...]
    limit: int
    error: ReadError | Torn


class CompressedFiles:
    """Opens compressed files, and remembers the refused ones: each may have cost gigabytes of writing to the disk."""

    def __init__(self, largest: int = MAX_DECOMPRESSED) -> None:
        self.largest = largest
        self._refused: dict[str, _Refusal] = {}

    def open(self, descriptor: int, path: str, directory: str, now_ms: int) -> int:
        """Decompress a file into an unnamed one in `directory`; return its descriptor.

        A refused file is refused again, unread, until it changes. If it was too large for the free disk space, it is
        tried again once twice as much is allowed.

        Raises: Torn, ReadError; see decompress_file().
        """
        found, disk = os.fstat(descriptor), os.statvfs(directory)
        limit = min(self.largest, disk.f_bavail * disk.f_frsize // 2)
        identity = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        refusal = self._refused.get(path)
        if refusal is not None and refusal.identity == identity:
            damaged = isinstance(refusal.error, Torn)
            if damaged or limit < min(2 * refusal.limit, self.largest) or limit <= refusal.limit:
                raise refusal.error.with_traceback(None)
        self._refused.pop(path, None)
        try:
            return decompress_file(descriptor, directory, limit)
        except (ReadError, Torn) as error:
            if not isinstance(error, Torn) or now_ms - found.st_mtime_ns // 1_000_000 > STALE_MS:
                self._refused[path] = _Refusal(identity, limit, error)
            raise


def decompress_file(descriptor: int, directory: str, largest: int = MAX_DECOMPRESSED) -> int:
    """Decompress a tool's zstd file into an unnamed file in `directory`; return its descriptor.

    Raises: Torn where the frame is not complete yet; ReadError where more than `largest` bytes would come out, or more
        than half of the free disk space, which the spool needs too.
    """
    disk = os.statvfs(directory)
    limit = min(largest, disk.f_bavail * disk.f_frsize // 2)
    if zstd.declared(os.pread(descriptor, zstd.HEAD, 0)) > limit:
        raise ReadError(f"it decompresses to more than {limit} bytes")
    with tempfile.TemporaryFile(dir=directory) as plain:
        source = os.fdopen(os.dup(descriptor), "rb")
        with source:
            try:
                for block in zstd.decompress_stream(iter(lambda: source.read(CHUNK), b""), limit):
                    plain.write(block)
            except zstd.Oversized as error:
                raise ReadError(f"it decompresses to more than {limit} bytes") from error
            except zstd.Undecodable as error:
                raise Torn(f"the file can't be decompressed: {error}") from error
        plain.flush()
        return os.dup(plain.fileno())
