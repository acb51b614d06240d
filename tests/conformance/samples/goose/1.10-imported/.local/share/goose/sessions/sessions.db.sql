CREATE TABLE schema_version (version INTEGER PRIMARY KEY, applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE sessions (id TEXT PRIMARY KEY, description TEXT NOT NULL DEFAULT '', working_dir TEXT NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, extension_data TEXT DEFAULT '{}', total_tokens INTEGER, recipe_json TEXT);
CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL REFERENCES sessions(id), role TEXT NOT NULL, content_json TEXT NOT NULL, created_timestamp INTEGER NOT NULL, timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP, tokens INTEGER);
CREATE INDEX idx_messages_session ON messages(session_id);
INSERT INTO sessions(id, description, working_dir, created_at, updated_at) VALUES ('20250613_104530', 'Weave a pattern', '/home/ada/engine', '2026-04-01 10:00:00', '2026-04-01 10:00:00');
INSERT INTO messages(session_id, role, content_json, created_timestamp) VALUES ('20250613_104530', 'user', '[{"type":"text","text":"weave"}]', 1775037600);
UPDATE sessions SET updated_at = datetime(1775037600, 'unixepoch') WHERE id = '20250613_104530';
INSERT INTO messages(session_id, role, content_json, created_timestamp) VALUES ('20250613_104530', 'assistant', '[{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"Let me look."},{"type":"toolRequest","id":"call_1","toolCall":{"status":"success","value":{"name":"developer__shell","arguments":{"command":"ls"}}}}]', 1775037603);
UPDATE sessions SET updated_at = datetime(1775037603, 'unixepoch') WHERE id = '20250613_104530';
INSERT INTO messages(session_id, role, content_json, created_timestamp) VALUES ('20250613_104530', 'user', '[{"type":"toolResponse","id":"call_1","toolResult":{"status":"success","value":[{"type":"text","text":"loom.py"}]}}]', 1775037604);
UPDATE sessions SET updated_at = datetime(1775037604, 'unixepoch') WHERE id = '20250613_104530';
INSERT INTO messages(session_id, role, content_json, created_timestamp) VALUES ('20250613_104530', 'assistant', '[{"type":"text","text":"Woven. Twice."}]', 1775037606);
UPDATE sessions SET updated_at = datetime(1775037606, 'unixepoch') WHERE id = '20250613_104530';
INSERT INTO messages(session_id, role, content_json, created_timestamp) VALUES ('20250613_104530', 'user', '[{"type":"text","text":"faster"}]', 1775037660);
UPDATE sessions SET updated_at = datetime(1775037660, 'unixepoch') WHERE id = '20250613_104530';
INSERT INTO messages(session_id, role, content_json, created_timestamp) VALUES ('20250613_104530', 'assistant', '[{"type":"text","text":"Faster."}]', 1775037663);
UPDATE sessions SET updated_at = datetime(1775037663, 'unixepoch') WHERE id = '20250613_104530';
