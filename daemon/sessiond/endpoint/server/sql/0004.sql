-- Indexes of lists that have all columns that a list filters by. Long values are cut: an index row has at most 2,704
-- bytes in PostgreSQL.

ALTER TABLE sessions ADD COLUMN active_ms bigint NOT NULL DEFAULT 0, ADD COLUMN place text NOT NULL DEFAULT '';
UPDATE sessions SET active_ms = coalesce(ended_ms, greatest(started_ms, revision)),
    place = left(lower(directory COLLATE "C"), 150), tool = left(tool, 64), branch = left(branch, 100),
    model = left(model, 64);
DROP INDEX sessions_by_start;
DROP INDEX sessions_by_tool;
CREATE INDEX sessions_by_start ON sessions
    ("user", started_ms, machine, session, tool, place, branch, model, gone, ended_ms);
CREATE INDEX sessions_by_active ON sessions
    ("user", active_ms, machine, session, started_ms, tool, place, branch, model, gone, ended_ms);
