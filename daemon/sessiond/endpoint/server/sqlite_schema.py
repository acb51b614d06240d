"""The opening of a connection to a store in SQLite, and the migration of its tables."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Sequence
from functools import cache

import msgspec

from sessiond.endpoint.server.sqlite_migrations import (
    TO_VERSION_2,
    TO_VERSION_3,
    TO_VERSION_4,
    TO_VERSION_6,
    TO_VERSION_7,
    TO_VERSION_8,
    TO_VERSION_9,
    TO_VERSION_10,
    TO_VERSION_11,
    TO_VERSION_12,
    TO_VERSION_15,
)
from sessiond.endpoint.server.sqlite_tables import (
    BYTES,
    CHECKPOINTS,
    EXPIRED,
    FORGOTTEN,
    INVITES,
    OBJECTS,
    OWNED,
    SESSIONS,
    TABLES,
    TENANTS,
)
from sessiond.errors import StateError, StateFull
from sessiond.sqlite_files import create_private, use_write_ahead_log

VERSION = 15
FILE = "endpoint.db"
BUSY_MS = 10_000


class SqliteDatabase(sqlite3.Connection):
    """A connection with the methods of `Database`."""

    for_update = ""  # there is one writer at a time

    def join_keys(self, columns: Sequence[str]) -> str:
        """Return a table of keys for the FROM of a statement, which is passed as JSON."""
        return _table_of_keys(tuple(columns))

    def key_parameters(self, rows: Sequence[Sequence[str]]) -> Sequence[str]:
        """Return the parameter of `join_keys` for these rows."""
        return (msgspec.json.encode(rows).decode(),)

    def new_streams(self, count: int) -> list[int]:
        """Return `count` numbers for new streams, which follow the highest one that was ever used."""
        (last,) = self.execute(
            "SELECT max(coalesce((SELECT max(stream) FROM streams), 0),"
            " coalesce((SELECT value FROM facts WHERE name = 'last_stream'), 0))"
        ).fetchone()
        return list(range(last + 1, last + 1 + count))


@cache
def _table_of_keys(columns: tuple[str, ...]) -> str:
    shown = ", ".join(f"json_extract(value, '$[{index}]') AS {name}" for index, name in enumerate(columns))
    return f"(SELECT key AS i, {shown} FROM json_each(?)) AS k"


def connect(directory: str) -> SqliteDatabase:
    """Return a connection to the store in `directory`. The first one creates or migrates the tables.

    With journal_mode WAL, a reader never waits for a push. With synchronous FULL, each commit is flushed to the disk,
    so that an acknowledged push survives a power cut.

    Raises:
        StateFull: the disk is too full to create or migrate the store.
        StateError: the store can't be opened, or a newer sessiond wrote it.
    """
    path = os.path.join(directory, FILE)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        found = create_private(path)
        db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000, factory=SqliteDatabase
        )
    except (OSError, sqlite3.Error) as error:
        raise StateError(
            f"can't open the store {path}: {getattr(error, 'strerror', None) or error}",
            hint="choose another directory with --data",
        ) from error
    try:
        if found.st_nlink > 1:
            # SQLite derives the name of the write-ahead log from the path. Two processes that use different names
            # would each have a log of their own, and each would lose the other's commits.
            raise StateError(
                f"the store {path} has {found.st_nlink} names (hard links)",
                hint="remove the other names; to copy the store, use sqlite3 and .backup",
            )
        _configure(db)
        _upgrade(db, path)
        db.execute("PRAGMA foreign_keys = ON")  # after the migration, which drops tables that others refer to
    except UnicodeDecodeError as error:
        # Python decodes SQLite's message before it raises it: of a damaged file it may quote arbitrary bytes.
        db.close()
        raise StateError(f"can't use the store {path}: it is damaged", hint="restore it from a backup") from error
    except sqlite3.Error as error:
        db.close()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise StateFull(f"no space for the store {path}: {error}", hint="free space on the disk") from error
        raise StateError(f"can't use the store {path}: {error}", hint="restore it from a backup") from error
    except StateError:
        db.close()
        raise
    return db


def _configure(db: SqliteDatabase) -> None:
    use_write_ahead_log(db, BUSY_MS / 1000)
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA journal_size_limit = {64 << 20}")
    db.execute("PRAGMA cache_size = -8192")
    # Deleted and replaced bytes are overwritten with zeros. Otherwise an erased session could still be read from
    # free pages of the file. Some builds of SQLite have this as their default.
    db.execute("PRAGMA secure_delete = ON").fetchall()


def _upgrade(db: sqlite3.Connection, path: str) -> None:
    """Create or migrate the tables in one transaction: a kill leaves the store either as it was or migrated."""
    if _version(db) == VERSION:
        return
    db.execute("PRAGMA legacy_alter_table = ON")  # references to a renamed table must keep its old name
    db.execute("BEGIN IMMEDIATE")
    try:
        found = _version(db)  # again: another process may have created or migrated it in the meantime
        if found > VERSION:
            raise StateError(f"{path} was written by a newer sessiond", hint="upgrade sessiond")
        _change_tables(db, found)
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
        db.execute("PRAGMA legacy_alter_table = OFF")


def _change_tables(db: sqlite3.Connection, found: int) -> None:
    """Change the tables of version `found` to those of VERSION; 0: create them."""
    if found == 0:
        tables = TABLES + OWNED + SESSIONS + BYTES + FORGOTTEN + INVITES + TENANTS + OBJECTS + CHECKPOINTS + EXPIRED
        _run(db, tables)
        db.execute("INSERT INTO facts VALUES ('endpoint_id', ?)", (str(uuid.uuid4()),))
    if found == 1:
        _run(db, TO_VERSION_2[0] + OWNED + SESSIONS + TO_VERSION_2[1])
    if found in (1, 2):
        db.execute(TO_VERSION_3)
    if found in (2, 3):
        db.execute(TO_VERSION_4)
    if found in (1, 2, 3, 4):
        _run(db, FORGOTTEN)
    if 0 < found < 6:
        db.execute(TO_VERSION_6)
        _run(db, INVITES)
    if found in (5, 6):
        db.execute(TO_VERSION_7)
    if 0 < found < 8:
        _run(db, TO_VERSION_8)
    if 1 < found < 9:
        _run(db, TO_VERSION_9[0])
    if 0 < found < 9:
        db.execute(TO_VERSION_9[1])
    if 1 < found < 10:
        _run(db, TO_VERSION_10[0])
    if 0 < found < 10:
        _run(db, TENANTS)
        _run(db, TO_VERSION_10[1])
    if 0 < found < 11:
        _run(db, TO_VERSION_11 + ";" + OBJECTS)
    if 1 < found < 12:
        _run(db, TO_VERSION_12[0])
    if 0 < found < 12:
        _run(db, TO_VERSION_12[1])
    if 0 < found < 13:
        _run(db, CHECKPOINTS)
    if 0 < found < 14:
        _add_keep_days(db, found)
    if 1 < found < 15:
        _run(db, TO_VERSION_15[0] + SESSIONS + TO_VERSION_15[1])


def _add_keep_days(db: sqlite3.Connection, found: int) -> None:
    """Migrate to version 14. The tables that an older store did not have got the column when they were created."""
    for table, since in (("users", 2), ("tenants", 10)):
        if found >= since:
            db.execute(f"ALTER TABLE {table} ADD COLUMN keep_days INTEGER")
    _run(db, EXPIRED)


def _run(db: sqlite3.Connection, script: str) -> None:
    # Not executescript(), which would commit the transaction first.
    for statement in script.split(";\n"):
        db.execute(statement)


def _version(db: sqlite3.Connection) -> int:
    row: tuple[int] = db.execute("PRAGMA user_version").fetchone()
    return row[0]
