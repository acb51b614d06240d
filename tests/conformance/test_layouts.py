"""Every tool has a sample, and so has every layout that its sessions are known to have had (docs/formats)."""

from __future__ import annotations

from sessiond.sources import find_sources
from support.sample_tree import NAMES, SAMPLES

SOURCES = find_sources()

# The mark of a layout in a sample: part of a file's path or of its content. If a layout is not read, `gaps` says so.
LAYOUTS = {
    "aider: Markdown in a project": ("aider/0.86", ".aider.chat.history.md"),
    "amazon-q: a conversation a directory": ("amazon-q/1", "CREATE TABLE conversations "),
    "amp: a thread a file": ("amp/2025-10", "threads/T-"),
    "antigravity: transcripts": ("antigravity/agy-1.1", "transcript_full.jsonl"),
    "claude-code: subagents flat beside sessions": ("claude-code/1.0-flat-agent", "/agent-ab12cd.jsonl"),
    "claude-code: subagents inside of the transcript": ("claude-code/2.0-sidechain", '"isSidechain":true'),
    "claude-code: subagents below their session": ("claude-code/2.1-subagents", "/subagents/agent-"),
    "claude-code: a resume is a copy": ("claude-code/1.0-resume", "000000000103.jsonl"),
    "claude-code: a copy keeps the ids of its lines": ("claude-code/1.0-resume-old-ids", "000000000112.jsonl"),
    "claude-code: titles are summaries": ("claude-code/1.0-resume", '"type":"summary"'),
    "claude-code: titles are lines of their own": ("claude-code/2.1-session", '"type":"ai-title"'),
    "claude-code: a branch names its origin": ("claude-code/2.1-branch-clear", '"forkedFrom"'),
    "claude-code: backgrounding": ("claude-code/2.1-background", '"sessionKind":"bg"'),
    "claude-code: Cowork": ("claude-code/2.1-cowork", "local-agent-mode-sessions"),
    "cline: tasks of the extension": ("cline/extension-3.8", "saoudrizwan.claude-dev/tasks/"),
    "cline: sessions of the SDK": ("cline/cli-3.0", ".cline/data/sessions/"),
    "cline: tasks that the SDK took over": ("cline/4.0-migrated", '"migratedFromLegacyTask": true'),
    "codebuddy: Claude Code's layout, items of an API": ("codebuddy/2.163-fork", "/subagents/agent-"),
    "codewhale: a journal": ("codewhale/0.9-journal", ".codewhale/sessions/"),
    "codewhale: messages of DeepSeek TUI": ("codewhale/0.8-messages", ".deepseek/sessions/"),
    "codex: one document a save": ("codex/0.1-typescript", '"items"'),
    "codex: lines without an envelope": ("codex/0.20-bare", '"record_type":"state"'),
    "codex: enveloped lines": ("codex/0.80-legacy", '"payload"'),
    "codex: a fork copies its parent": ("codex/0.100-fork-copy", '"forked_from_id"'),
    "codex: threads of subagents": ("codex/0.100-subagent", '"parent_thread_id"'),
    "codex: consolidated items beside events": ("codex/0.149-both-families", '"item_completed"'),
    "codex: paginated history": ("codex/0.169-paginated", '"history_mode":"paginated"'),
    "codex: archived": ("codex/archived", "archived_sessions/rollout-"),
    "codex: packed": ("codex/archived", ".jsonl.zst"),
    "command-code: a tree of entries": ("command-code/1.64", '"parentSession"'),
    "command-code: a message a line": ("command-code/0.52", '"gitBranch":"main"'),
    "continue: a session a file": ("continue/extension", ".continue/sessions/"),
    "copilot-chat: documents": ("copilot-chat/3", "2ea46928-80f9-53d4-97ac-898251b561ba.json"),
    "copilot-chat: mutation logs": ("copilot-chat/3", ".jsonl"),
    "copilot-chat: chats without a folder": ("copilot-chat/3", "emptyWindowChatSessions/"),
    "copilot-cli: history-session-state": ("copilot-cli/0.0.341-history", "history-session-state/"),
    "copilot-cli: flat files": ("copilot-cli/0.0.342-flat", "session-state/00000c01-"),
    "copilot-cli: a directory a session": ("copilot-cli/1.0-tool", "/events.jsonl"),
    "crush: a database a project": ("crush/0.90", ".crush/crush.db"),
    "cursor: 1, the chat panel": ("cursor/ide-3", "workbench.panel.aichat.view.aichat.chatdata"),
    "cursor: 2, conversations inside of composers": ("cursor/ide-3", '"conversation"'),
    "cursor: 3, headers and bubbles": ("cursor/ide-3", "fullConversationHeadersOnly"),
    "cursor: 4, a list of heads": ("cursor/ide-4-list", "composer.composerHeaders"),
    "cursor: 4, a table of heads": ("cursor/ide-4", "CREATE TABLE composerHeaders"),
    "cursor: blobs of the command line": ("cursor/cli-2026", "/store.db"),
    "cursor: transcripts as text": ("cursor/cli-2026", "51594ebc.txt"),
    "cursor: flat transcripts": ("cursor/cli-flat", "agent-transcripts/00000b05-"),
    "cursor: nested transcripts": ("cursor/cli-joined", "000000000b03/00000b03-"),
    "droid: flat": ("droid/flat-subagent", ".factory/sessions/5f000001-"),
    "droid: below the directory that is worked in": ("droid/0.215-fork", ".factory/sessions/-home-ada-loom/"),
    "elia: a database": ("elia/1.10", "CREATE TABLE system_prompt"),
    "gemini-cli: documents below a digest": ("gemini-cli/0.25-document", "9f9f/chats/session-"),
    "gemini-cli: lines below a name": ("gemini-cli/0.61-resume", "engine/chats/session-"),
    "gemini-cli: messages replaced as a whole": ("gemini-cli/0.61-upgraded", '"$set"'),
    "gemini-cli: rewinds": ("gemini-cli/0.61-rewind", '"$rewindTo"'),
    "gemini-cli: nested subagents": ("gemini-cli/0.61-subagent", "000000000020/00000021-"),
    "goose: lines": ("goose/1.0-lines", ".jsonl"),
    "goose: the first schema": ("goose/1.10-imported", "sessions.db"),
    "goose: schema 15": ("goose/schema-15", "CREATE TABLE usage_ledger"),
    "gptme: a full output beside the conversation": ("gptme/0.35", "tool-outputs/shell/"),
    "gptme: branches and views": ("gptme/0.33", "branches/main-undo-0.jsonl"),
    "grok-build: a log of updates, a summary beside it": ("grok-build/1.0-fork", "/summary.json"),
    "grok-build: rewinds": ("grok-build/1.0-fork", "rewind_marker"),
    "grok-build: subagents": ("grok-build/1.0-fork", "/subagents/"),
    "hermes: a database": ("hermes/2026", "state.db"),
    "hermes: branches and subagents": ("hermes/0.19-branch", "state.db"),
    "icodemate: OpenCode's tables": ("icodemate/database", "icodemate/"),
    "iflow: Claude Code's lines": ("iflow/0.5-session", ".iflow/projects/"),
    "kilo-code: tasks": ("kilo-code/5.0-tasks", "kilocode.kilo-code/tasks/"),
    "kilo-code: OpenCode's tables": ("kilo-code/7.7-database", "kilo/kilo.db"),
    "kimi: wire logs of the CLI": ("kimi/cli-1.49", ".kimi/sessions/"),
    "kimi: a fork of the CLI copies its lines": ("kimi/cli-1.49-fork", '"Fork: spin"'),
    "kimi: a fork of Kimi Code says where its own begin": ("kimi/code-1.5-fork", '"type":"forked"'),
    "kimi: agents of Kimi Code": ("kimi/code-1.5", "/agents/main/wire.jsonl"),
    "kimi: imported with turns": ("kimi/code-import-2", '"token_counting.measured"'),
    "kimi: imported": ("kimi/code-1.5", "/ses_5f000003-"),
    "kiro: the second table": ("kiro/cli-v2", "conversations_v2"),
    "llm: responses": ("llm/0.31", "INSERT INTO responses"),
    "llm: threads": ("llm/0.36", "INSERT INTO turns"),
    "mimocode: OpenCode's tables": ("mimocode/database", "mimocode/"),
    "mistral-vibe: one document": ("mistral-vibe/1.3-document", "session_20260401_100000_5f000007.json"),
    "mistral-vibe: meta and lines": ("mistral-vibe/2.26-lines", "/messages.jsonl"),
    "mistral-vibe: the unified store": ("mistral-vibe/3.0-unified", "unified/"),
    "openclaude: Claude Code's lines": ("openclaude/session", ".openclaude/projects/"),
    "nanocoder: a session a file": ("nanocoder/1.30", "nanocoder/sessions/00000951-"),
    "oh-my-pi: Pi's lines behind a title": ("oh-my-pi/18.2-fork", ".omp/agent/sessions/"),
    "openclaw: a database an agent": ("openclaw/2026.9-database", "openclaw-agent.sqlite"),
    "openclaw: Pi's lines": ("openclaw/2026-04", ".openclaw/agents/main/sessions/"),
    "opencode: generation 0": ("opencode/0.5-files", "project/home-ada-engine/storage/session/info/"),
    "opencode: generations 1 and 2": ("opencode/1.1-files", "storage/session/global/"),
    "opencode: rows": ("opencode/1.2-database", "opencode-dev.db"),
    "opencode: rows with the files that were imported": ("opencode/1.2-imported", "storage/session/e65f53/"),
    "opencode: events": ("opencode/1.18-database", "CREATE TABLE `event_sequence`"),
    "opencode: session_message": ("opencode/1.18-session-message", "INSERT INTO session_message"),
    "open-interpreter: Codex's rollouts": ("open-interpreter/1.0", ".openinterpreter/sessions/"),
    "openhands: V0": ("openhands/v0", ".openhands/sessions/"),
    "openhands: V1": ("openhands/cli-1.16", "base_state.json"),
    "oterm: a database": ("oterm/0.26", "INSERT OR REPLACE INTO message"),
    "pearai: chats": ("pearai/2025-chats", ".pearai/sessions/"),
    "pearai: chats with its search": ("pearai/2025-chats", '"integrationType": "perplexity"'),
    "pearai: tasks": ("pearai/roo-3.15-tasks", "pearai.pearai-roo-cline/tasks/"),
    "pi: 1, a line": ("pi/v1-linear", '"type":"session","id"'),
    "pi: 2, a tree": ("pi/v2-tree", '"version":2'),
    "pi: 3": ("pi/0.73-branches", '"version":3'),
    "qwen-code: Gemini's documents": ("qwen-code/0.0-gemini-style", ".qwen/tmp/"),
    "qwen-code: projects": ("qwen-code/0.24-session", ".qwen/projects/"),
    "qwen-code: archived": ("qwen-code/0.24-session", "/chats/archive/"),
    "qoder: Claude Code's layout": ("qoder/cli-1.1", "/subagents/agent-"),
    "qoder: transcripts beside the projects": ("qoder/editor-1.0", "SharedClientCache/cli/projects/00000903-"),
    "reasonix: a log of events": ("reasonix/1.38", "/events.frames"),
    "reasonix: lines of messages": ("reasonix/2026-05-lines", ".reasonix/sessions/code-loom-"),
    "roo-code: history_item.json": ("roo-code/3.52", "/history_item.json"),
    "shelley: the first schemas": ("shelley/schema-5", "'tool', 'system', 'error'"),
    "shelley: a database": ("shelley/2026-08", "forked_from_message_id"),
    "traex: Codex's rollouts": ("traex/2026", ".trae/cli/sessions/"),
    "warp: queries": ("warp/2026", "ai_queries"),
    "zed: 0.1, tools answer in the user's name": ("zed/0.1", '"version":"0.1.0"'),
    "zed: before 0.3": ("zed/0.2", '"version":"0.2.0"'),
    "zed: 0.3, with columns of folders": ("zed/0.3", "folder_paths"),
}


def test_every_tool_has_a_sample() -> None:
    """Every source has a sample. If it has several, the list of layouts names them."""
    for tool in sorted({source.tool for source in SOURCES}):
        samples = [name for name in NAMES if name.startswith(f"{tool}/")]
        assert samples, tool
        assert len(samples) == 1 or any(layout.startswith(f"{tool}: ") for layout in LAYOUTS), tool


def test_every_layout_has_a_sample() -> None:
    """The mark of the layout is in the name or in the content of a file of the sample."""
    without = []
    for layout, (name, mark) in LAYOUTS.items():
        assert name in NAMES and layout.startswith(name.split("/", maxsplit=1)[0]), layout
        files = [path for path in (SAMPLES / name).rglob("*") if path.is_file() and path.name != "expected.json"]
        marked = (mark in path.relative_to(SAMPLES).as_posix() or mark.encode() in path.read_bytes() for path in files)
        if not any(marked):
            without.append(layout)
    assert without == []
