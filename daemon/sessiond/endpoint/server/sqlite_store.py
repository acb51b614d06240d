"""A store in one SQLite file: one writer at a time, concurrent readers, and the translation of SQLite's errors."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

from sessiond.endpoint.server import loading, saving
from sessiond.endpoint.server.blobs import Blobs
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.digests import KnownDigests
from sessiond.endpoint.server.sqlite_schema import BUSY_MS, FILE, SqliteDatabase, connect
from sessiond.endpoint.server.state import Changes, Quota, State, Touched
from sessiond.endpoint.server.store import StoreBusy, StoreLost
from sessiond.errors import StateError, StateFull

_LOST: list[SqliteStore] = []
"""Lost stores, which must not be closed. References here keep the garbage collector from closing their connections."""


class SqliteStore:
    """The data of the endpoint, in one SQLite file in `directory`.

    `quota` limits the file in bytes; None: only the disk does. Threads may share a store.
    """

    blocking = False

    def __init__(self, directory: str, *, quota: int | None = None) -> None:
        self.directory = directory
        self.quota = quota
        self.blobs: Blobs | None = None
        self.digests = KnownDigests()
        self._writer = connect(directory)
        self._real = os.path.realpath(os.path.join(directory, FILE))
        self._writer.execute("SELECT count(*) FROM facts").fetchone()  # makes SQLite open the write-ahead log
        self._files = self._inodes()
        self._turn = threading.RLock()
        self.on_lost: Callable[[], None] = lambda: None
        """Called when the files are found deleted or replaced."""
        self.lost = False
        """Whether the files were deleted or replaced. If so, the store must not be closed: SQLite would unlink the
        write-ahead log by its name, and that file may belong to another process's store now."""
        self._readers: queue.LifoQueue[SqliteDatabase] = queue.LifoQueue()
        with suppress(StateError):  # another process reads the log: the next erasure or start completes this
            self.scrub()
        self.endpoint_id = UUID(
            self._writer.execute("SELECT value FROM facts WHERE name = 'endpoint_id'").fetchone()[0]
        )

    @contextmanager
    def write(self) -> Iterator[SqliteDatabase]:
        """Return a context with a write transaction. When it ends, either all of it is on the disk or nothing.

        One thread at a time writes; others wait.

        Raises:
            StateFull: the disk is full.
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
                    # The hashes may include bytes of this transaction, which are not stored after all.
                    self.digests.clear()
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")

    @contextmanager
    def without_waiting(self) -> Iterator[bool]:
        """Return a context in which this thread may write at once; False: another thread writes now."""
        if not self._turn.acquire(blocking=False):
            yield False
            return
        try:
            self._writer.execute("PRAGMA busy_timeout = 0")
            yield True
        finally:
            self._writer.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            self._turn.release()

    def load(self, db: Database, touched: Touched) -> State:
        """Return the stored state of everything that a batch of pushes names."""
        return loading.load(db, touched, Quota(self.remaining_quota(db), self.reserve), self.digests.streams)

    def save(self, db: Database, changes: Changes) -> None:
        """Save the changes of a batch of pushes."""
        saving.save(db, self.digests, changes)

    def lock_user(self, db: Database, user: str) -> None:
        """Keep pushes of a user from being stored until the transaction ends. Here, all others wait anyway."""

    def lock_chunks(self, db: Database) -> None:
        """Keep others from replacing or erasing chunks until the transaction ends. Here, all others wait anyway."""

    def retire_streams(self, db: Database, numbers: list[int]) -> None:
        """Never use the numbers of erased streams again.

        A download that is under way would continue with the bytes of another stream, perhaps of another user.
        """
        db.execute(
            "INSERT INTO facts VALUES ('last_stream', ?) ON CONFLICT DO UPDATE SET value = max(value, ?)",
            (max(numbers), max(numbers)),
        )

    def _inodes(self) -> list[tuple[int, int]]:
        # SQLite keeps its log beside the file that a symbolic link leads to.
        paths = f"{self.directory}/{FILE}", f"{self._real}-wal", f"{self._real}-shm"
        return [(found.st_dev, found.st_ino) for found in map(os.stat, paths)]

    def _check_files(self) -> None:
        """Raise StoreLost if the database is no longer the file at its path.

        A commit to a deleted file succeeds, but its bytes are gone when this process ends. The push must fail, so that
        the client keeps its data and sends it again.
        """
        try:
            same = self._inodes() == self._files
        except OSError:
            same = False
        if not same:
            self.lost = True
            self.on_lost()
            raise StoreLost(
                f"the store in {self.directory} was deleted or replaced while the endpoint was running",
                hint="restart the endpoint; each device sends the missing data again",
            )

    def expect_scrub(self, db: Database) -> None:
        """Store, in the transaction that erases data, that `scrub` has to follow. The next start repeats it."""
        db.execute("INSERT INTO facts VALUES ('scrub', 1) ON CONFLICT DO NOTHING")

    def scrub(self) -> None:
        """Remove erased data from the write-ahead log, where earlier states of the pages are left.

        Raises:
            StoreBusy: a reader still uses the log.
        """
        with self._turn, _translated():
            if self._writer.execute("SELECT 1 FROM facts WHERE name = 'scrub'").fetchone() is None:
                return
            if self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise StoreBusy("erased data is still in the write-ahead log, which is being read")
            self._writer.execute("DELETE FROM facts WHERE name = 'scrub'")

    def compact(self) -> None:
        """Make the file smaller if at least half of it is unused. That needs as much free space as the rest takes.

        Raises:
            StateFull: there is not enough; nothing has changed.
            StoreBusy: a reader uses the store.
        """
        with self._turn, _translated():
            (pages,) = self._writer.execute("PRAGMA page_count").fetchone()
            (free,) = self._writer.execute("PRAGMA freelist_count").fetchone()
            if free * 2 >= pages:
                self._writer.execute("VACUUM")
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def read(self) -> Iterator[SqliteDatabase]:
        """Return a context with a read transaction, which sees one consistent state while others write.

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
        """Bytes of the quota reserved for records. Transcripts stop earlier, so that new sessions are still listed."""
        return 0 if self.quota is None else self.quota // 16

    def remaining_quota(self, db: Database) -> int | None:
        """Return the bytes that are left of the quota; None without a quota."""
        if self.quota is None:
            return None
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int(self.quota - (pages - free) * size)

    def size(self) -> int:
        """Return the bytes of the store's files, with the write-ahead log."""
        path = os.path.join(self.directory, FILE)
        return sum(os.path.getsize(path + suffix) for suffix in ("", "-wal") if os.path.exists(path + suffix))

    def close(self) -> None:
        """Close the store, which can't be used afterwards. A lost store stays open until the process ends."""
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
    except UnicodeDecodeError as error:
        # Python decodes SQLite's message before it raises: in a damaged file that quotes arbitrary bytes.
        raise StateError("the store failed: it is damaged", hint="restore it from a backup") from error
    except sqlite3.Error as error:
        # The low 8 bits of an extended code such as SQLITE_IOERR_WRITE are the primary code.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise StateFull(f"the store is full: {error}", hint="free space on the endpoint's disk") from error
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise StoreBusy(f"the store is busy: {error}") from error
        raise StateError(f"the store failed: {error}", hint="check the endpoint's disk") from error
