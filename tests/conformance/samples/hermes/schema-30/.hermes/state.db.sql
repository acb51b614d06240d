PRAGMA journal_mode = WAL;
CREATE TABLE system_prompts (hash TEXT PRIMARY KEY, prompt TEXT NOT NULL);
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    user_id TEXT,
    model TEXT,
    model_config TEXT,
    system_prompt_hash TEXT REFERENCES system_prompts(hash),
    parent_session_id TEXT REFERENCES sessions(id),
    started_at REAL NOT NULL,
    ended_at REAL,
    end_reason TEXT,
    message_count INTEGER DEFAULT 0,
    tool_call_count INTEGER DEFAULT 0,
    input_tokens INTEGER DEFAULT 0,
    output_tokens INTEGER DEFAULT 0,
    cwd TEXT,
    git_branch TEXT,
    title TEXT,
    title_source TEXT,
    last_activity_at REAL,
    handoff_state TEXT,
    handoff_platform TEXT,
    handoff_error TEXT,
    compression_failure_error TEXT
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL REFERENCES sessions(id),
    role TEXT NOT NULL,
    content TEXT,
    tool_call_id TEXT,
    tool_calls TEXT,
    tool_name TEXT,
    timestamp REAL NOT NULL,
    token_count INTEGER,
    finish_reason TEXT,
    reasoning TEXT,
    _compressed_summary INTEGER NOT NULL DEFAULT 0,
    active INTEGER NOT NULL DEFAULT 1,
    compacted INTEGER NOT NULL DEFAULT 0,
    display_kind TEXT,
    display_metadata TEXT,
    display_identity BLOB,
    display_order INTEGER
);
CREATE INDEX idx_messages_session ON messages(session_id, timestamp);
INSERT INTO system_prompts VALUES ('h1', 'You are Hermes Agent.');
INSERT INTO sessions (id, source, model, model_config, system_prompt_hash, started_at, cwd, git_branch) VALUES ('20260822_100000_5a17de', 'cli', 'hermes-5', '{"api_key":"PLANTED-TOKEN"}', 'h1', 1787392800.25, '/home/ada/loom', 'main');
INSERT INTO messages (session_id, role, content, timestamp) VALUES ('20260822_100000_5a17de', 'user', char(0) || 'json:[{"type":"text","text":"Weave this."},{"type":"image_url","image_url":{"url":"data:image/png;base64,d2VmdA=="}}]', 1787392801.5);
INSERT INTO messages (session_id, role, content, tool_calls, timestamp, finish_reason) VALUES ('20260822_100000_5a17de', 'assistant', '', '[{"id":"call_1","type":"function","function":{"name":"terminal","arguments":"{\"command\":\"ls\"}"}}]', 1787392803.5, 'tool_calls');
INSERT INTO messages (session_id, role, content, tool_call_id, tool_name, timestamp) VALUES ('20260822_100000_5a17de', 'tool', 'loom.py', 'call_1', 'terminal', 1787392804.5);
INSERT INTO messages (session_id, role, content, timestamp, display_kind) VALUES ('20260822_100000_5a17de', 'user', 'Go on until the cloth is done.', 1787392805.5, 'hidden');
INSERT INTO messages (session_id, role, content, timestamp, finish_reason) VALUES ('20260822_100000_5a17de', 'assistant', 'Woven.', 1787392806.5, 'stop');
INSERT INTO messages (session_id, role, content, timestamp, _compressed_summary) VALUES ('20260822_100000_5a17de', 'user', '[CONTEXT SUMMARY]: A cloth was woven.', 1787392860.5, 1);
INSERT INTO messages (session_id, role, content, timestamp, display_metadata) VALUES ('20260822_100000_5a17de', 'user', 'Once more.', 1787392861.5, '{"reactions":["heart"]}');
INSERT INTO messages (session_id, role, content, timestamp, finish_reason) VALUES ('20260822_100000_5a17de', 'assistant', 'Woven again.', 1787392863.5, 'stop');
UPDATE sessions SET title = 'A cloth', title_source = 'llm', handoff_state = 'failed', handoff_platform = 'chat', handoff_error = 'Nobody answered.', last_activity_at = 1787392863.5 WHERE id = '20260822_100000_5a17de';
