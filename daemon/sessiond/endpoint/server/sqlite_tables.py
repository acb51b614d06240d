"""The tables of a store in SQLite, and the statements that migrate older ones."""

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
    tenant TEXT                               -- the tenant that the user belongs to; NULL: none
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
    branch TEXT,
    model TEXT,
    gone INTEGER NOT NULL DEFAULT 0,          -- 1: the tool deleted its files
    active_ms INTEGER NOT NULL DEFAULT 0,     -- when it was last active, as lists show it
    place TEXT NOT NULL DEFAULT '',           -- the beginning of the directory, in lower case
    PRIMARY KEY (user, machine, session)
) WITHOUT ROWID;
CREATE INDEX sessions_by_change ON sessions (user, change);
-- The indexes of lists have all columns that a list filters by, so that only the sessions of a page are read.
CREATE INDEX sessions_by_start ON sessions
    (user, started_ms, machine, session, tool, place, branch, model, gone, ended_ms);
CREATE INDEX sessions_by_active ON sessions
    (user, active_ms, machine, session, started_ms, tool, place, branch, model, gone, ended_ms);

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
    quota INTEGER
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

TO_VERSION_2 = (
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
INSERT INTO users (user, change) SELECT 'default', value FROM facts WHERE name = 'change';
DELETE FROM facts WHERE name = 'change';
INSERT INTO machines SELECT 'default', machine, device, open FROM old_machines;
INSERT INTO devices SELECT 'default', device, batch FROM old_devices;
INSERT INTO sessions (user, machine, session, revision, change, tool, directory, started_ms, ended_ms, envelope)
    SELECT 'default', machine, session, min(revision, 1 << 52), change, tool, directory, started_ms, ended_ms, envelope
    FROM old_sessions;
INSERT INTO streams SELECT stream, 'default', machine, session, name, NULL FROM old_streams;
DROP TABLE old_machines;
DROP TABLE old_devices;
DROP TABLE old_sessions;
DROP TABLE old_streams;
""",
)
"""Migration from version 1 to 2: the statements before and after the new tables are created. The bytes of streams are
not changed."""
TO_VERSION_3 = "ALTER TABLE tokens ADD COLUMN released TEXT NOT NULL DEFAULT ''"
TO_VERSION_4 = "ALTER TABLE streams ADD COLUMN media_type TEXT"
TO_VERSION_7 = "ALTER TABLE forgotten ADD COLUMN everywhere INTEGER NOT NULL DEFAULT 0"
TO_VERSION_8 = """
ALTER TABLE generations ADD COLUMN tails INTEGER NOT NULL DEFAULT 0;
ALTER TABLE generations ADD COLUMN packed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX generations_with_tails ON generations (stream) WHERE tails > 0;
"""
TO_VERSION_6 = "ALTER TABLE tokens ADD COLUMN invite INTEGER"
TO_VERSION_9 = (
    """
ALTER TABLE sessions ADD COLUMN branch TEXT;
ALTER TABLE sessions ADD COLUMN model TEXT;
ALTER TABLE sessions ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;
CREATE INDEX sessions_by_tool ON sessions (user, tool, started_ms, machine, session)
""",
    """
UPDATE sessions SET branch = json_extract(CAST(envelope AS TEXT), '$.record.git_branch'),
    model = json_extract(CAST(envelope AS TEXT), '$.record.model'),
    gone = json_extract(CAST(envelope AS TEXT), '$.gone_at') IS NOT NULL
""",
)
"""The columns, which the tables of version 1 get when they are created again; and what they are filled with."""
TO_VERSION_10 = (
    """
ALTER TABLE users ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN quota INTEGER;
ALTER TABLE users ADD COLUMN tenant TEXT
""",
    """
INSERT INTO users (user)
    SELECT user FROM (SELECT user FROM machines UNION SELECT user FROM devices UNION SELECT user FROM forgotten) AS u
    WHERE user NOT IN (SELECT user FROM users);
UPDATE users SET held = (SELECT coalesce(sum(length(envelope)), 0) FROM sessions WHERE sessions.user = users.user)
    + (SELECT coalesce(sum(generations.length - keep + 128), 0) FROM streams JOIN generations USING (stream)
        WHERE streams.user = users.user)
    + 1024 * ((SELECT count(*) FROM machines WHERE machines.user = users.user)
        + (SELECT count(*) FROM devices WHERE devices.user = users.user)
        + (SELECT count(*) FROM streams WHERE streams.user = users.user)
        + (SELECT count(*) FROM forgotten WHERE forgotten.user = users.user))
""",
)
"""The columns, which the tables of version 1 get when they are created again; and the sums that they begin with."""
TO_VERSION_11 = """
ALTER TABLE generations ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chunks ADD COLUMN object INTEGER;
ALTER TABLE chunks ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chunks ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
CREATE INDEX generations_waiting ON generations (waiting) WHERE waiting >= 16384;
UPDATE generations SET waiting = (SELECT coalesce(sum(length(frame)), 0) FROM chunks
    WHERE chunks.stream = generations.stream AND chunks.generation = generations.generation)
"""
TO_VERSION_12 = (
    """
ALTER TABLE sessions ADD COLUMN active_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN place TEXT NOT NULL DEFAULT '';
DROP INDEX sessions_by_start;
DROP INDEX sessions_by_tool;
CREATE INDEX sessions_by_start ON sessions
    (user, started_ms, machine, session, tool, place, branch, model, gone, ended_ms);
CREATE INDEX sessions_by_active ON sessions
    (user, active_ms, machine, session, started_ms, tool, place, branch, model, gone, ended_ms)
""",
    """
UPDATE sessions SET active_ms = coalesce(ended_ms, max(started_ms, revision)),
    place = substr(lower(directory), 1, 150), tool = substr(tool, 1, 64), branch = substr(branch, 1, 100),
    model = substr(model, 1, 64)
""",
)
"""The columns, which the tables of version 1 get when they are created again; and what they are filled with."""
