"""The tables of the reference endpoint, and how a connection to them is opened."""

from __future__ import annotations

import os
import sqlite3
import uuid

from sessiond.errors import StateError
from sessiond.sqlite_files import create_private

VERSION = 1
FILE = "endpoint.db"
BUSY_MS = 10_000

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- Only hashes: who reads the file can't push.
CREATE TABLE tokens (
    name TEXT PRIMARY KEY,
    sha256 BLOB NOT NULL UNIQUE,
    made_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- `open`: another device than this one may take the machine id over (sessiond serve adopt).
CREATE TABLE machines (
    machine TEXT PRIMARY KEY,
    device TEXT NOT NULL,
    open INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- The last push of each device: a device that remembers another one, or the endpoint, was restored from a backup.
CREATE TABLE devices (
    device TEXT PRIMARY KEY,
    batch TEXT NOT NULL
) WITHOUT ROWID;

-- `change` orders /v1/changes; it grows with every revision and with every byte of a stream.
CREATE TABLE sessions (
    machine TEXT NOT NULL,
    session TEXT NOT NULL,
    revision INTEGER NOT NULL,
    change INTEGER NOT NULL DEFAULT 0,
    tool TEXT NOT NULL,
    directory TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    envelope BLOB NOT NULL,
    PRIMARY KEY (machine, session)
) WITHOUT ROWID;
CREATE INDEX sessions_by_change ON sessions (change);
CREATE INDEX sessions_by_start ON sessions (started_ms, machine, session);

CREATE TABLE streams (
    stream INTEGER PRIMARY KEY,
    machine TEXT NOT NULL,
    session TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (machine, session, name)
);

-- The bytes [0, keep) are those of `base`, the generation that holds byte keep-1 in chunks of its own; the rest
-- is in our chunks. `previous` and the digest of all `length` bytes (where known) are what the wire speaks of.
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


def connect(directory: str) -> sqlite3.Connection:
    """Open a connection to the store in `directory`; the first one makes the tables.

    WAL and FULL: a reader never waits for a push, and an answered push survives a power cut.

    Raises:
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
        db.execute("PRAGMA foreign_keys = ON")
        db.execute(f"PRAGMA journal_size_limit = {64 << 20}")
        db.execute("PRAGMA cache_size = -8192")
        _upgrade(db, path)
    except sqlite3.Error as error:
        db.close()
        raise StateError(f"cannot use the store {path}: {error}", hint="restore it from a backup") from error
    except StateError:
        db.close()
        raise
    return db


def _upgrade(db: sqlite3.Connection, path: str) -> None:
    if _version(db) == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    found = _version(db)  # another process may have been first
    if found == 0:
        for statement in _TABLES.split(";\n"):
            db.execute(statement)
        facts = [("endpoint_id", str(uuid.uuid4())), ("change", 0)]
        db.executemany("INSERT INTO facts VALUES (?, ?)", facts)
        db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")
    if found > VERSION:
        raise StateError(f"{path} was written by a newer sessiond", hint="upgrade sessiond")


def _version(db: sqlite3.Connection) -> int:
    row: tuple[int] = db.execute("PRAGMA user_version").fetchone()
    return row[0]
