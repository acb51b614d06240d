"""The state directory and its lock."""

from __future__ import annotations

import fcntl
import os
import time

from sessiond.clock import now_ms
from sessiond.errors import AlreadyRunning, StateError
from sessiond.frozen_record import FrozenRecord, parse_object, to_json

LOCK = "lock"
LOCK_SIZE = 1024


ARCHIVE = "archive"
"""The directory of the built-in archive in the state directory."""

RESTORED = "restored"
"""The directory of the marks of restored sessions; see sessiond.restored."""
RESTORING = "restoring"
"""The directory of the journal of a restore; see sessiond.restore.journal."""
JOURNAL = "journal.json"


def restored_sessions(directory: str) -> list[str]:
    """Return the ids of the sessions of other machines that were restored here."""
    try:
        return [name.removesuffix(".json") for name in os.listdir(os.path.join(directory, RESTORED)) if len(name) == 41]
    except OSError:
        return []


def interrupted_restore(directory: str) -> bool:
    """Return whether a restore was killed, and no later restore has completed it."""
    base = os.path.join(directory, RESTORING)
    if not os.path.exists(os.path.join(base, JOURNAL)):
        return False
    try:
        descriptor = os.open(os.path.join(base, LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # it is running
    finally:
        os.close(descriptor)
    return os.path.exists(os.path.join(base, JOURNAL))


def has_archive(directory: str) -> bool:
    """Return whether a built-in archive is in this state directory: an endpoint's store that may hold sessions."""
    return os.path.exists(os.path.join(directory, ARCHIVE, "endpoint.db"))


def archive_files(directory: str) -> str:
    """Return the sizes and times of the archive's files, which differ after another process wrote to it."""
    found = []
    for suffix in ("", "-wal"):
        try:
            status = os.stat(os.path.join(directory, ARCHIVE, f"endpoint.db{suffix}"))
        except OSError:
            continue
        if status.st_size:
            found.append(f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}")
    return " ".join(found)


def prepare(directory: str) -> None:
    """Create the state directory, readable by its user only. Raises: StateError."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        found = os.stat(directory)
    except OSError as error:
        raise StateError(f"the state directory {directory} can't be made: {error.strerror}") from error
    if found.st_uid != os.geteuid():
        raise StateError(
            f"the state directory {directory} belongs to another user", hint="set state_dir to one of your own"
        )
    if found.st_mode & 0o077:
        os.chmod(directory, 0o700)


class Holder(FrozenRecord):
    """The process that holds the lock, as it wrote it."""

    pid: int = 0
    since_ms: int = 0
    service: str | None = None
    """`systemd` or `launchd` where one of them started it."""
    stopped: str | None = None
    """Why it can't capture now: on a full disk only this file can still be written."""


class Lock:
    """The lock of a state directory: one daemon at a time. The kernel releases it when the process ends."""

    def __init__(self, directory: str, service: str | None = None) -> None:
        """Acquire the lock. Raises: AlreadyRunning."""
        self._descriptor = os.open(os.path.join(directory, LOCK), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            _take(self._descriptor)
        except BlockingIOError as error:
            other = _holder(self._descriptor)
            os.close(self._descriptor)
            raise AlreadyRunning(
                f"another sessiond (pid {other.pid or 'unknown'}) uses {directory}", hint="`sessiond status` shows it"
            ) from error
        self._holder = Holder(pid=os.getpid(), since_ms=now_ms(), service=service)
        self._write()

    def note(self, *, stopped: str | None) -> None:
        """Record why nothing can be captured, or that it can again."""
        if stopped != self._holder.stopped:
            self._holder = self._holder.replace(stopped=stopped)
            self._write()

    def _write(self) -> None:
        # Padded, so that the file has its block before the disk is full.
        os.pwrite(self._descriptor, to_json(self._holder).encode().ljust(LOCK_SIZE), 0)

    def release(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


def _holder(descriptor: int) -> Holder:
    try:
        return Holder.from_json(parse_object(os.pread(descriptor, LOCK_SIZE, 0)))
    except ValueError:
        return Holder()  # it took the lock, and has not written the file yet


def _take(descriptor: int) -> None:
    for attempt in range(5):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt == 4:
                raise
            time.sleep(0.02)  # a `status` may hold it for a moment
    return None


def running(directory: str) -> Holder | None:
    """Return which daemon holds the lock; None if none does. It tests the lock itself: a pid alone may be reused."""
    try:
        descriptor = os.open(os.path.join(directory, LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def free_bytes(directory: str) -> int:
    """Return the bytes that the user may still write on the disk of a directory."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
