-- Objects outside of the database, and the chunks whose frames are in them.

ALTER TABLE generations ADD COLUMN waiting bigint NOT NULL DEFAULT 0;
CREATE INDEX generations_waiting ON generations (waiting) WHERE waiting >= 16384;

ALTER TABLE chunks ADD COLUMN object bigint, ADD COLUMN at bigint NOT NULL DEFAULT 0,
    ADD COLUMN size bigint NOT NULL DEFAULT 0;
UPDATE generations SET waiting = (SELECT coalesce(sum(octet_length(frame)), 0) FROM chunks
    WHERE chunks.stream = generations.stream AND chunks.generation = generations.generation);

CREATE TABLE objects (
    object bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    "user" text COLLATE "C" NOT NULL,
    machine text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    bytes bigint NOT NULL,
    state bigint NOT NULL,
    made_ms bigint NOT NULL
);
CREATE INDEX objects_by_session ON objects ("user", session, machine);
CREATE INDEX objects_unfinished ON objects (made_ms) WHERE state <> 1;
