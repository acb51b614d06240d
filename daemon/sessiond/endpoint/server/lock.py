"""The lock of a store. Only one process at a time serves it."""

from __future__ import annotations

import fcntl
import os
import time
from types import TracebackType

from sessiond.endpoint.server.sqlite_schema import FILE
from sessiond.errors import AlreadyRunning, StateError

NAME = "lock"
RETRY = 0.05
"""Seconds between two attempts to take the lock."""


class StoreLock:
    """An exclusive lock on the store in `directory`, held until `release` or the end of the process.

    It is an flock on a separate file next to the database. The kernel releases it however the process ends. The
    database itself must not be opened for it: closing that descriptor would drop SQLite's own locks, and a second
    process could then delete the write-ahead log with acknowledged data. Symbolic links to the directory or the
    database are resolved, so that every path leads to the same lock. Token commands, `adopt` and `.backup` do not
    take the lock.
    """

    def __init__(self, directory: str, *, timeout: float = 0.0) -> None:
        """Acquire the lock. Wait up to `timeout` seconds for a process that is about to end.

        Raises:
            AlreadyRunning: another process serves this store.
            StateError: the lock file can't be opened or written.
        """
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            self.path = os.path.join(os.path.dirname(os.path.realpath(os.path.join(directory, FILE))), NAME)
            self._descriptor = self._take(directory, time.monotonic() + timeout)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise StateError(
                f"can't lock the store in {directory}: {error.strerror}", hint="choose another directory with --data"
            ) from error

    def _take(self, directory: str, deadline: float) -> int:
        while True:
            descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(descriptor, 20, 0).strip().decode("ascii", "replace")
                os.close(descriptor)
                if time.monotonic() >= deadline:
                    pid = holder if holder.isdigit() else "unknown"
                    raise AlreadyRunning(
                        f"another process (pid {pid}) serves the store in {directory}",
                        hint="stop it first, or choose another store with --data",
                    ) from error
                time.sleep(RETRY)
                continue
            except OSError:
                os.close(descriptor)
                raise
            if _is_at(self.path, descriptor):
                return descriptor
            os.close(descriptor)  # the file was deleted between open and flock: lock the new file of that name

    def release(self) -> None:
        """Release the lock. The file stays: deleting it would let two processes lock two files of that name."""
        os.close(self._descriptor)

    def __enter__(self) -> StoreLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
