"""The spool: one SQLite file with all of the daemon's state. All SQL of the daemon is in this package.

`Spool` opens it and runs transactions. `Spool.catalog` has the captured sessions, streams, files and checkpoints,
`Spool.outbox` has what the endpoint has not acknowledged, and `Spool.stats` counts both. It uses WAL with FULL sync,
so that a power cut loses no commit (NORMAL lost up to 120 commits in a simulation).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property

from sessiond.errors import SpoolDamaged, SpoolTooNew, StateError
from sessiond.spool.safety import Safety
from sessiond.spool.schema import MIGRATIONS, OLDEST, VERSION
from sessiond.spool.scrub import DUE as SCRUB_DUE
from sessiond.spool.stats import Stats
from sessiond.spool.translation import ConnectionLock, translated

TYPE_CHECKING = False  # as in `typing`, which is not imported for it: `status` imports this
if TYPE_CHECKING:
    from sessiond.spool.archived import Archived
    from sessiond.spool.catalog import Catalog
    from sessiond.spool.forgotten import Forgotten
    from sessiond.spool.outbox import Outbox

NAME = "spool.db"
MANY_PAGES = 8192  # 32 MiB of free pages, which the file keeps for later
COUNTED_FROM = 64 << 10
"""Bytes of a push after which free pages are counted."""
_OUTER = ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
_NESTED = ("SAVEPOINT inner", "RELEASE inner", ("ROLLBACK TO inner", "RELEASE inner"))
"""Statements that begin, commit and roll back a transaction. A savepoint's name refers to the innermost one."""


class Spool:
    """The open spool of a daemon, or of a command that only reads."""

    def __init__(self, directory: str, *, readonly: bool = False, patience: float = 5.0) -> None:
        """Open the spool in the state directory; create or migrate it unless `readonly`.

        `patience` is how many seconds to wait for another process that writes.

        Raises: SpoolTooNew, SpoolDamaged (see damaged.py), StateFull, StateError.
        """
        self.path = os.path.join(directory, NAME)
        self._lock = ConnectionLock()
        self._depth = 0
        self._has_free_pages = True  # until they were counted
        self._group: ExitStack | None = None
        """The open group, which holds its transaction."""
        self._ended: ExitStack | None = None
        """The group that was ended early, and can be resumed."""
        self.groups = 0
        """How many groups were begun or resumed."""
        with translated():
            self.connection = self._connect(readonly, patience)
            try:
                if readonly:
                    self._check_current()
                else:
                    self._prepare(patience)
            except UnicodeDecodeError as error:
                # Python decodes SQLite's message before it raises it: of a damaged file it may quote arbitrary bytes.
                self.connection.close()
                raise SpoolDamaged(f"the spool {self.path} is damaged: its schema is not text") from error
            except BaseException:
                self.connection.close()  # the caller gets no spool on which to call close()
                raise
        self.stats = Stats(self.connection)
        self.safety = Safety(self.connection)
        if not readonly:
            # Threads share these objects, so they are created before the threads start.
            _ = self.catalog, self.outbox, self.archived, self.forgotten

    @cached_property
    def catalog(self) -> Catalog:
        """The captured sessions. Imported late: `status` only counts, and does not need it."""
        from sessiond.spool.catalog import Catalog

        return Catalog(self.connection)

    @cached_property
    def outbox(self) -> Outbox:
        """The items that the endpoint has not acknowledged."""
        from sessiond.spool.outbox import Outbox

        return Outbox(self.connection)

    @cached_property
    def archived(self) -> Archived:
        """The sessions of the built-in archive that the configured endpoint may lack."""
        from sessiond.spool.archived import Archived

        return Archived(self.connection)

    @cached_property
    def forgotten(self) -> Forgotten:
        """The sessions that were erased."""
        from sessiond.spool.forgotten import Forgotten

        return Forgotten(self.connection)

    def _connect(self, readonly: bool, patience: float) -> sqlite3.Connection:
        if readonly:
            quoted = "file:" + self.path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
            return sqlite3.connect(f"{quoted}?mode=ro", uri=True, isolation_level=None, timeout=patience)
        from sessiond.sqlite_files import create_private  # late: `status` only reads

        create_private(self.path)
        return sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=patience)

    def _prepare(self, patience: float) -> None:
        """Migrate the file to this version's tables. Raises: SpoolTooNew, SpoolDamaged."""
        from sessiond.sqlite_files import use_write_ahead_log  # late: `status` only reads

        connection = self.connection
        version = self._check_version()  # before anything is written: a newer spool is left unchanged
        if version == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table
        use_write_ahead_log(connection, patience)
        pragmas = "synchronous = FULL", "fullfsync = 1", "journal_size_limit = 16777216", "cache_size = -4096"
        # FAST: zeros replace what is deleted within a page that is written anyway. Free pages are left to `scrub`.
        # MEMORY: the rollback data of nested transactions. In files below /var/tmp it doubled the bytes written.
        for pragma in (*pragmas, "secure_delete = FAST", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        while version < VERSION:
            made = max(version + 1, OLDEST)
            # One transaction per step: a kill in the middle leaves the old version intact.
            connection.executescript(
                f"BEGIN IMMEDIATE; {MIGRATIONS[made - OLDEST]}; PRAGMA user_version = {made}; COMMIT;"
            )
            version = made

    def _check_current(self) -> None:
        """Check that the tables are those of this version. Raises: SpoolTooNew, SpoolDamaged, StateError."""
        if 0 < self._check_version() < VERSION:
            raise StateError(
                f"the spool {self.path} is from an older version of sessiond",
                hint="update it: restart sessiond (sessiond restart), or run `sessiond sync`",
            )

    def _check_version(self) -> int:
        version = int(self.connection.execute("PRAGMA user_version").fetchone()[0])
        if version > VERSION:
            raise SpoolTooNew(
                f"the spool {self.path} has version {version}; this sessiond supports versions up to {VERSION}",
                hint="upgrade sessiond again, or set state_dir to another directory",
            )
        if 0 < version < OLDEST:
            raise SpoolDamaged(f"the spool {self.path} has version {version}, which was never released")
        return version

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything written inside together, or nothing of it.

        A nested transaction is committed with the outer one. If it fails, it alone is rolled back: a file that was
        stored in part is not committed together with the next file.

        Raises: StateFull, SpoolDamaged, StateError.
        """
        with self._lock:
            begin, commit, back = _NESTED if self._depth else _OUTER
            self.connection.execute(begin)
            self._depth += 1
            try:
                yield
                self.connection.execute(commit)
            except BaseException:
                # On a full disk SQLite has rolled back already.
                if self.connection.in_transaction:
                    for statement in back:
                        self.connection.execute(statement)
                self.outbox.invalidate_size()
                self.catalog.clear_fold_cache()
                raise
            finally:
                self._depth -= 1

    @contextmanager
    def group(self) -> Iterator[None]:
        """Commit all transactions inside together, unless `end_group` is called before.

        One commit for several small files saves most of the writes to the disk.
        """
        with ExitStack() as stack:
            stack.enter_context(self.transaction())
            if self._depth == 1:
                self._group = stack
                self.groups += 1
            try:
                yield
            finally:
                if self._group is stack:
                    self._group = None
                if self._ended is stack:
                    self._ended = None

    def end_group(self) -> None:
        """Commit what a group has so far, before work that takes long: no other thread can write meanwhile.

        Transactions after that are committed one by one. Without a group, or inside one of its transactions, nothing
        happens. Raises: as `transaction`.
        """
        group = self._group
        if group is not None and self._lock.held and self._depth == 1:
            self._group, self._ended = None, group
            group.close()

    def resume_group(self) -> None:
        """Begin another commit of a group that was ended early, for the result of the long work and for small files.

        The caller has done the long work, and only stores the result now. Without such a group nothing happens.
        """
        ended = self._ended
        if ended is not None and self._depth == 0:
            ended.enter_context(self.transaction())
            self._group, self._ended = ended, None
            self.groups += 1

    @property
    def in_group(self) -> bool:
        """Whether a group of this thread has not ended."""
        return self._group is not None and self._lock.held

    @contextmanager
    def erasing(self) -> Iterator[None]:
        """Overwrite deleted data on the disk, which SQLite would leave in free pages; commit everything together.

        Afterwards `scrub` has to remove what was deleted earlier, and what is in the write-ahead log.
        """
        with self._lock:
            self.connection.execute("PRAGMA secure_delete = ON").fetchall()
            try:
                with self.transaction():
                    before = self.connection.total_changes
                    yield
                    if self.connection.total_changes != before:
                        self.set_meta(SCRUB_DUE, "1")
            finally:
                self.connection.execute("PRAGMA secure_delete = FAST").fetchall()

    def reading(self) -> ConnectionLock:
        """Return a context that locks the connection during some SELECTs. Raises: SpoolDamaged, StateError."""
        return self._lock

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Make all SELECTs inside see the same state, even if a daemon commits meanwhile."""
        with self._lock:
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                self.connection.execute("ROLLBACK")

    def meta(self, key: str) -> str | None:
        """Return a value that concerns the whole spool; None if it is not set."""
        with self.reading():
            row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None or row[0] is None else str(row[0])

    def set_meta(self, key: str, value: str | None) -> None:
        """Store a value that concerns the whole spool; None removes it."""
        with self._lock:  # a lone statement is a transaction by itself
            if value is None:
                self.connection.execute("DELETE FROM meta WHERE key = ?", (key,))
            else:
                self.connection.execute(
                    "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)
                )

    def shrink(self, removed: int) -> None:
        """Return free pages to the filesystem if there are many, as after a large backlog was pushed.

        `removed`: the bytes that were just removed. For a few, pages are not counted: later segments use them.
        """
        if removed < COUNTED_FROM and not self._has_free_pages:
            return
        with self.reading():
            self._has_free_pages = self.connection.execute("PRAGMA freelist_count").fetchone()[0] > MANY_PAGES
            if self._has_free_pages:
                # Each step of this statement returns one page, and execute() would take only one step.
                self.connection.executescript("PRAGMA incremental_vacuum(4096);")

    def release_memory(self) -> None:
        """Empty SQLite's page cache, which holds 4 MiB after a backlog. It fills again as needed."""
        with self.reading():
            self.connection.execute("PRAGMA shrink_memory").fetchall()

    def close(self) -> None:
        """Close the file. All commits are on disk already."""
        with self._lock:
            self.connection.close()
