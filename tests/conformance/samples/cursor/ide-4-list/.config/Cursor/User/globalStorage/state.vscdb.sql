CREATE TABLE ItemTable (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
CREATE TABLE cursorDiskKV (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
INSERT INTO cursorDiskKV VALUES ('bubbleId:00000b02-0000-4000-8000-000000000b02:40', '{"_v":3,"bubbleId":"40","type":1,"text":"Warp it","createdAt":"2026-05-28T20:40:00.000Z"}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:00000b02-0000-4000-8000-000000000b02:41', '{"_v":3,"bubbleId":"41","type":2,"text":"Warped.","createdAt":"2026-05-28T20:41:00.000Z"}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:00000b02-0000-4000-8000-000000000b02:42', '{"_v":3,"bubbleId":"42","type":2,"text":"Odd","createdAt":"2026-05-28T20:42:00.000Z"}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:00000b02-0000-4000-8000-000000000b02:42', NULL);
INSERT INTO cursorDiskKV VALUES ('composerData:00000b02-0000-4000-8000-000000000b02', '{"_v":16,"composerId":"00000b02-0000-4000-8000-000000000b02","createdAt":1780000000000,"lastUpdatedAt":1780000000005,"modelConfig":{"modelName":"claude-4.5-sonnet"},"fullConversationHeadersOnly":[{"bubbleId":"40"},{"bubbleId":"41"},{"bubbleId":"42"}]}');
INSERT INTO ItemTable VALUES ('composer.composerHeaders', '{"allComposers":[{"composerId":"00000b02-0000-4000-8000-000000000b02","workspaceIdentifier":{"id":"w","uri":{"fsPath":"/home/ada/warp"}}}]}');
