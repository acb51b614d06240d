-- How long the sessions of users and tenants are kept, and those that were let go for that: see keeping.py.

ALTER TABLE users ADD COLUMN keep_days bigint;
ALTER TABLE tenants ADD COLUMN keep_days bigint;

CREATE TABLE expired (
    "user" text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    machine text COLLATE "C" NOT NULL,
    change bigint NOT NULL,
    revision bigint NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY ("user", session, machine)
);
CREATE INDEX expired_by_change ON expired ("user", change);
