-- Quotas, tenants and the audit log: see sqlite_tables.py and usage.py.

ALTER TABLE users ADD COLUMN held bigint NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN quota bigint;
ALTER TABLE users ADD COLUMN tenant text COLLATE "C";

CREATE TABLE tenants (
    tenant text COLLATE "C" PRIMARY KEY,
    held bigint NOT NULL DEFAULT 0,
    quota bigint
) WITH (fillfactor = 10);

CREATE TABLE audit (
    entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms bigint NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    detail text NOT NULL
);

INSERT INTO users ("user")
    SELECT "user" FROM machines UNION SELECT "user" FROM devices UNION SELECT "user" FROM forgotten
    ON CONFLICT DO NOTHING;
UPDATE users SET held = (SELECT coalesce(sum(length(envelope)), 0) FROM sessions WHERE sessions."user" = users."user")
    + (SELECT coalesce(sum(generations.length - keep + 128), 0) FROM streams JOIN generations USING (stream)
        WHERE streams."user" = users."user")
    + 1024 * ((SELECT count(*) FROM machines WHERE machines."user" = users."user")
        + (SELECT count(*) FROM devices WHERE devices."user" = users."user")
        + (SELECT count(*) FROM streams WHERE streams."user" = users."user")
        + (SELECT count(*) FROM forgotten WHERE forgotten."user" = users."user"));
