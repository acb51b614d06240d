"""The tables of the reference endpoint, and how a connection to them is opened."""

from __future__ import annotations

import os
import sqlite3
import uuid

from sessiond.errors import StateError, StateFull
from sessiond.sqlite_files import create_private

VERSION = 2
FILE = "endpoint.db"
BUSY_MS = 10_000
DEFAULT_USER = "default"
"""Whose the tokens are that were added without `--user`, and all machines of a store of version 1."""

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- Only hashes: who reads the file can't push. They are looked up by the index of UNIQUE, so 10,000 tokens cost as much
-- as one. `scopes` is a list such as push,read; `device` is set by the first push; times are unix milliseconds.
CREATE TABLE tokens (
    name TEXT PRIMARY KEY,
    sha256 BLOB NOT NULL UNIQUE,
    made_ms INTEGER NOT NULL,
    user TEXT NOT NULL DEFAULT 'default',
    scopes TEXT NOT NULL DEFAULT 'push,read',
    device TEXT,
    used_ms INTEGER,
    expires_ms INTEGER
) WITHOUT ROWID;
"""

_OWNED = """
-- `change` is the last place in the user's own sequence of /v1/changes: it says nothing about other users' changes.
CREATE TABLE users (
    user TEXT PRIMARY KEY,
    change INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Everything below is found by its user first: two users may both have a machine `laptop`, and neither learns of it.
-- `open`: another device of the user may take the machine id over (sessiond serve adopt).
CREATE TABLE machines (
    user TEXT NOT NULL,
    machine TEXT NOT NULL,
    device TEXT NOT NULL,
    open INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user, machine)
) WITHOUT ROWID;

-- The last push of each device: a device that remembers another one, or the endpoint, was restored from a backup.
CREATE TABLE devices (
    user TEXT NOT NULL,
    device TEXT NOT NULL,
    batch TEXT NOT NULL,
    PRIMARY KEY (user, device)
) WITHOUT ROWID;

-- `change` orders /v1/changes; it grows with every revision and with every byte of a stream.
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
    # Version 1 took revisions up to 2^63 - 1, above which no client could go.
    """
INSERT INTO users SELECT 'default', value FROM facts WHERE name = 'change';
DELETE FROM facts WHERE name = 'change';
INSERT INTO machines SELECT 'default', machine, device, open FROM old_machines;
INSERT INTO devices SELECT 'default', device, batch FROM old_devices;
INSERT INTO sessions SELECT 'default', machine, session, min(revision, 1 << 52), change, tool, directory, started_ms,
    ended_ms, envelope FROM old_sessions;
INSERT INTO streams SELECT stream, 'default', machine, session, name FROM old_streams;
DROP TABLE old_machines;
DROP TABLE old_devices;
DROP TABLE old_sessions;
DROP TABLE old_streams;
""",
)
"""How a store of version 1 becomes one of version 2: before and after the new tables are made. No byte of a stream is
touched."""


def connect(directory: str) -> sqlite3.Connection:
    """Open a connection to the store in `directory`; the first one makes the tables.

    WAL and FULL: a reader never waits for a push, and an answered push survives a power cut.

    Raises:
        StateFull: there is no room to create or migrate it.
        StateError: the store can't be opened, or a newer sessiond wrote it.
    """
    path = os.path.join(directory, FILE)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        found = create_private(path)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    except (OSError, sqlite3.Error) as error:
        raise StateError(f"cannot open the store {path}: {error}", hint="choose another place with --data") from error
    try:
        if found.st_nlink > 1:
            # SQLite names the write-ahead log after the path: under two names, two processes would each have one.
            raise StateError(
                f"the store {path} has {found.st_nlink} names (hard links)",
                hint="remove the others; a copy is made with sqlite3 and .backup",
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA journal_size_limit = {64 << 20}")
        db.execute("PRAGMA cache_size = -8192")
        _upgrade(db, path)
        db.execute("PRAGMA foreign_keys = ON")  # only now: a migration drops tables that others refer to
    except sqlite3.Error as error:
        db.close()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise StateFull(f"no room for the store {path}: {error}", hint="make room on the disk") from error
        raise StateError(f"cannot use the store {path}: {error}", hint="restore it from a backup") from error
    except StateError:
        db.close()
        raise
    return db


def _upgrade(db: sqlite3.Connection, path: str) -> None:
    """Create or migrate the tables in one transaction: a kill leaves the store as it was, or whole."""
    if _version(db) == VERSION:
        return
    db.execute("PRAGMA legacy_alter_table = ON")  # renaming a table must not change what other tables refer to
    db.execute("BEGIN IMMEDIATE")
    try:
        found = _version(db)  # another process may have been first
        if found > VERSION:
            raise StateError(f"{path} was written by a newer sessiond", hint="upgrade sessiond")
        if found == 0:
            _run(db, _TABLES + _OWNED + _BYTES)
            db.execute("INSERT INTO facts VALUES ('endpoint_id', ?)", (str(uuid.uuid4()),))
        elif found == 1:
            _run(db, _TO_VERSION_2[0] + _OWNED + _TO_VERSION_2[1])
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
        db.execute("PRAGMA legacy_alter_table = OFF")


def _run(db: sqlite3.Connection, script: str) -> None:
    # executescript() would commit the transaction first.
    for statement in script.split(";\n"):
        db.execute(statement)


def _version(db: sqlite3.Connection) -> int:
    row: tuple[int] = db.execute("PRAGMA user_version").fetchone()
    return row[0]
