"""The journal of a restore: written before each phase, so that a kill leaves nothing or can be completed.

While files are staged, nothing is visible to the tool: they have temporary names. From the moment on at which the
journal says "placing", all content is on the disk, and the restore can be completed. If that is impossible because
another process created one of the files, what was placed is removed again.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from sessiond.atomic import atomic_write
from sessiond.decoding import json_decoder
from sessiond.errors import SessiondError, StateError
from sessiond.state import JOURNAL, LOCK, RESTORING

IMPORT = "import-"
"""Prefix of the files that a tool imports."""
COPY = 1 << 20
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)
"""Errors of a file system without hard links."""


class Conflict(SessiondError):
    """A file that a restore would create or continue is not as it was when the plan was made."""


class Staged(msgspec.Struct, frozen=True):
    """A complete file under a temporary name, and where it belongs.

    `offset`: the length of the file to which it is appended; -1: it is a new file. `replaces`: the inode of the file
    that it replaces, an index, and `replaces_ns` that file's time when it was read; 0: it must not exist.
    """

    temporary: str
    path: str
    inode: int = 0
    offset: int = -1
    replaces: int = 0
    replaces_ns: int = 0
    mtime_ms: int = 0


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore has created so far."""

    placing: bool = False
    directories: tuple[str, ...] = ()
    """Created by it, outer ones first."""
    files: tuple[Staged, ...] = ()
    imports: bool = False
    """Whether the tool's own import follows. A kill may prevent it."""


class JournalFile:
    """The journal in the state directory, and the lock that lets one restore run at a time."""

    def __init__(self, state_directory: str) -> None:
        self.directory = os.path.join(state_directory, RESTORING)
        self._path = os.path.join(self.directory, JOURNAL)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock. Raises: StateError, another restore runs."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        descriptor = os.open(os.path.join(self.directory, LOCK), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StateError("another restore is running", hint="wait until it has ended") from error
            yield
        finally:
            os.close(descriptor)

    def read(self) -> Journal | None:
        """Return the journal of a restore that did not end; None if there is none. Raises: StateError."""
        try:
            with open(self._path, "rb") as file:
                return json_decoder(Journal).decode(file.read())
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise StateError(f"{self._path} is damaged", hint="it lists the files of a restore; remove it") from error

    def write(self, journal: Journal) -> None:
        """Store the journal durably."""
        atomic_write(self._path, msgspec.json.encode(journal))
        sync_directory(self.directory)

    def remove(self) -> None:
        """Remove the journal: the restore has ended, or left nothing."""
        for name in os.listdir(self.directory):
            if name.startswith(IMPORT):  # content of a session, which a killed restore left for the tool's import
                os.unlink(os.path.join(self.directory, name))
        os.unlink(self._path)
        sync_directory(self.directory)


def place(journal: Journal, *, again: bool = False) -> None:
    """Move staged files to their places. `again`: after a kill, so some are there already. Raises: Conflict."""
    for staged in journal.files:
        if staged.offset >= 0:
            _append(staged, again=again)
        elif staged.replaces:
            _replace(staged, again=again)
        else:
            _link(staged, again=again)
        sync_directory(os.path.dirname(staged.path))


def undo(journal: Journal) -> None:
    """Remove everything that a restore has created, except a replaced index and a complete append."""
    for staged in reversed(journal.files):
        if journal.placing and staged.offset >= 0:
            _take_back(staged)
        new = journal.placing and staged.offset < 0 and not staged.replaces
        if new and staged.inode and _inode(staged.path) == staged.inode:
            os.unlink(staged.path)
        with suppress(FileNotFoundError):
            os.unlink(staged.temporary)
    for directory in reversed(journal.directories):
        with suppress(OSError):  # the tool has put something into it
            os.rmdir(directory)


def sync_directory(path: str) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _inode(path: str) -> int:
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return 0


def _link(staged: Staged, *, again: bool) -> None:
    """Link a file to its name. This fails if the name exists, so nothing is ever overwritten."""
    try:
        os.link(staged.temporary, staged.path)
    except FileExistsError as error:
        if _inode(staged.path) != staged.inode:
            raise Conflict(f"{staged.path} was created by another program in the meantime") from error
    except FileNotFoundError as error:
        if not again or _inode(staged.path) != staged.inode:
            raise Conflict(f"{staged.path} could not be created: {staged.temporary} is gone") from error
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if os.path.lexists(staged.path):
            raise Conflict(f"{staged.path} was created by another program in the meantime") from error
        os.rename(staged.temporary, staged.path)
    with suppress(FileNotFoundError):
        os.unlink(staged.temporary)


def _replace(staged: Staged, *, again: bool) -> None:
    """Replace an index, unless it has changed since it was read."""
    if again and not os.path.lexists(staged.temporary):
        return
    found = os.lstat(staged.path)
    if (found.st_ino, found.st_mtime_ns) != (staged.replaces, staged.replaces_ns):
        raise Conflict(f"{staged.path} was changed by another program in the meantime")
    os.replace(staged.temporary, staged.path)


def _append(staged: Staged, *, again: bool) -> None:
    """Append to a transcript what it lacks. After a kill, a part of it may have been written."""
    if again and not os.path.lexists(staged.temporary):
        return
    descriptor = os.open(staged.path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with open(staged.temporary, "rb") as rest:
            size = os.fstat(descriptor).st_size
            done = size - staged.offset
            if (done and not again) or done < 0 or rest.read(done) != os.pread(descriptor, done, staged.offset):
                raise Conflict(f"{staged.path} was changed by another program in the meantime")
            while piece := rest.read(COPY):
                while piece:
                    piece = piece[os.write(descriptor, piece) :]
        os.fsync(descriptor)
        os.utime(descriptor, ns=(staged.mtime_ms * 1_000_000, staged.mtime_ms * 1_000_000))
    finally:
        os.close(descriptor)
    os.unlink(staged.temporary)


def _take_back(staged: Staged) -> None:
    """Remove the bytes that a failed append has written, such as a part of a line on a full disk.

    They are compared with the temporary file, which is removed only after a complete append. If they differ, the tool
    has written some of them, and all stay.
    """
    with suppress(FileNotFoundError), open(staged.temporary, "rb") as rest, open(staged.path, "r+b") as file:
        if file.seek(0, os.SEEK_END) <= staged.offset:
            return
        file.seek(staged.offset)
        while piece := file.read(COPY):
            if piece != rest.read(len(piece)):
                return
        os.ftruncate(file.fileno(), staged.offset)
        os.utime(file.fileno(), ns=(staged.mtime_ms * 1_000_000, staged.mtime_ms * 1_000_000))
        os.fsync(file.fileno())
