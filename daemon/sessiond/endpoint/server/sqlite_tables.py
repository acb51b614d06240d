"""The tables of a store in SQLite."""

from __future__ import annotations

TABLES = """
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

OWNED = """
-- `change` is the last position in the user's own sequence of /v1/changes. It reveals nothing about other users.
CREATE TABLE users (
    user TEXT PRIMARY KEY,
    change INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,          -- bytes of all that the user stores: see usage.py
    quota INTEGER,                            -- its limit; NULL: none
    tenant TEXT,                              -- the tenant that the user belongs to; NULL: none
    keep_days INTEGER                         -- for how long sessions are kept; NULL: as for the tenant, or forever
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

SESSIONS = """
-- `change` orders /v1/changes; it grows with every new revision and every append. The rows are long, so the table is
-- not WITHOUT ROWID: that would put rows into the inner pages as well, and each lookup would read more pages.
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
    branch TEXT,
    model TEXT,
    gone INTEGER NOT NULL DEFAULT 0,          -- 1: the tool deleted its files
    active_ms INTEGER NOT NULL DEFAULT 0,     -- when it was last active, as lists show it
    place TEXT NOT NULL DEFAULT '',           -- the beginning of the directory, in lower case
    PRIMARY KEY (user, machine, session)
);
CREATE INDEX sessions_by_change ON sessions (user, change);
-- The indexes of lists have all columns that a list filters by, so that only the sessions of a page are read.
CREATE INDEX sessions_by_start ON sessions
    (user, started_ms, machine, session, tool, place, branch, model, gone, ended_ms);
CREATE INDEX sessions_by_active ON sessions
    (user, active_ms, machine, session, started_ms, tool, place, branch, model, gone, ended_ms);
"""

BYTES = """
CREATE TABLE generations (
    stream INTEGER NOT NULL REFERENCES streams,
    generation INTEGER NOT NULL,
    previous INTEGER,
    keep INTEGER NOT NULL,
    base INTEGER,
    length INTEGER NOT NULL,
    sha256 TEXT,
    tails INTEGER NOT NULL DEFAULT 0,         -- small chunks behind `packed`, the bytes that were packed: see packer.py
    packed INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0,       -- bytes of frames that are in this database: see offloader.py
    PRIMARY KEY (stream, generation)
) WITHOUT ROWID;
CREATE INDEX generations_with_tails ON generations (stream) WHERE tails > 0;
CREATE INDEX generations_waiting ON generations (waiting) WHERE waiting >= 16384;

CREATE TABLE chunks (
    chunk INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    frame BLOB NOT NULL,                      -- empty if the bytes are in an object
    object INTEGER,                           -- the object, and the place of the frame in it
    at INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL DEFAULT 0,
    UNIQUE (stream, generation, start)
);
"""

CHECKPOINTS = """
-- States of stream digests: see checkpoints.py.
CREATE TABLE checkpoints (
    stream INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    length INTEGER NOT NULL,
    chain BLOB NOT NULL,
    PRIMARY KEY (stream, generation, length),
    FOREIGN KEY (stream, generation) REFERENCES generations ON DELETE CASCADE
) WITHOUT ROWID;
"""

OBJECTS = """
-- The objects outside of this database (objects.py has the states). The numbers are never used again.
CREATE TABLE objects (
    object INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL,
    machine TEXT NOT NULL,
    session TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    state INTEGER NOT NULL,
    made_ms INTEGER NOT NULL
);
CREATE INDEX objects_by_session ON objects (user, session, machine);
CREATE INDEX objects_unfinished ON objects (made_ms) WHERE state <> 1;
"""

FORGOTTEN = """
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

EXPIRED = """
-- Sessions that were let go because they were too old: see keeping.py. `change` is a position in the same sequence.
CREATE TABLE expired (
    user TEXT NOT NULL, session TEXT NOT NULL, machine TEXT NOT NULL,
    change INTEGER NOT NULL,
    revision INTEGER NOT NULL,                -- the last one that was stored, or pushed
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (user, session, machine)
) WITHOUT ROWID;
CREATE INDEX expired_by_change ON expired (user, change);
"""

INVITES = """
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

TENANTS = """
-- Users that share a quota. `held` is the sum of theirs.
CREATE TABLE tenants (
    tenant TEXT PRIMARY KEY,
    held INTEGER NOT NULL DEFAULT 0,
    quota INTEGER,
    keep_days INTEGER
) WITHOUT ROWID;

-- What was changed in the rights of users, and what administrators read. Rows are never changed or deleted.
CREATE TABLE audit (
    entry INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,                      -- a token's name, or who ran the command
    action TEXT NOT NULL,
    subject TEXT NOT NULL,                    -- the token, invitation, user or session that it is about
    detail TEXT NOT NULL
);
"""
