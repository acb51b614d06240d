"""What was added to a tool's file since it was last read, and whether what was read still stands.

Nothing here writes to, locks or follows a link to anything of a tool's.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import msgspec
import xxhash

from sessiond.errors import ReadError, Torn, Unsafe

PROBE = 4096
"""Bytes at the head and before the offset that are hashed to tell whether a grown file is the same file."""
CHUNK = 1 << 20
"""Bytes that are read at once; also the largest piece of a record that travels alone."""
MAX_RECORD = 64 << 20
"""A longer record is carried in pieces and not decoded; memory stays flat."""
LARGEST_DOCUMENT = 256 << 20
"""Bytes of a document, which is parsed as a whole and takes several times as much memory."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far a file was read, and what it looked like then. Times in ns; `probe` see `probe()`."""

    dev: int
    ino: int
    size: int
    """Of one that was not read to its end `~size`: it never looks unchanged, so that a restart reads on."""
    mtime_ns: int
    ctime_ns: int
    offset: int
    probe: bytes

    def unchanged(self, now: os.stat_result) -> bool:
        """Tell, without reading, that nothing happened. ctime shows an edit whose author restored the mtime."""
        return self.same_file(now) and self.size == now.st_size and self._times() == (now.st_mtime_ns, now.st_ctime_ns)

    def edited(self, now: os.stat_result) -> bool:
        """Tell whether it was changed, or is another file, and did not grow; nothing is read for that."""
        same = self.same_file(now) and self._times() == (now.st_mtime_ns, now.st_ctime_ns)
        return not same and now.st_size == (self.size if self.size >= 0 else ~self.size)

    def same_file(self, now: os.stat_result) -> bool:
        """Tell whether it is the same inode."""
        return (self.dev, self.ino) == (now.st_dev, now.st_ino)

    def _times(self) -> tuple[int, int]:
        return self.mtime_ns, self.ctime_ns


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A run of bytes of a stream: whole records, or a piece of a record longer than MAX_RECORD."""

    offset: int
    data: bytes
    piece: bool = False
    last: bool = True
    """False for all pieces of a long record but its last; they are stored together or not at all."""

    @property
    def end(self) -> int:
        """The offset after the chunk."""
        return self.offset + len(self.data)


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """A run of bytes that was captured: where, how long, and its seeded digest (raw bytes, before redaction)."""

    start: int
    length: int
    digest: bytes

    @property
    def end(self) -> int:
        """The offset after the extent."""
        return self.start + self.length


class Digest:
    """A hash of 16 bytes, seeded per installation: it finds changes (10 GB/s), it proves nothing to strangers."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, *parts: bytes) -> bytes:
        """Hash the parts as one run of bytes."""
        if len(parts) == 1:
            return xxhash.xxh3_128_digest(parts[0], seed=self._seed)
        running = xxhash.xxh3_128(seed=self._seed)
        for part in parts:
            running.update(part)
        return running.digest()


def open_regular(root: str, relative: str) -> int:
    """Open a file below a root for reading, and only if it is a regular file of the user's.

    Rule 7: no component below the root may be a link, for a project may plant one to a secret; nor a
    FIFO (it would block), a device or a file of somebody else's (a hard link to it).

    Raises: Unsafe, or ReadError where it can't be opened (FileNotFoundError passes through).
    """
    with _below(root, relative) as (directory, name):
        descriptor = os.open(name, _OPEN, dir_fd=directory)
    if not _is_regular(os.fstat(descriptor)):
        os.close(descriptor)
        raise Unsafe("not read: not a regular file of this user")
    return descriptor


def check_regular(root: str, relative: str) -> None:
    """Apply rule 7 to a database without opening it: closing it again would drop SQLite's locks (sqlite_files).

    Raises: as `open_regular`.
    """
    with _below(root, relative) as (directory, name):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not _is_regular(found):
        raise Unsafe("not read: not a regular file of this user")


def _is_regular(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_uid in (os.geteuid(), os.getuid())


@contextmanager
def _below(root: str, relative: str) -> Iterator[tuple[int, str]]:
    """Open the directory that holds a path below a root; yield its descriptor and the last name."""
    *parents, name = relative.split("/")
    directory = None
    try:
        for step in (root, *parents):
            flags = _OPEN | os.O_DIRECTORY
            if directory is None:
                flags &= ~os.O_NOFOLLOW  # the root itself may be a link: the user's own choice
            deeper = os.open(step, flags, dir_fd=directory)
            if directory is not None:
                os.close(directory)
            directory = deeper
        assert directory is not None
        yield directory, name
    except FileNotFoundError:
        raise
    except OSError as error:
        link = error.errno in (40, 62, 20)  # ELOOP (Linux, macOS), ENOTDIR: O_NOFOLLOW met a link
        kind = Unsafe if link else ReadError
        raise kind(f"not read: {error.strerror}") from error
    finally:
        if directory is not None:
            os.close(directory)


def check_document(size: int, largest: int = LARGEST_DOCUMENT) -> None:
    """Refuse to take so large a file for a document. Raises: ReadError."""
    if size > largest:
        raise ReadError(f"not read: it has more than {largest >> 20} MiB")


def pread(descriptor: int, length: int, offset: int) -> bytes:
    """Read exactly `length` bytes, however short the single reads are.

    Raises: Torn where the file ends before (it was cut meanwhile), ReadError where it can't be read.
    """
    try:
        data = os.pread(descriptor, length, offset)
        if len(data) == length:
            return data
        whole = bytearray(data)
        while data and len(whole) < length:
            data = os.pread(descriptor, length - len(whole), offset + len(whole))
            whole += data
    except OSError as error:
        raise ReadError(f"not read: {error.strerror}") from error
    if len(whole) < length:
        raise Torn("the file was cut while it was read")
    return bytes(whole)


def probe(descriptor: int, offset: int, digest: Digest) -> bytes:
    """Hash the first and the last bytes before the offset: equal ones mean that it is the file as it was."""
    if offset <= 2 * PROBE:
        return digest(pread(descriptor, offset, 0))
    return digest(pread(descriptor, PROBE, 0), pread(descriptor, PROBE, offset - PROBE))


class Newlines:
    """Finds the end of a record that is longer than a chunk. This one remembers nothing (see ingest.endings)."""

    def known(self, offset: int) -> int | None:
        """Return up to where the record at `offset` is known to have no newline; None where nothing is known."""
        return None

    def begin(self, start: int, data: bytes) -> None:
        """Note that the record at `start` begins with this data, in which there is no newline."""

    def find(self, descriptor: int, start: int, offset: int, size: int) -> int | None:
        """Return the offset after the first newline of the record at `start`, searched from `offset` on.

        None where there is none before `size`, or where the search goes on another time.
        """
        while offset < size:
            offset = skip_hole(descriptor, offset, size)
            data = pread(descriptor, min(CHUNK, size - offset), offset)
            found = data.find(b"\n")
            if found >= 0:
                return offset + found + 1
            offset += len(data)
        return None


def skip_hole(descriptor: int, offset: int, size: int) -> int:
    """Return the offset of the next data at or after `offset`, at most `size`: a hole of a sparse file is all zeros."""
    try:
        return min(size, os.lseek(descriptor, offset, os.SEEK_DATA))
    except OSError as error:
        return size if error.errno == errno.ENXIO else offset  # ENXIO: no more data; else it knows of no holes


def read_lines(descriptor: int, offset: int, size: int, newlines: Newlines | None = None) -> Iterator[Chunk]:
    """Read whole records from the offset on, up to the last newline before `size`.

    What stands behind the last newline is a record being written: it is left for later (rule 8). `newlines` may
    remember how far it was searched, so that it is not read again from its start.
    """
    newlines = newlines or Newlines()
    while offset < size:
        searched = newlines.known(offset)
        if searched is None:
            data = pread(descriptor, min(CHUNK, size - offset), offset)
            cut = data.rfind(b"\n") + 1
            if cut:
                yield Chunk(offset=offset, data=data if cut == len(data) else data[:cut])
                offset += cut
                continue
            newlines.begin(offset, data)
            searched = offset + len(data)
        end = newlines.find(descriptor, offset, searched, size)
        if end is None:
            return
        if end - offset <= MAX_RECORD:
            yield Chunk(offset=offset, data=pread(descriptor, end - offset, offset))
            offset = end
            continue
        while offset < end:
            data = pread(descriptor, min(CHUNK, end - offset), offset)
            yield Chunk(offset=offset, data=data, piece=True, last=offset + len(data) == end)
            offset += len(data)


def standing_prefix(
    descriptor: int, size: int, extents: Iterable[Extent], digest: Digest, seen: Callable[[int, bytes], None]
) -> int:
    """Count the bytes at the head of the file that are still those captured in the extents, up to a record's end.

    `seen` is given what stands: offset and bytes.
    """
    kept = 0
    for extent in extents:
        if extent.end > size:
            break
        data = pread(descriptor, extent.length, extent.start)
        if digest(data) != extent.digest:
            break
        seen(extent.start, data)
        if data.endswith(b"\n"):  # not between two pieces of a long record
            kept = extent.end
    return kept


def read_document(descriptor: int, largest: int = LARGEST_DOCUMENT) -> bytes:
    """Read a file as a whole, as one state of it.

    Raises: Torn where it changed while it was read or is empty: both are a rewrite under way (rule 8);
        ReadError where it has more than `largest` bytes.
    """
    before = os.fstat(descriptor)
    check_document(before.st_size, largest)
    data = pread(descriptor, before.st_size, 0)
    after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or not data.strip():
        raise Torn("the file is being rewritten")
    return data
