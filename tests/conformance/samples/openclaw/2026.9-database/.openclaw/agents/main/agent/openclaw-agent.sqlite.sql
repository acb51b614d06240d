PRAGMA journal_mode = WAL;
CREATE TABLE session_nodes (
  session_key TEXT NOT NULL PRIMARY KEY,
  current_session_id TEXT NOT NULL,
  entry_json TEXT NOT NULL,
  legacy_acp_migration_json TEXT,
  entry_valid INTEGER NOT NULL DEFAULT 0 CHECK (entry_valid IN (-1, 0, 1)),
  updated_at INTEGER NOT NULL,
  status TEXT CHECK (status IS NULL OR status IN ('running', 'done', 'failed', 'killed', 'timeout')),
  created_at INTEGER,
  created_via TEXT CHECK (created_via IS NULL OR created_via IN ('operator', 'spawn', 'channel', 'cron', 'talk', 'run', 'plugin', 'internal')),
  created_actor_type TEXT CHECK (created_actor_type IS NULL OR created_actor_type IN ('human', 'agent', 'system')),
  created_actor_id TEXT,
  owner_actor_type TEXT,
  owner_actor_id TEXT,
  owner_assigned_by_type TEXT,
  owner_assigned_by_id TEXT,
  owner_assigned_at INTEGER,
  project_id TEXT,
  parent_session_key TEXT,
  spawned_by TEXT,
  fork_source_session_key TEXT,
  fork_source_session_id TEXT,
  fork_source_entry_id TEXT,
  label TEXT,
  display_name TEXT,
  category TEXT,
  icon TEXT,
  pinned_at INTEGER,
  archived_at INTEGER,
  last_read_at INTEGER,
  last_interaction_at INTEGER,
  last_activity_at INTEGER
) STRICT;
CREATE TABLE session_windows (
  session_id TEXT NOT NULL PRIMARY KEY,
  session_key TEXT NOT NULL,
  previous_session_id TEXT,
  reason TEXT CHECK (reason IS NULL OR reason IN ('initial', 'reset', 'rollover', 'fork', 'rewind', 'switch', 'recovery', 'compaction')),
  session_scope TEXT NOT NULL DEFAULT 'conversation' CHECK (session_scope IN ('conversation', 'shared-main', 'group', 'channel')),
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  transcript_updated_at INTEGER DEFAULT NULL,
  transcript_observed_at INTEGER DEFAULT NULL,
  session_entry_provenance INTEGER NOT NULL DEFAULT 0 CHECK (session_entry_provenance IN (0, 1)),
  acp_owned INTEGER NOT NULL DEFAULT 0 CHECK (acp_owned IN (0, 1)),
  plugin_owner_id TEXT,
  hook_external_content_source TEXT CHECK (hook_external_content_source IS NULL OR hook_external_content_source IN ('gmail', 'webhook')),
  started_at INTEGER,
  ended_at INTEGER,
  status TEXT CHECK (status IS NULL OR status IN ('running', 'done', 'failed', 'killed', 'timeout')),
  chat_type TEXT CHECK (chat_type IS NULL OR chat_type IN ('direct', 'group', 'channel')),
  channel TEXT,
  account_id TEXT,
  primary_conversation_id TEXT,
  model_provider TEXT,
  model TEXT,
  agent_harness_id TEXT,
  parent_session_key TEXT,
  spawned_by TEXT,
  display_name TEXT,
  FOREIGN KEY (session_key) REFERENCES session_nodes(session_key) ON DELETE CASCADE,
  FOREIGN KEY (primary_conversation_id) REFERENCES conversations(conversation_id) ON DELETE SET NULL
) STRICT;
CREATE TABLE transcript_events (
  session_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  event_json TEXT,
  created_at INTEGER NOT NULL,
  event_zstd BLOB,
  event_utf8_bytes INTEGER CHECK (event_utf8_bytes IS NULL OR event_utf8_bytes >= 0),
  navigation_json TEXT,
  PRIMARY KEY (session_id, seq),
  FOREIGN KEY (session_id) REFERENCES "session_windows"(session_id) ON DELETE CASCADE,
  CHECK (
    (event_json IS NOT NULL AND event_zstd IS NULL)
    OR (
      event_json IS NULL AND event_zstd IS NOT NULL
      AND event_utf8_bytes IS NOT NULL
      AND event_utf8_bytes BETWEEN 1 AND 4194304
      AND length(event_zstd) BETWEEN 1 AND 4194304
      AND navigation_json IS NOT NULL
    )
  ),
  CHECK (
    navigation_json IS NULL OR CASE WHEN json_valid(navigation_json) THEN coalesce(
      json_type(navigation_json, '$.version') = 'integer'
      AND json_extract(navigation_json, '$.version') = 1
      AND json_type(navigation_json, '$.report') = 'object'
      AND json_extract(navigation_json, '$.report.kind') IN ('canonical', 'leaf', 'link', 'ignored')
      AND json_type(navigation_json, '$.navigation') = 'object'
      AND json_type(navigation_json, '$.reset') = 'object'
      AND json_type(navigation_json, '$.model') = 'object'
      AND json_type(navigation_json, '$.modelBytes') = 'integer'
      AND json_extract(navigation_json, '$.modelBytes') BETWEEN 0 AND 4194304
      AND json_type(navigation_json, '$.modelWithoutCheckpointBytes') = 'integer'
      AND json_extract(navigation_json, '$.modelWithoutCheckpointBytes') BETWEEN 0 AND 4194304
      AND json_type(navigation_json, '$.withoutCustomDataBytes') = 'integer'
      AND json_extract(navigation_json, '$.withoutCustomDataBytes') BETWEEN 0 AND 4194304,
      0) ELSE 0 END
  )
) STRICT;
CREATE TABLE transcript_rewrite_watermarks (
  session_id TEXT NOT NULL PRIMARY KEY,
  generation TEXT NOT NULL,
  updated_at INTEGER NOT NULL,
  FOREIGN KEY (session_id) REFERENCES "session_windows"(session_id) ON DELETE CASCADE
) STRICT;
CREATE TABLE auth_profile_store (
  store_key TEXT NOT NULL PRIMARY KEY,
  store_json TEXT NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;
CREATE TABLE session_transcript_cold_archives (
  session_id TEXT NOT NULL PRIMARY KEY,
  generation TEXT NOT NULL,
  archive_name TEXT NOT NULL UNIQUE,
  archive_sha256 TEXT NOT NULL CHECK (length(archive_sha256) = 64),
  event_count INTEGER NOT NULL CHECK (event_count >= 1),
  raw_bytes INTEGER NOT NULL CHECK (raw_bytes >= 0),
  archive_bytes INTEGER NOT NULL CHECK (archive_bytes >= 0),
  last_seq INTEGER NOT NULL,
  archived_at INTEGER NOT NULL,
  storage TEXT NOT NULL CHECK (storage IN ('file', 'sqlite')),
  archive_blob BLOB,
  FOREIGN KEY (session_id) REFERENCES "session_windows"(session_id) ON DELETE CASCADE,
  CHECK (length(archive_name) > 0 AND archive_name NOT IN ('.', '..') AND archive_name NOT LIKE '%/%' AND archive_name NOT LIKE '%\%'),
  CHECK ((storage = 'file' AND archive_blob IS NULL) OR (storage = 'sqlite' AND archive_blob IS NOT NULL))
) STRICT;
INSERT INTO auth_profile_store VALUES ('primary', '{"profiles":{"anthropic:default":{"type":"token","token":"FAKE-SECRET-must-never-leave"}}}', 1775037600000);
INSERT INTO session_nodes (session_key, current_session_id, entry_json, updated_at, label, parent_session_key, spawned_by, fork_source_session_key, fork_source_session_id) VALUES ('agent:main:main', '00000081-0000-4000-8000-000000000081', '{"sessionId": "00000081-0000-4000-8000-000000000081", "updatedAt": 1775037630000}', 1775037630000, 'Weaving', NULL, NULL, NULL, NULL);
INSERT INTO session_windows (session_id, session_key, created_at, updated_at, model_provider, model) VALUES ('00000081-0000-4000-8000-000000000081', 'agent:main:main', 1775037600000, 1775037630000, 'anthropic', 'claude-opus-5');
INSERT INTO transcript_rewrite_watermarks VALUES ('00000081-0000-4000-8000-000000000081', '068dde94f7c04948a613fccbd8729101', 1775037600000);
INSERT INTO transcript_events VALUES ('00000081-0000-4000-8000-000000000081', 0, '{"type":"session","version":4,"id":"00000081-0000-4000-8000-000000000081","timestamp":"2026-04-01T10:00:00.000Z","cwd":"/home/ada/.openclaw/workspace"}', 1775037600000, NULL, 151, NULL);
INSERT INTO transcript_events VALUES ('00000081-0000-4000-8000-000000000081', 1, '{"type":"model_change","provider":"anthropic","modelId":"claude-opus-5","id":"00000000-0000-4000-9000-000000000001","parentId":null,"timestamp":"2026-04-01T10:00:01.000Z"}', 1775037601000, NULL, 171, NULL);
INSERT INTO transcript_events VALUES ('00000081-0000-4000-8000-000000000081', 2, '{"type":"thinking_level_change","thinkingLevel":"off","id":"00000000-0000-4000-9000-000000000002","parentId":"00000000-0000-4000-9000-000000000001","timestamp":"2026-04-01T10:00:01.000Z"}', 1775037602000, NULL, 187, NULL);
INSERT INTO transcript_events VALUES ('00000081-0000-4000-8000-000000000081', 3, '{"type":"custom","customType":"model-snapshot","data":{"timestamp":1775037601000,"provider":"anthropic","modelApi":"anthropic-messages","modelId":"claude-opus-5"},"id":"00000000-0000-4000-9000-000000000003","parentId":"00000000-0000-4000-9000-000000000002","timestamp":"2026-04-01T10:00:01.000Z"}', 1775037603000, NULL, 296, NULL);
INSERT INTO transcript_events VALUES ('00000081-0000-4000-8000-000000000081', 4, NULL, 1775037604000, zstd('{"type":"message","message":{"role":"user","content":"Weave a pattern.","timestamp":1775037602000,"__openclaw":{"senderIsOwner":true},"idempotencyKey":"run-2:user"},"id":"00000000-0000-4000-9000-000000000004","parentId":"00000000-0000-4000-9000-000000000003","timestamp":"2026-04-01T10:00:02.000Z"}'), 298, '{"version":1,"report":{"kind":"canonical"},"navigation":{},"reset":{},"model":{},"modelBytes":0,"modelWithoutCheckpointBytes":0,"withoutCustomDataBytes":0}');
INSERT INTO transcript_events VALUES ('00000081-0000-4000-8000-000000000081', 5, '{"type":"message","message":{"role":"assistant","content":[{"type":"text","text":"Let me look."},{"type":"toolCall","id":"call_1","name":"exec","arguments":{"command":"ls"}}],"api":"anthropic-messages","provider":"anthropic","model":"claude-opus-5","usage":{"input":100,"output":20,"cacheRead":0,"cacheWrite":0,"totalTokens":120,"cost":{"input":0,"output":0,"cacheRead":0,"cacheWrite":0,"total":0}},"stopReason":"toolUse","timestamp":1775037604000,"responseId":"r4","__openclaw":{"runId":"run-4"}},"id":"00000000-0000-4000-9000-000000000005","parentId":"00000000-0000-4000-9000-000000000004","timestamp":"2026-04-01T10:00:04.000Z"}', 1775037605000, NULL, 631, NULL);
INSERT INTO transcript_events VALUES ('00000081-0000-4000-8000-000000000081', 6, '{"type":"message","message":{"role":"toolResult","toolCallId":"call_1","toolName":"exec","content":[{"type":"text","text":"loom.py"}],"details":{"status":"completed","exitCode":0},"isError":false,"timestamp":1775037605000},"id":"00000000-0000-4000-9000-000000000006","parentId":"00000000-0000-4000-9000-000000000005","timestamp":"2026-04-01T10:00:05.000Z"}', 1775037606000, NULL, 356, NULL);
INSERT INTO transcript_events VALUES ('00000081-0000-4000-8000-000000000081', 7, '{"type":"message","message":{"role":"assistant","content":[{"type":"text","text":"It is woven."}],"api":"anthropic-messages","provider":"anthropic","model":"claude-opus-5","usage":{"input":100,"output":20,"cacheRead":0,"cacheWrite":0,"totalTokens":120,"cost":{"input":0,"output":0,"cacheRead":0,"cacheWrite":0,"total":0}},"stopReason":"stop","timestamp":1775037606000,"responseId":"r6","__openclaw":{"runId":"run-6"}},"id":"00000000-0000-4000-9000-000000000007","parentId":"00000000-0000-4000-9000-000000000006","timestamp":"2026-04-01T10:00:06.000Z"}', 1775037607000, NULL, 551, NULL);
INSERT INTO transcript_events VALUES ('00000081-0000-4000-8000-000000000081', 8, '{"type":"compaction","summary":"A pattern was woven.","firstKeptEntryId":"x","tokensBefore":90000,"id":"00000000-0000-4000-9000-000000000008","parentId":"00000000-0000-4000-9000-000000000007","timestamp":"2026-04-01T10:00:08.000Z"}', 1775037608000, NULL, 231, NULL);
INSERT INTO transcript_events VALUES ('00000081-0000-4000-8000-000000000081', 9, '{"type":"message","message":{"role":"user","content":"Faster?","timestamp":1775037609000,"__openclaw":{"senderIsOwner":true},"idempotencyKey":"run-9:user"},"id":"00000000-0000-4000-9000-000000000009","parentId":"00000000-0000-4000-9000-000000000008","timestamp":"2026-04-01T10:00:09.000Z"}', 1775037609000, NULL, 289, NULL);
INSERT INTO transcript_events VALUES ('00000081-0000-4000-8000-000000000081', 10, '{"type":"message","message":{"role":"assistant","content":[{"type":"text","text":"Faster."}],"api":"anthropic-messages","provider":"anthropic","model":"claude-opus-5","usage":{"input":100,"output":20,"cacheRead":0,"cacheWrite":0,"totalTokens":120,"cost":{"input":0,"output":0,"cacheRead":0,"cacheWrite":0,"total":0}},"stopReason":"stop","timestamp":1775037611000,"responseId":"r11","__openclaw":{"runId":"run-11"}},"id":"00000000-0000-4000-9000-000000000010","parentId":"00000000-0000-4000-9000-000000000009","timestamp":"2026-04-01T10:00:11.000Z"}', 1775037610000, NULL, 548, NULL);
INSERT INTO session_nodes (session_key, current_session_id, entry_json, updated_at, label, parent_session_key, spawned_by, fork_source_session_key, fork_source_session_id) VALUES ('agent:main:forked', '00000082-0000-4000-8000-000000000082', '{"sessionId": "00000082-0000-4000-8000-000000000082", "updatedAt": 1775037630000}', 1775037630000, 'A fork', 'agent:main:main', NULL, 'agent:main:main', '00000081-0000-4000-8000-000000000081');
INSERT INTO session_windows (session_id, session_key, created_at, updated_at, model_provider, model) VALUES ('00000082-0000-4000-8000-000000000082', 'agent:main:forked', 1775037600000, 1775037630000, 'anthropic', 'claude-opus-5');
INSERT INTO transcript_rewrite_watermarks VALUES ('00000082-0000-4000-8000-000000000082', '068dde94f7c04948a613fccbd8729101', 1775037600000);
INSERT INTO transcript_events VALUES ('00000082-0000-4000-8000-000000000082', 0, '{"type":"session","version":4,"id":"00000082-0000-4000-8000-000000000082","timestamp":"2026-04-01T10:00:20.000Z","cwd":"/home/ada/.openclaw/workspace","parentSession":"00000081-0000-4000-8000-000000000081"}', 1775037600000, NULL, 206, NULL);
INSERT INTO transcript_events VALUES ('00000082-0000-4000-8000-000000000082', 1, '{"type":"model_change","provider":"anthropic","modelId":"claude-opus-5","id":"00000000-0000-4000-9000-000000000001","parentId":null,"timestamp":"2026-04-01T10:00:01.000Z"}', 1775037601000, NULL, 171, NULL);
INSERT INTO transcript_events VALUES ('00000082-0000-4000-8000-000000000082', 2, '{"type":"thinking_level_change","thinkingLevel":"off","id":"00000000-0000-4000-9000-000000000002","parentId":"00000000-0000-4000-9000-000000000001","timestamp":"2026-04-01T10:00:01.000Z"}', 1775037602000, NULL, 187, NULL);
INSERT INTO transcript_events VALUES ('00000082-0000-4000-8000-000000000082', 3, '{"type":"custom","customType":"model-snapshot","data":{"timestamp":1775037601000,"provider":"anthropic","modelApi":"anthropic-messages","modelId":"claude-opus-5"},"id":"00000000-0000-4000-9000-000000000003","parentId":"00000000-0000-4000-9000-000000000002","timestamp":"2026-04-01T10:00:01.000Z"}', 1775037603000, NULL, 296, NULL);
INSERT INTO transcript_events VALUES ('00000082-0000-4000-8000-000000000082', 4, '{"type":"message","message":{"role":"user","content":"Weave a pattern.","timestamp":1775037602000,"__openclaw":{"senderIsOwner":true},"idempotencyKey":"run-2:user"},"id":"00000000-0000-4000-9000-000000000004","parentId":"00000000-0000-4000-9000-000000000003","timestamp":"2026-04-01T10:00:02.000Z"}', 1775037604000, NULL, 298, NULL);
INSERT INTO transcript_events VALUES ('00000082-0000-4000-8000-000000000082', 5, '{"type":"message","message":{"role":"assistant","content":[{"type":"text","text":"Let me look."},{"type":"toolCall","id":"call_1","name":"exec","arguments":{"command":"ls"}}],"api":"anthropic-messages","provider":"anthropic","model":"claude-opus-5","usage":{"input":100,"output":20,"cacheRead":0,"cacheWrite":0,"totalTokens":120,"cost":{"input":0,"output":0,"cacheRead":0,"cacheWrite":0,"total":0}},"stopReason":"toolUse","timestamp":1775037604000,"responseId":"r4","__openclaw":{"runId":"run-4"}},"id":"00000000-0000-4000-9000-000000000005","parentId":"00000000-0000-4000-9000-000000000004","timestamp":"2026-04-01T10:00:04.000Z"}', 1775037605000, NULL, 631, NULL);
INSERT INTO transcript_events VALUES ('00000082-0000-4000-8000-000000000082', 6, '{"type":"message","message":{"role":"toolResult","toolCallId":"call_1","toolName":"exec","content":[{"type":"text","text":"loom.py"}],"details":{"status":"completed","exitCode":0},"isError":false,"timestamp":1775037605000},"id":"00000000-0000-4000-9000-000000000006","parentId":"00000000-0000-4000-9000-000000000005","timestamp":"2026-04-01T10:00:05.000Z"}', 1775037606000, NULL, 356, NULL);
INSERT INTO transcript_events VALUES ('00000082-0000-4000-8000-000000000082', 7, '{"type":"message","message":{"role":"assistant","content":[{"type":"text","text":"It is woven."}],"api":"anthropic-messages","provider":"anthropic","model":"claude-opus-5","usage":{"input":100,"output":20,"cacheRead":0,"cacheWrite":0,"totalTokens":120,"cost":{"input":0,"output":0,"cacheRead":0,"cacheWrite":0,"total":0}},"stopReason":"stop","timestamp":1775037606000,"responseId":"r6","__openclaw":{"runId":"run-6"}},"id":"00000000-0000-4000-9000-000000000007","parentId":"00000000-0000-4000-9000-000000000006","timestamp":"2026-04-01T10:00:06.000Z"}', 1775037607000, NULL, 551, NULL);
INSERT INTO transcript_events VALUES ('00000082-0000-4000-8000-000000000082', 8, '{"type":"message","message":{"role":"user","content":"In red?","timestamp":1775037621000,"__openclaw":{"senderIsOwner":true},"idempotencyKey":"run-21:user"},"id":"00000000-0000-4000-9000-000000000021","parentId":"00000000-0000-4000-9000-000000000007","timestamp":"2026-04-01T10:00:21.000Z"}', 1775037608000, NULL, 290, NULL);
INSERT INTO transcript_events VALUES ('00000082-0000-4000-8000-000000000082', 9, '{"type":"message","message":{"role":"assistant","content":[{"type":"text","text":"In red."}],"api":"anthropic-messages","provider":"anthropic","model":"claude-haiku-4-5","usage":{"input":100,"output":20,"cacheRead":0,"cacheWrite":0,"totalTokens":120,"cost":{"input":0,"output":0,"cacheRead":0,"cacheWrite":0,"total":0}},"stopReason":"stop","timestamp":1775037623000,"responseId":"r23","__openclaw":{"runId":"run-23"}},"id":"00000000-0000-4000-9000-000000000022","parentId":"00000000-0000-4000-9000-000000000021","timestamp":"2026-04-01T10:00:23.000Z"}', 1775037609000, NULL, 551, NULL);
INSERT INTO session_nodes (session_key, current_session_id, entry_json, updated_at, label, parent_session_key, spawned_by, fork_source_session_key, fork_source_session_id) VALUES ('agent:main:subagent:1', '00000083-0000-4000-8000-000000000083', '{"sessionId": "00000083-0000-4000-8000-000000000083", "updatedAt": 1775037630000}', 1775037630000, 'hi', NULL, 'agent:main:main', NULL, NULL);
INSERT INTO session_windows (session_id, session_key, created_at, updated_at, model_provider, model) VALUES ('00000083-0000-4000-8000-000000000083', 'agent:main:subagent:1', 1775037600000, 1775037630000, 'anthropic', 'claude-opus-5');
INSERT INTO transcript_rewrite_watermarks VALUES ('00000083-0000-4000-8000-000000000083', '068dde94f7c04948a613fccbd8729101', 1775037600000);
INSERT INTO transcript_events VALUES ('00000083-0000-4000-8000-000000000083', 0, '{"type":"session","version":4,"id":"00000083-0000-4000-8000-000000000083","timestamp":"2026-04-01T10:00:30.000Z","cwd":"/home/ada/.openclaw/workspace"}', 1775037600000, NULL, 151, NULL);
INSERT INTO transcript_events VALUES ('00000083-0000-4000-8000-000000000083', 1, '{"type":"message","message":{"role":"user","content":"Say hi.","timestamp":1775037630000,"__openclaw":{"senderIsOwner":true},"idempotencyKey":"run-30:user"},"id":"00000000-0000-4000-9000-000000000031","parentId":null,"timestamp":"2026-04-01T10:00:30.000Z"}', 1775037601000, NULL, 256, NULL);
INSERT INTO transcript_events VALUES ('00000083-0000-4000-8000-000000000083', 2, '{"type":"message","message":{"role":"assistant","content":[{"type":"text","text":"Hi."}],"api":"anthropic-messages","provider":"anthropic","model":"claude-opus-5","usage":{"input":100,"output":20,"cacheRead":0,"cacheWrite":0,"totalTokens":120,"cost":{"input":0,"output":0,"cacheRead":0,"cacheWrite":0,"total":0}},"stopReason":"stop","timestamp":1775037631000,"responseId":"r31","__openclaw":{"runId":"run-31"}},"id":"00000000-0000-4000-9000-000000000032","parentId":"00000000-0000-4000-9000-000000000031","timestamp":"2026-04-01T10:00:31.000Z"}', 1775037602000, NULL, 544, NULL);
INSERT INTO session_nodes (session_key, current_session_id, entry_json, updated_at, label, parent_session_key, spawned_by, fork_source_session_key, fork_source_session_id) VALUES ('agent:main:empty', '00000084-0000-4000-8000-000000000084', '{"sessionId": "00000084-0000-4000-8000-000000000084", "updatedAt": 1775037630000}', 1775037630000, NULL, NULL, NULL, NULL, NULL);
INSERT INTO session_windows (session_id, session_key, created_at, updated_at, model_provider, model) VALUES ('00000084-0000-4000-8000-000000000084', 'agent:main:empty', 1775037600000, 1775037630000, 'anthropic', 'claude-opus-5');
