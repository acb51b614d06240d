"""The store: one writer at a time, readers beside it, one border for what SQLite may raise."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from sessiond.endpoint.server.digests import Digests
from sessiond.endpoint.server.schema import FILE, connect
from sessiond.errors import StateError, StateFull


class StoreBusy(StateError):
    """Another process holds the store longer than a request can wait."""


_LOST: list[Store] = []
"""Stores that must not be closed, kept from being collected: that would close their connections, too."""


class StoreLost(StateError):
    """The store's files were deleted or replaced under the running endpoint: it must end, and start anew."""


class Store:
    """Everything that the endpoint holds, in one SQLite file in `directory`.

    `quota` bounds the file in bytes; None: the disk does. Threads may share a store.
    """

    def __init__(self, directory: str, *, quota: int | None = None) -> None:
        self.directory = directory
        self.quota = quota
        self.digests = Digests()
        self._writer = connect(directory)
        self._files = self._inodes()
        self._turn = threading.Lock()
        self.on_lost: Callable[[], None] = lambda: None
        """Called when the files are found deleted or replaced."""
        self.lost = False
        """Whether they were. Then the store must not be closed: SQLite would unlink the write-ahead log by its name,
        which may be that of another process's store by now."""
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self.endpoint_id = UUID(
            self._writer.execute("SELECT value FROM facts WHERE name = 'endpoint_id'").fetchone()[0]
        )

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Take the turn to write, for one transaction: all of it is on the disk afterwards, or nothing.

        Raises:
            StateFull: there is no room for it.
            StoreBusy: another process is writing.
            StateError: SQLite can't write for another reason.
        """
        with self._turn, _translated():
            self._writer.execute("BEGIN IMMEDIATE")
            done = False
            try:
                yield self._writer
                self._writer.execute("COMMIT")
                done = True
                self._check_files()
            finally:
                if not done:
                    # Digests may have followed bytes that are not stored after all.
                    self.digests.clear()
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")

    def _inodes(self) -> list[tuple[int, int]]:
        self._writer.execute("SELECT count(*) FROM facts").fetchone()  # opens the write-ahead log
        path = os.path.realpath(os.path.join(self.directory, FILE))
        return [(found.st_dev, found.st_ino) for found in (os.stat(path + suffix) for suffix in ("", "-wal", "-shm"))]

    def _check_files(self) -> None:
        """Refuse to acknowledge what was written to a file that is no longer there: it ends with this process."""
        try:
            same = self._inodes() == self._files
        except OSError:
            same = False
        if not same:
            self.lost = True
            self.on_lost()
            raise StoreLost(
                f"the store in {self.directory} was deleted or replaced under the running endpoint",
                hint="restart the endpoint; each device sends again what is missing",
            )

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that sees one consistent state, whatever is pushed meanwhile.

        Raises:
            StateError: SQLite can't read.
        """
        try:
            db = self._readers.get_nowait()
        except queue.Empty:
            db = connect(self.directory)
        with _translated():
            try:
                db.execute("BEGIN")
                yield db
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                self._readers.put(db)

    @property
    def reserve(self) -> int:
        """The bytes of the quota that are kept for records: transcripts stop before, so that what is new is listed."""
        return 0 if self.quota is None else self.quota // 16

    def room(self, db: sqlite3.Connection) -> int | None:
        """Count the bytes that the quota leaves; None without a quota."""
        if self.quota is None:
            return None
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int(self.quota - (pages - free) * size)

    def close(self) -> None:
        """Close the file; the store can't be used afterwards. One that is lost stays open until the process ends."""
        if self.lost:
            _LOST.append(self)
            return
        with self._turn:
            self._writer.close()
        while not self._readers.empty():
            self._readers.get_nowait().close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        # 8 bits: the extended codes (SQLITE_IOERR_WRITE, ...) have the primary one at their end
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise StateFull(f"the store is full: {error}", hint="make room on the endpoint's disk") from error
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise StoreBusy(f"the store is busy: {error}") from error
        raise StateError(f"the store failed: {error}", hint="look at the endpoint's disk") from error
