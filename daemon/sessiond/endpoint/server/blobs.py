"""Objects outside the database: compressed parts of transcripts, in a directory or in an S3-compatible object store.

An object is written once under a new name and never changes. The tables say which objects exist (objects.py): the
database is the index, and listing the object store is only for the sweep (sweeper.py).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from sessiond.atomic import atomic_write
from sessiond.clock import now_ms
from sessiond.endpoint.server.store import StoreBusy
from sessiond.endpoint.server.streams import Damaged
from sessiond.errors import StateError, StateFull


class BlobsUnavailable(StoreBusy):
    """The object store does not answer, or refuses the request. It may work later."""


class BlobMissing(Damaged):
    """An object does not exist."""


class Listed(msgspec.Struct, frozen=True):
    """A listed object, and the seconds since it was written."""

    name: str
    age: float


class Blobs(Protocol):
    """The objects of one endpoint. Threads may share it.

    Names are relative paths. Every method may raise BlobsUnavailable.
    """

    def put(self, name: str, data: bytes, /) -> None:
        """Write a new object. When this returns, it survives a power cut. Raises: StateFull, the disk is full."""

    def get(self, name: str, start: int, end: int, /) -> bytes:
        """Return the bytes [start, end) of an object. Raises: BlobMissing."""

    def delete(self, names: Sequence[str], /) -> None:
        """Delete objects. Those that don't exist are ignored."""

    def list(self) -> Iterator[Listed]:
        """Iterate over all objects, also those that are still being written."""


class FileBlobs:
    """Objects as files in the directory `root`, those of an endpoint in a folder named after its id.

    Only this creates the folder. If a disk is not mounted, the folder is missing, so nothing is written to the disk
    below.
    """

    def __init__(self, root: str, endpoint: str) -> None:
        """Create the folder. Raises: StateError, that is not possible."""
        self._folder = os.path.join(root, endpoint)
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            _sync(root)
        except OSError as error:
            raise StateError(
                f"can't create {self._folder}: {error.strerror}", hint="choose another directory with --blobs"
            ) from error

    def put(self, name: str, data: bytes) -> None:
        """Write a new object; see `Blobs.put`."""
        path = os.path.join(self._folder, name)
        parent = os.path.dirname(path)
        try:
            with suppress(FileExistsError):
                os.mkdir(parent, 0o700)
                _sync(self._folder)
            # The rows that refer to this object are committed next. So the file, and then its name, must be on the
            # disk: a power cut would otherwise leave the rows and lose the bytes.
            atomic_write(path, data)
            _sync(parent)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise StateFull(f"no space for objects in {self._folder}", hint="free space on that disk") from error
            raise _unavailable(error) from error

    def get(self, name: str, start: int, end: int) -> bytes:
        """Return a part of an object; see `Blobs.get`."""
        try:
            with open(os.path.join(self._folder, name), "rb") as file:
                file.seek(start)
                data = file.read(end - start)
        except FileNotFoundError as error:
            if not os.path.isdir(self._folder):
                raise _unavailable(error) from error
            raise BlobMissing(f"the object {name} is missing", hint="restore it from a backup") from error
        except OSError as error:
            raise _unavailable(error) from error
        if len(data) != end - start:
            raise StateError(f"the object {name} is too short", hint="restore it from a backup")
        return data

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; see `Blobs.delete`."""
        for name in names:
            try:
                os.unlink(os.path.join(self._folder, name))
            except FileNotFoundError:
                if not os.path.isdir(self._folder):  # the disk is not mounted, so the object may be on it
                    raise BlobsUnavailable(f"the objects can't be used now: {self._folder} is missing") from None
            except OSError as error:
                raise _unavailable(error) from error

    def list(self) -> Iterator[Listed]:
        """Iterate over all objects; see `Blobs.list`."""
        now = now_ms() / 1000
        try:
            for parent, _, files in os.walk(self._folder, onerror=_raise):
                for each in files:
                    path = os.path.join(parent, each)
                    with suppress(FileNotFoundError):  # it was renamed or deleted meanwhile
                        yield Listed(os.path.relpath(path, self._folder), now - os.stat(path).st_mtime)
        except OSError as error:
            raise _unavailable(error) from error


def _raise(error: OSError) -> None:
    raise error


def _unavailable(error: OSError) -> BlobsUnavailable:
    return BlobsUnavailable(f"the objects can't be used now: {error.strerror}", hint="check the directory in --blobs")


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
