"""Reads what was added to a tool's file, and checks whether the bytes read before are unchanged.

Nothing here writes to a tool's files, locks them or follows a link to them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import msgspec
import xxhash
from msgspec.structs import replace

from sessiond.errors import ReadError, Torn, Unsafe

PROBE = 4096
"""Bytes at the start and before the offset that are hashed to recognise a file that grew."""
CHUNK = 1 << 20
"""Bytes read at once; also the largest piece of a long record in one segment."""
LARGEST_DOCUMENT = 256 << 20
"""Bytes of a document. It is parsed as a whole, which takes several times as much memory."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far a file was read, and its identity and times then. Times are in ns; for `probe` see `probe()`."""

    dev: int
    ino: int
    size: int
    """`~size` if the file was not read to its end: then it never counts as unchanged, so a restart reads on. Also for
    a unit whose projection has changed since it was read (`outdated`): so it is read again."""
    mtime_ns: int
    ctime_ns: int
    offset: int
    probe: bytes

    def unchanged(self, now: os.stat_result) -> bool:
        """Return whether the file is unchanged, without reading it. The ctime shows edits that restore the mtime."""
        return self.same_file(now) and self.size == now.st_size and self._times() == (now.st_mtime_ns, now.st_ctime_ns)

    def edited(self, now: os.stat_result) -> bool:
        """Return whether the file was changed or replaced without growing, without reading it."""
        same = self.same_file(now) and self._times() == (now.st_mtime_ns, now.st_ctime_ns)
        return not same and now.st_size == (self.size if self.size >= 0 else ~self.size)

    @property
    def outdated(self) -> bool:
        """Whether a unit was captured by an earlier version of its projection (see `outdate`)."""
        return self.size < 0 and not self.probe

    def outdate(self) -> Checkpoint:
        """Return the checkpoint of a projected unit that has to be read again even if it does not change."""
        return replace(self, size=~self.size) if self.size >= 0 else self

    def only_outdated(self, now: os.stat_result) -> bool:
        """Return whether a unit is outdated and its file is unchanged since it was captured."""
        return self.outdated and replace(self, size=~self.size).unchanged(now)

    def same_file(self, now: os.stat_result) -> bool:
        """Return whether it is the same inode."""
        return (self.dev, self.ino) == (now.st_dev, now.st_ino)

    def _times(self) -> tuple[int, int]:
        return self.mtime_ns, self.ctime_ns


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A run of bytes of a stream: whole records, or a piece of a long record."""

    offset: int
    data: bytes
    piece: bool = False
    last: bool = True
    """False for all pieces of a record but its last."""
    before: bytes = b""
    """The bytes of the record before a piece, and `after` it: as many as may decide on a secret that is cut."""
    after: bytes = b""
    record: bytes | None = None
    """The whole record, with its last piece, unless it is too long to be decoded."""

    @property
    def decodable(self) -> bytes | None:
        """What can be decoded once this chunk is read: whole records; empty before the last piece of a record.

        None with the last piece of a record that is too long.
        """
        if not self.piece:
            return self.data
        return self.record if self.last else b""

    @property
    def end(self) -> int:
        """The offset after the chunk."""
        return self.offset + len(self.data)


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """A captured run of bytes: its start, length and seeded digest (of the raw bytes, before redaction)."""

    start: int
    length: int
    digest: bytes

    @property
    def end(self) -> int:
        """The offset after the extent."""
        return self.start + self.length


class Digest:
    """A 16-byte hash, seeded per installation. It detects changes (10 GB/s); it is not cryptographic."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, *parts: bytes) -> bytes:
        """Return the hash of the parts as one run of bytes."""
        if len(parts) == 1:
            return xxhash.xxh3_128_digest(parts[0], seed=self._seed)
        running = xxhash.xxh3_128(seed=self._seed)
        for part in parts:
            running.update(part)
        return running.digest()


def open_regular(root: str, relative: str) -> int:
    """Open a file below a root for reading, if it is a regular file of this user.

    Rule 7: no component below the root may be a link, since a project could plant a link to a secret. FIFOs (which
    would block), devices and other users' files (hard links to them) are refused too.

    Raises: Unsafe, or ReadError where it can't be opened (FileNotFoundError passes through).
    """
    with _below(root, relative) as (directory, name):
        descriptor = os.open(name, _OPEN, dir_fd=directory)
    if not _is_regular(os.fstat(descriptor)):
        os.close(descriptor)
        raise Unsafe("it is not a regular file of this user")
    return descriptor


def check_regular(root: str, relative: str) -> None:
    """Check rule 7 for a database without opening it: closing it would drop SQLite's locks (see sqlite_files.py).

    Raises: as `open_regular`.
    """
    with _below(root, relative) as (directory, name):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not _is_regular(found):
        raise Unsafe("it is not a regular file of this user")


def _is_regular(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_uid in (os.geteuid(), os.getuid())


@contextmanager
def _below(root: str, relative: str) -> Iterator[tuple[int, str]]:
    """Open the parent directory of a path below a root; yield its descriptor and the last name."""
    *parents, name = relative.split("/")
    directory = None
    try:
        for step in (root, *parents):
            flags = _OPEN | os.O_DIRECTORY
            if directory is None:
                flags &= ~os.O_NOFOLLOW  # the root itself may be a link that the user made
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
        raise kind(str(error.strerror)) from error
    finally:
        if directory is not None:
            os.close(directory)


def check_document(size: int, largest: int = LARGEST_DOCUMENT) -> None:
    """Raise ReadError if a file is too large for a document."""
    if size > largest:
        raise ReadError(f"it has more than {largest >> 20} MiB")


def pread(descriptor: int, length: int, offset: int) -> bytes:
    """Read exactly `length` bytes, in as many reads as it takes.

    Raises: Torn where the file ends earlier (it was truncated meanwhile), ReadError where it can't be read.
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
        raise ReadError(str(error.strerror)) from error
    if len(whole) < length:
        raise Torn("the file was truncated while it was read")
    return bytes(whole)


def probe(descriptor: int, offset: int, digest: Digest) -> bytes:
    """Return a hash of the first and the last bytes before `offset`. If it is equal, the file is taken as unchanged."""
    if offset <= 2 * PROBE:
        return digest(pread(descriptor, offset, 0))
    return digest(pread(descriptor, PROBE, 0), pread(descriptor, PROBE, offset - PROBE))


def unchanged_prefix(
    descriptor: int, size: int, extents: Iterable[Extent], digest: Digest, seen: Callable[[int, bytes], None]
) -> int:
    """Return how many bytes at the start of the file still match the extents: all, or up to the end of a record.

    `seen` is called with the offset and the bytes of each matching extent.
    """
    kept = matched = 0
    for extent in extents:
        if extent.end > size:
            return kept
        data = pread(descriptor, extent.length, extent.start)
        if digest(data) != extent.digest:
            return kept
        seen(extent.start, data)
        matched = extent.end
        if data.endswith(b"\n"):  # a new generation never begins between two pieces of a record
            kept = matched
    return matched  # which may lie inside a record that is not read to its end yet


def read_document(descriptor: int, largest: int = LARGEST_DOCUMENT) -> bytes:
    """Read a whole file in one consistent state.

    Raises: Torn where it changed while it was read or is empty, which both mean a rewrite in progress (rule 8);
        ReadError where it has more than `largest` bytes.
    """
    before = os.fstat(descriptor)
    check_document(before.st_size, largest)
    data = pread(descriptor, before.st_size, 0)
    after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or not data.strip():
        raise Torn("the file is being rewritten")
    return data
