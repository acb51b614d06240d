"""The tables of the reference endpoint, their migration, and the opening of a connection."""

from __future__ import annotations

import os
import sqlite3
import uuid

from sessiond.errors import StateError, StateFull
from sessiond.sqlite_files import create_private, use_write_ahead_log

VERSION = 7
FILE = "endpoint.db"
BUSY_MS = 10_000
DEFAULT_USER = "default"
"""The user of tokens that were added without `--user`, and of all data in a store of version 1."""

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- Only hashes: reading the file does not allow to push. UNIQUE has an index, so a lookup costs the same with 10,000
-- tokens as with one. `scopes` is a list such as push,read; `device` is set by the first push; `released` is a list of
-- the devices that it was taken from, which can't push with it again; times are unix milliseconds.
CREATE TABLE tokens (
    name TEXT PRIMARY KEY,
    sha256 BLOB NOT NULL UNIQUE,
    made_ms INTEGER NOT NULL,
    user TEXT NOT NULL DEFAULT 'default',
    scopes TEXT NOT NULL DEFAULT 'push,read',
    device TEXT,
    used_ms INTEGER,
    expires_ms INTEGER,
    released TEXT NOT NULL DEFAULT '',
    invite INTEGER                            -- the invitation that it was made with
) WITHOUT ROWID;
"""

_OWNED = """
-- `change` is the last position in the user's own sequence of /v1/changes. It reveals nothing about other users.
CREATE TABLE users (
    user TEXT PRIMARY KEY,
    change INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- The key of each table below begins with the user: two users may both have a machine `laptop`, and neither can tell.
-- `open`: another device of the user may take over the machine id (sessiond serve adopt).
CREATE TABLE machines (
    user TEXT NOT NULL,
    machine TEXT NOT NULL,
    device TEXT NOT NULL,
    open INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user, machine)
) WITHOUT ROWID;

-- The id of each device's last push. If the device remembers another one, one of the two was restored from a backup.
CREATE TABLE devices (
    user TEXT NOT NULL,
    device TEXT NOT NULL,
    batch TEXT NOT NULL,
    PRIMARY KEY (user, device)
) WITHOUT ROWID;

-- `change` orders /v1/changes; it grows with every new revision and every append.
CREATE TABLE sessions (
    user TEXT NOT NULL,
    machine TEXT NOT NULL,
    session TEXT NOT NULL,
    revision INTEGER NOT NULL,
    change INTEGER NOT NULL DEFAULT 0,
    tool TEXT NOT NULL,
    directory TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    envelope BLOB NOT NULL,
    PRIMARY KEY (user, machine, session)
) WITHOUT ROWID;
CREATE INDEX sessions_by_change ON sessions (user, change);
CREATE INDEX sessions_by_start ON sessions (user, started_ms, machine, session);

CREATE TABLE streams (
    stream INTEGER PRIMARY KEY,
    user TEXT NOT NULL,
    machine TEXT NOT NULL,
    session TEXT NOT NULL,
    name TEXT NOT NULL,
    media_type TEXT,                          -- NULL: records
    UNIQUE (user, machine, session, name)
);
"""

_BYTES = """
CREATE TABLE generations (
    stream INTEGER NOT NULL REFERENCES streams,
    generation INTEGER NOT NULL,
    previous INTEGER,
    keep INTEGER NOT NULL,
    base INTEGER,
    length INTEGER NOT NULL,
    sha256 TEXT,
    PRIMARY KEY (stream, generation)
) WITHOUT ROWID;

CREATE TABLE chunks (
    chunk INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    frame BLOB NOT NULL,
    UNIQUE (stream, generation, start)
);
"""

_FORGOTTEN = """
-- Sessions that were erased and are never stored again. `machine` is '' for a session that was erased on all machines.
-- `change` is a position in the same sequence as that of `sessions`.
CREATE TABLE forgotten (
    user TEXT NOT NULL,
    session TEXT NOT NULL,
    machine TEXT NOT NULL,
    change INTEGER NOT NULL,
    everywhere INTEGER NOT NULL DEFAULT 0, -- 1: a machine that had the session when it was erased on all machines
    PRIMARY KEY (user, session, machine)
) WITHOUT ROWID;
CREATE INDEX forgotten_by_change ON forgotten (user, change);
"""

_INVITES = """
-- Like tokens, by the hash of their code. The numbers are never used again: tokens refer to them.
CREATE TABLE invites (
    invite INTEGER PRIMARY KEY AUTOINCREMENT,
    sha256 BLOB NOT NULL UNIQUE,
    user TEXT NOT NULL,
    scopes TEXT NOT NULL,
    uses INTEGER NOT NULL,
    used INTEGER NOT NULL,
    made_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
);
"""

_TO_VERSION_2 = (
    """
ALTER TABLE tokens ADD COLUMN user TEXT NOT NULL DEFAULT 'default';
ALTER TABLE tokens ADD COLUMN scopes TEXT NOT NULL DEFAULT 'push,read';
ALTER TABLE tokens ADD COLUMN device TEXT;
ALTER TABLE tokens ADD COLUMN used_ms INTEGER;
ALTER TABLE tokens ADD COLUMN expires_ms INTEGER;
DROP INDEX sessions_by_change;
DROP INDEX sessions_by_start;
ALTER TABLE machines RENAME TO old_machines;
ALTER TABLE devices RENAME TO old_devices;
ALTER TABLE sessions RENAME TO old_sessions;
ALTER TABLE streams RENAME TO old_streams;
""",
    # Version 1 accepted revisions up to 2^63 - 1. Above them no new revision is possible, so they are lowered.
    """
INSERT INTO users SELECT 'default', value FROM facts WHERE name = 'change';
DELETE FROM facts WHERE name = 'change';
INSERT INTO machines SELECT 'default', machine, device, open FROM old_machines;
INSERT INTO devices SELECT 'default', device, batch FROM old_devices;
INSERT INTO sessions SELECT 'default', machine, session, min(revision, 1 << 52), change, tool, directory, started_ms,
    ended_ms, envelope FROM old_sessions;
INSERT INTO streams SELECT stream, 'default', machine, session, name, NULL FROM old_streams;
DROP TABLE old_machines;
DROP TABLE old_devices;
DROP TABLE old_sessions;
DROP TABLE old_streams;
""",
)
"""Migration from version 1 to 2: the statements before and after the new tables are created. The bytes of streams are
not changed."""
_TO_VERSION_3 = "ALTER TABLE tokens ADD COLUMN released TEXT NOT NULL DEFAULT ''"
_TO_VERSION_4 = "ALTER TABLE streams ADD COLUMN media_type TEXT"
_TO_VERSION_7 = "ALTER TABLE forgotten ADD COLUMN everywhere INTEGER NOT NULL DEFAULT 0"
_TO_VERSION_6 = "ALTER TABLE tokens ADD COLUMN invite INTEGER"


def connect(directory: str) -> sqlite3.Connection:
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
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    except (OSError, sqlite3.Error) as error:
        raise StateError(
            f"cannot open the store {path}: {error}", hint="choose another directory with --data"
        ) from error
    try:
        if found.st_nlink > 1:
            # SQLite derives the name of the write-ahead log from the path. Two processes that use different names
            # would each have their own log, and each would lose what the other one commits.
            raise StateError(
                f"the store {path} has {found.st_nlink} names (hard links)",
                hint="remove the other names; to copy the store, use sqlite3 and .backup",
            )
        use_write_ahead_log(db, BUSY_MS / 1000)
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA journal_size_limit = {64 << 20}")
        db.execute("PRAGMA cache_size = -8192")
        # Deleted and replaced bytes are overwritten with zeros. Otherwise an erased session could still be read from
        # free pages of the file. Some builds of SQLite have this as their default.
        db.execute("PRAGMA secure_delete = ON").fetchall()
        _upgrade(db, path)
        db.execute("PRAGMA foreign_keys = ON")  # after the migration, which drops tables that others refer to
    except UnicodeDecodeError as error:
        # Python decodes SQLite's message before it raises it: of a damaged file it may quote arbitrary bytes.
        db.close()
        raise StateError(f"cannot use the store {path}: it is damaged", hint="restore it from a backup") from error
    except sqlite3.Error as error:
        db.close()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise StateFull(f"no space for the store {path}: {error}", hint="free space on the disk") from error
        raise StateError(f"cannot use the store {path}: {error}", hint="restore it from a backup") from error
    except StateError:
        db.close()
        raise
    return db


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
        if found == 0:
            _run(db, _TABLES + _OWNED + _BYTES + _FORGOTTEN + _INVITES)
            db.execute("INSERT INTO facts VALUES ('endpoint_id', ?)", (str(uuid.uuid4()),))
        if found == 1:
            _run(db, _TO_VERSION_2[0] + _OWNED + _TO_VERSION_2[1])
        if found in (1, 2):
            db.execute(_TO_VERSION_3)
        if found in (2, 3):
            db.execute(_TO_VERSION_4)
        if found in (1, 2, 3, 4):
            _run(db, _FORGOTTEN)
        if 0 < found < 6:
            db.execute(_TO_VERSION_6)
            _run(db, _INVITES)
        if found in (5, 6):
            db.execute(_TO_VERSION_7)
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
        db.execute("PRAGMA legacy_alter_table = OFF")


def _run(db: sqlite3.Connection, script: str) -> None:
    # Not executescript(), which would commit the transaction first.
    for statement in script.split(";\n"):
        db.execute(statement)


def _version(db: sqlite3.Connection) -> int:
    row: tuple[int] = db.execute("PRAGMA user_version").fetchone()
    return row[0]
