CREATE TABLE session_docs (session_id TEXT PRIMARY KEY, cwd TEXT, content TEXT);
INSERT INTO session_docs VALUES ('01a03f34-0000-7000-8000-000000000001', '/home/ada/loom', 'Weave a scarf');
