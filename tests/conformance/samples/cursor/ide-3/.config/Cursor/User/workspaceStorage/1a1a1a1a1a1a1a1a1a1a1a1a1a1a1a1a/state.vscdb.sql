CREATE TABLE ItemTable (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
INSERT INTO "ItemTable" VALUES('composer.composerData','{"allComposers":[{"type":"head","composerId":"8f01b484-8ed7-5e58-acee-ae00f97dfa4a","name":"Old inline chat","createdAt":1779913600000,"lastUpdatedAt":1779913610000,"unifiedMode":"chat","isArchived":false}],"selectedComposerIds":["d7591c2a-cc54-5216-b828-0f3086cf13d3"],"lastFocusedComposerIds":["d7591c2a-cc54-5216-b828-0f3086cf13d3"]}');
INSERT INTO "ItemTable" VALUES('workbench.panel.composerChatViewPane.c3ceaf2a-46d2-53f3-aced-cb3512687ea9','{"workbench.panel.aichat.view.d7591c2a-cc54-5216-b828-0f3086cf13d3":{"collapsed":false,"isHidden":false,"size":400}}');
INSERT INTO "ItemTable" VALUES('workbench.panel.aichat.view.aichat.chatdata','{"tabs":[{"tabId":"69c49d49-3ec2-5dbb-a9f1-386b889c7db3","chatTitle":"Legacy chat","timestamp":1779827200000,"bubbles":[{"type":"user","text":"Legacy question"},{"type":"ai","text":"Legacy answer","modelType":"gpt-4"}]}]}');
INSERT INTO "ItemTable" VALUES('aiService.prompts','[{"text":"Legacy question","commandType":4}]');
INSERT INTO "ItemTable" VALUES('aiService.generations','[{"unixMs":1780000000000,"generationUUID":"8d8339db-c060-590d-9ba5-2dd5c95bfbf0","type":"composer","textDescription":"Add a test for add()"}]');
CREATE TABLE cursorDiskKV (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
