-- The tables of an endpoint in PostgreSQL. They have the columns of the tables in SQLite (sqlite_tables.py), where each
-- is explained. COLLATE "C": lists are ordered by code points, whatever the database's locale is.

CREATE TABLE facts (name text PRIMARY KEY, value text NOT NULL);

CREATE TABLE tokens (
    name text COLLATE "C" PRIMARY KEY,
    sha256 bytea NOT NULL UNIQUE,
    made_ms bigint NOT NULL,
    "user" text COLLATE "C" NOT NULL DEFAULT 'default',
    scopes text NOT NULL DEFAULT 'push,read',
    device text,
    used_ms bigint,
    expires_ms bigint,
    released text NOT NULL DEFAULT '',
    invite bigint
);

CREATE TABLE invites (
    invite bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256 bytea NOT NULL UNIQUE,
    "user" text COLLATE "C" NOT NULL,
    scopes text NOT NULL,
    uses bigint NOT NULL,
    used bigint NOT NULL,
    made_ms bigint NOT NULL,
    expires_ms bigint NOT NULL
);

-- One row of each user is updated by every transaction that stores something: space for that on its page.
CREATE TABLE users (
    "user" text COLLATE "C" PRIMARY KEY,
    change bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

CREATE TABLE machines (
    "user" text COLLATE "C" NOT NULL,
    machine text COLLATE "C" NOT NULL,
    device text NOT NULL,
    open bigint NOT NULL DEFAULT 0,
    PRIMARY KEY ("user", machine)
);

CREATE TABLE devices (
    "user" text COLLATE "C" NOT NULL,
    device text COLLATE "C" NOT NULL,
    batch text NOT NULL,
    PRIMARY KEY ("user", device)
) WITH (fillfactor = 70);

CREATE TABLE sessions (
    "user" text COLLATE "C" NOT NULL,
    machine text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    change bigint NOT NULL DEFAULT 0,
    tool text COLLATE "C" NOT NULL,
    directory text NOT NULL,
    branch text COLLATE "C",
    model text,
    gone bigint NOT NULL DEFAULT 0,
    started_ms bigint NOT NULL,
    ended_ms bigint,
    envelope bytea NOT NULL,
    PRIMARY KEY ("user", machine, session)
) WITH (fillfactor = 70);
CREATE INDEX sessions_by_change ON sessions ("user", change);
CREATE INDEX sessions_by_start ON sessions ("user", started_ms, machine, session);
CREATE INDEX sessions_by_tool ON sessions ("user", tool, started_ms, machine, session);

CREATE SEQUENCE stream_numbers;
CREATE TABLE streams (
    stream bigint PRIMARY KEY,
    "user" text COLLATE "C" NOT NULL,
    machine text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    media_type text,
    UNIQUE ("user", machine, session, name)
);

CREATE TABLE generations (
    stream bigint NOT NULL REFERENCES streams,
    generation bigint NOT NULL,
    previous bigint,
    keep bigint NOT NULL,
    base bigint,
    length bigint NOT NULL,
    sha256 text,
    tails bigint NOT NULL DEFAULT 0,
    packed bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (stream, generation)
) WITH (fillfactor = 60);
CREATE INDEX generations_with_tails ON generations (stream) WHERE tails > 0;

CREATE TABLE chunks (
    stream bigint NOT NULL,
    generation bigint NOT NULL,
    start bigint NOT NULL,
    length bigint NOT NULL,
    frame bytea NOT NULL,
    PRIMARY KEY (stream, generation, start)
);
ALTER TABLE chunks ALTER COLUMN frame SET STORAGE EXTERNAL; -- it is compressed already

CREATE TABLE forgotten (
    "user" text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    machine text COLLATE "C" NOT NULL,
    change bigint NOT NULL,
    everywhere bigint NOT NULL DEFAULT 0,
    PRIMARY KEY ("user", session, machine)
);
CREATE INDEX forgotten_by_change ON forgotten ("user", change);

-- The name that SQLite has for it.
CREATE FUNCTION instr(text, text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN strpos($1, $2);
