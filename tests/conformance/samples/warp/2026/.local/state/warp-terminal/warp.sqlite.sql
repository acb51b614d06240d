CREATE TABLE agent_conversations (id INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL UNIQUE, conversation_data TEXT NOT NULL, last_modified_at TIMESTAMP NOT NULL, summary TEXT);
CREATE TABLE ai_queries (id INTEGER PRIMARY KEY, exchange_id TEXT NOT NULL, conversation_id TEXT NOT NULL, start_ts DATETIME NOT NULL, input TEXT NOT NULL, working_directory TEXT, output_status TEXT NOT NULL, model_id TEXT NOT NULL);
CREATE TABLE commands (id INTEGER PRIMARY KEY, command TEXT);
INSERT INTO commands VALUES (1, 'export TOKEN=FAKE-SECRET-must-never-leave');
INSERT INTO agent_conversations VALUES (1, '00000e01-0000-4000-8000-000000000e01', '{}', '2026-05-28 10:00:00', NULL);
INSERT INTO ai_queries VALUES (1, 'x1', '00000e01-0000-4000-8000-000000000e01', '2026-05-28 10:00:00.500', '[{"Query":{"text":"which shed?"}}]', '/home/ada/loom', '"Completed"', 'claude-4-sonnet');
INSERT INTO ai_queries VALUES (2, 'x2', '00000e01-0000-4000-8000-000000000e01', '2026-05-28 10:01:00', '[]', '/home/ada/loom', '"Completed"', 'claude-4-sonnet');
UPDATE agent_conversations SET last_modified_at = '2026-05-28 10:02:00', conversation_data = '{"server_conversation_token":"FAKE-SECRET-must-never-leave","conversation_usage_metadata":{"credits_spent":1.5}}';
