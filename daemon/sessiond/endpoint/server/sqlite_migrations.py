"""The statements that change the tables of older stores in SQLite to those of sqlite_tables.py."""

from __future__ import annotations

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
TO_VERSION_15 = (
    """
DROP INDEX sessions_by_change;
DROP INDEX sessions_by_start;
DROP INDEX sessions_by_active;
ALTER TABLE sessions RENAME TO old_sessions;
""",
    # In the order of changes, so that a follower that reads all of them reads the table from its beginning to its end.
    """
INSERT INTO sessions (user, machine, session, revision, change, tool, directory, started_ms, ended_ms, envelope, branch,
    model, gone, active_ms, place)
    SELECT user, machine, session, revision, change, tool, directory, started_ms, ended_ms, envelope, branch, model,
    gone, active_ms, place FROM old_sessions ORDER BY user, change;
DROP TABLE old_sessions;
""",
)
"""The statements before and after the table of sessions is created again, now with row numbers."""
