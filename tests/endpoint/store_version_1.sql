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
