PRAGMA journal_mode = WAL;
CREATE TABLE state_meta (key TEXT PRIMARY KEY, value TEXT);
INSERT INTO state_meta VALUES ('gateway_secret', 'PLANTED-TOKEN');
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    user_id TEXT,
    session_key TEXT,
    chat_id TEXT,
    chat_type TEXT,
    thread_id TEXT,
    display_name TEXT,
    origin_json TEXT,
    expiry_finalized INTEGER DEFAULT 0,
    model TEXT,
    model_config TEXT,
    system_prompt TEXT,
    parent_session_id TEXT,
    started_at REAL NOT NULL,
    ended_at REAL,
    end_reason TEXT,
    message_count INTEGER DEFAULT 0,
    tool_call_count INTEGER DEFAULT 0,
    input_tokens INTEGER DEFAULT 0,
    output_tokens INTEGER DEFAULT 0,
    cache_read_tokens INTEGER DEFAULT 0,
    cache_write_tokens INTEGER DEFAULT 0,
    reasoning_tokens INTEGER DEFAULT 0,
    cwd TEXT,
    git_branch TEXT,
    git_repo_root TEXT,
    billing_provider TEXT,
    billing_base_url TEXT,
    billing_mode TEXT,
    estimated_cost_usd REAL,
    actual_cost_usd REAL,
    cost_status TEXT,
    cost_source TEXT,
    pricing_version TEXT,
    title TEXT,
    api_call_count INTEGER DEFAULT 0,
    handoff_state TEXT,
    handoff_platform TEXT,
    handoff_error TEXT,
    compression_failure_cooldown_until REAL,
    compression_failure_error TEXT,
    compression_fallback_streak INTEGER NOT NULL DEFAULT 0,
    profile_name TEXT,
    rewind_count INTEGER NOT NULL DEFAULT 0,
    archived INTEGER NOT NULL DEFAULT 0,
    FOREIGN KEY (parent_session_id) REFERENCES sessions(id)
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL REFERENCES sessions(id),
    role TEXT NOT NULL,
    content TEXT,
    tool_call_id TEXT,
    tool_calls TEXT,
    tool_name TEXT,
    effect_disposition TEXT,
    timestamp REAL NOT NULL,
    token_count INTEGER,
    finish_reason TEXT,
    reasoning TEXT,
    reasoning_content TEXT,
    reasoning_details TEXT,
    codex_reasoning_items TEXT,
    codex_message_items TEXT,
    platform_message_id TEXT,
    observed INTEGER DEFAULT 0,
    active INTEGER NOT NULL DEFAULT 1,
    compacted INTEGER NOT NULL DEFAULT 0,
    api_content TEXT
);
CREATE TABLE session_model_usage (
    session_id TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
    model TEXT NOT NULL,
    billing_provider TEXT NOT NULL DEFAULT '',
    billing_base_url TEXT NOT NULL DEFAULT '',
    billing_mode TEXT NOT NULL DEFAULT '',
    task TEXT NOT NULL DEFAULT '',
    api_call_count INTEGER NOT NULL DEFAULT 0,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    estimated_cost_usd REAL NOT NULL DEFAULT 0,
    actual_cost_usd REAL NOT NULL DEFAULT 0,
    cost_status TEXT,
    cost_source TEXT,
    first_seen REAL,
    last_seen REAL,
    PRIMARY KEY (session_id, model, billing_provider, billing_base_url, billing_mode, task)
);
CREATE INDEX idx_messages_session ON messages(session_id, timestamp);
CREATE INDEX idx_messages_session_active ON messages(session_id, active, timestamp);
INSERT INTO sessions (id, source, model, model_config, system_prompt, parent_session_id, started_at, cwd, billing_provider) VALUES ('20260401_100000_751184', 'cli', 'hermes-5', '{"max_iterations": 90, "reasoning_config": null, "max_tokens": null}', 'You are Hermes Agent.', NULL, 1775037600.25, '/home/ada/loom', 'custom');
INSERT INTO messages (session_id, role, content, timestamp) VALUES ('20260401_100000_751184', 'user', 'Weave a pattern.', 1775037601.5);
INSERT INTO messages (session_id, role, content, timestamp, tool_calls, finish_reason) VALUES ('20260401_100000_751184', 'assistant', 'I ask a weaver.', 1775037603.5, '[{"id": "call_1", "call_id": "call_1", "response_item_id": "fc_1", "type": "function", "function": {"name": "delegate_task", "arguments": "{\"goal\":\"Say hi\"}"}}]', 'tool_calls');
INSERT INTO sessions (id, source, model, model_config, system_prompt, parent_session_id, started_at, cwd, billing_provider) VALUES ('20260401_100021_26e17b', 'subagent', 'hermes-5', '{"max_iterations": 50, "reasoning_config": null, "max_tokens": null, "_delegate_from": "20260401_100000_751184"}', 'You are Hermes Agent.', '20260401_100000_751184', 1775037621.0, NULL, 'custom');
INSERT INTO messages (session_id, role, content, timestamp) VALUES ('20260401_100021_26e17b', 'user', 'Say hi', 1775037621.5);
INSERT INTO messages (session_id, role, content, timestamp, tool_call_id, tool_name) VALUES ('20260401_100000_751184', 'tool', '{"status": "dispatched", "mode": "background", "count": 1, "delegation_id": "deleg_1", "goals": ["Say hi"]}', 1775037622.5, 'call_1', 'delegate_task');
INSERT INTO messages (session_id, role, content, timestamp, finish_reason) VALUES ('20260401_100021_26e17b', 'assistant', 'Hi.', 1775037623.5, 'stop');
UPDATE sessions SET ended_at = 1775037624.0, end_reason = 'agent_close', message_count = 2 WHERE id = '20260401_100021_26e17b';
INSERT INTO messages (session_id, role, content, timestamp, finish_reason) VALUES ('20260401_100000_751184', 'assistant', 'It is begun.', 1775037625.5, 'stop');
INSERT INTO messages (session_id, role, content, timestamp) VALUES ('20260401_100000_751184', 'user', '[ASYNC DELEGATION BATCH COMPLETE — deleg_1]
A background fan-out of 1 subagent(s) you dispatched earlier has finished.', 1775037626.5);
INSERT INTO messages (session_id, role, content, timestamp, finish_reason) VALUES ('20260401_100000_751184', 'assistant', 'It is woven.', 1775037628.5, 'stop');
INSERT INTO messages (session_id, role, content, timestamp) VALUES ('20260401_100000_751184', 'user', 'In blue?', 1775037661.5);
INSERT INTO messages (session_id, role, content, timestamp, finish_reason) VALUES ('20260401_100000_751184', 'assistant', 'Blue.', 1775037663.5, 'stop');
UPDATE messages SET active = 0 WHERE session_id = '20260401_100000_751184' AND timestamp > 1775037660;
UPDATE sessions SET rewind_count = 1, title = 'Weaving', message_count = 6, tool_call_count = 1, ended_at = 1775037690.0, end_reason = 'branched' WHERE id = '20260401_100000_751184';
INSERT INTO sessions (id, source, model, model_config, system_prompt, parent_session_id, started_at, cwd, billing_provider) VALUES ('20260401_100130_5fff41', 'cli', 'hermes-5', '{"max_iterations": 90, "reasoning_config": null, "_branched_from": "20260401_100000_751184"}', 'You are Hermes Agent.', '20260401_100000_751184', 1775037690.5, NULL, 'custom');
INSERT INTO messages (session_id, role, content, timestamp) VALUES ('20260401_100130_5fff41', 'user', 'Weave a pattern.', 1775037690.5);
INSERT INTO messages (session_id, role, content, timestamp) VALUES ('20260401_100130_5fff41', 'assistant', 'I ask a weaver.', 1775037690.5625);
INSERT INTO messages (session_id, role, content, timestamp) VALUES ('20260401_100130_5fff41', 'tool', '{"status": "dispatched", "mode": "background", "count": 1, "delegation_id": "deleg_1", "goals": ["Say hi"]}', 1775037690.625);
INSERT INTO messages (session_id, role, content, timestamp) VALUES ('20260401_100130_5fff41', 'assistant', 'It is begun.', 1775037690.6875);
INSERT INTO messages (session_id, role, content, timestamp) VALUES ('20260401_100130_5fff41', 'user', '[ASYNC DELEGATION BATCH COMPLETE — deleg_1]
A background fan-out of 1 subagent(s) you dispatched earlier has finished.', 1775037690.75);
INSERT INTO messages (session_id, role, content, timestamp) VALUES ('20260401_100130_5fff41', 'assistant', 'It is woven.', 1775037690.8125);
INSERT INTO messages (session_id, role, content, timestamp) VALUES ('20260401_100130_5fff41', 'user', 'In red?', 1775037693.5);
INSERT INTO messages (session_id, role, content, timestamp, finish_reason) VALUES ('20260401_100130_5fff41', 'assistant', 'Red.', 1775037695.5, 'stop');
UPDATE sessions SET title = 'Weaving #2', message_count = 8 WHERE id = '20260401_100130_5fff41';
UPDATE messages SET tool_calls = (SELECT tool_calls FROM messages WHERE id = 2) WHERE session_id = '20260401_100130_5fff41' AND content = 'I ask a weaver.';
UPDATE messages SET tool_call_id = 'call_1', tool_name = 'delegate_task' WHERE session_id = '20260401_100130_5fff41' AND role = 'tool';
UPDATE messages SET reasoning_content = 'Ask first.', codex_reasoning_items = '[{"id":"rs_1"}]' WHERE tool_calls IS NOT NULL;
UPDATE sessions SET reasoning_tokens = 7, estimated_cost_usd = 0.25, git_repo_root = '/home/ada/loom' WHERE id = '20260401_100000_751184';
INSERT INTO session_model_usage (session_id, model, billing_provider, billing_base_url, api_call_count, input_tokens, output_tokens, estimated_cost_usd, first_seen, last_seen) VALUES ('20260401_100000_751184', 'hermes-5', 'custom', 'https://PLANTED-TOKEN@127.0.0.1/v1', 3, 210, 40, 0.25, 1775037601.5, 1775037663.5);
INSERT INTO session_model_usage (session_id, model, billing_provider, task, api_call_count, input_tokens, output_tokens, first_seen, last_seen) VALUES ('20260401_100000_751184', 'hermes-5-mini', 'custom', 'title', 1, 30, 4, 1775037629.5, 1775037629.5);
UPDATE sessions SET compression_failure_error = 'The summary was empty.' WHERE id = '20260401_100000_751184';
UPDATE messages SET platform_message_id = 'chat-7' WHERE session_id = '20260401_100000_751184' AND content = 'In blue?';
