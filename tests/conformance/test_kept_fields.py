"""Projections keep what a reader, a restored session and a report of usage need, and leave out what may be a key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from conformance import engine
from sessiond.sources.base import Kind
from sessiond.sources.damaged import to_utf8
from support.each_tool import each_tool
from support.sample_tree import NAMES, built, open_store

KEPT = [
    # (sample, stream, a part of one of its records)
    ("amazon-q/1", "session", '"latest_summary":["Warped.",null]'),
    ("amazon-q/1", "transcript", '"text":"> weft, before the compaction"'),
    ("amp/2025-10", "thread", '"tokens":{"input":9,"output":4,"cacheReadInputTokens":2}'),
    ("amp/2025-10", "thread", '"credits":1'),
    ("amp/2025-10", "thread", '"sha":"0"'),
    ("cline/cli-3.0", "session", '"provider":"openai-compatible"'),
    ("cline/cli-3.0", "session", '"usage":{"inputTokens":200,"outputTokens":40'),
    ("cline/extension-3.8", "metadata", '"model_provider_id":"anthropic"'),
    ("continue/cli-1.5", "session", '"usage":{"totalCost":0.00014,"promptTokens":100'),
    ("continue/extension", "session", '"mode":"agent"'),
    ("copilot-chat/3", "main", '"responderUsername":"GitHub Copilot"'),
    ("copilot-chat/3", "session", '"localBranch":"indigo","localHeadCommit":"5c3ddf06'),
    ("copilot-cli/1.0-resume", "workspace", '"git_root":"/home/ada/loom"'),
    ("crush/0.90", "session", '"prompt_tokens":210,"completion_tokens":42'),
    ("crush/0.90", "session", '"cost":0.5'),
    ("cursor/ide-3", "session", '"usage_data":{"claude-4.5-sonnet":{"costInCents":12,"amount":1}}'),
    ("cursor/ide-3", "session", '"status":"completed"'),
    ("droid/0.215-fork", "settings", '"tokenUsage":{"inputTokens":200,"outputTokens":40'),
    ("droid/0.215-fork", "settings", '"reasoningEffort":"none"'),
    ("goose/schema-15", "session", '"accumulated_total_tokens":340'),
    ("goose/schema-17", "session", '"accumulated_cache_read_tokens":96,"accumulated_cache_write_tokens":24'),
    ("goose/schema-17", "session", '"cache_read_tokens":64,"cache_write_tokens":20'),
    ("goose/schema-17", "session", '"parent_delegate_message_id":"msg_2","result_delivered_to_parent":true'),
    ("goose/schema-15", "usage", '"output_tokens":20,"total_tokens":120,"cache_read_tokens":64,"cost":0.125'),
    ("grok-build/1.0-fork", "summary", '"head_commit":"d0c8e9499768c1de8e574e242f69e9b0e219cd51"'),
    ("grok-build/1.0-fork", "spawned", '"subagent_type":"general-purpose"'),
    ("hermes/0.19-branch", "main", '"reasoning_content":"Ask first."'),
    ("hermes/0.19-branch", "main", '"tool_call_id":"call_1"'),
    ("hermes/0.19-branch", "main", '"tool_calls":[{"id": "call_1"'),
    ("hermes/0.19-branch", "session", '"reasoning_tokens":7'),
    (
        "hermes/0.19-branch",
        "session",
        '"model":"hermes-5-mini","billing_provider":"custom","billing_mode":"","task":"title"',
    ),
    ("hermes/0.19-branch", "session", '"compression_failure_error":"The summary was empty."'),
    ("hermes/schema-30", "main", '"content":[{"type":"text","text":"Weave this."},{"type":"image_url"'),
    ("hermes/schema-30", "session", '"handoff_error":"Nobody answered."'),
    ("hermes/2026", "main", '"reasoning":"A pattern needs a loom."'),
    ("hermes/2026", "main", '"token_count":12'),
    ("hermes/2026", "session", '"input_tokens":120,"output_tokens":34'),
    ("kimi/code-1.5", "state", '"createdAt":1775037600000'),
    ("kiro/cli-v2", "session", '"model_info":{"model_id":"auto"}'),
    ("llm/0.31", "main", '"system_fragments":["You know each pattern."]'),
    (
        "llm/0.31",
        "main",
        '"attachments":[{"type":"file","mime_type":"image/png","name":"/home/ada/loom/pattern.png"},{',
    ),
    ("llm/0.31", "main", '"mime_type":"image/png","data":"d2VmdA=="'),
    ("llm/0.31", "main", '"tool_call_id":"call_1","attachments":[{"type":"file","mime_type":"image/jpeg"'),
    ("llm/0.36", "main", '"mime_type":"text/plain","data":"d2VmdA=="'),
    ("mistral-vibe/2.26-lines", "meta", '"stats":{"session_prompt_tokens":90}'),
    ("mistral-vibe/2.26-lines", "meta", '"git_commit":"c115d93156dc435490ce2a22a26545b63201d1f1"'),
    ("openclaw/2026.9-database", "window", '"type":"window"'),
    ("opencode/1.18-database", "session", '"model":{"id":"loom-1","providerID":"stub"}'),
    ("opencode/1.18-database", "session", '"cost":0.125,"tokens_input":90,"tokens_output":8'),
    ("openhands/cli-1.16", "state", '"accumulated_cost":0.75'),
    ("openhands/cli-1.16", "usage-agent", '"token_usages":{"model":"openai/loom-1","prompt_tokens":200'),
    ("roo-code/3.52", "history", '"tokensIn":9,"tokensOut":9'),
    ("warp/2026", "times", '"conversation_usage_metadata":{"credits_spent":1.5}'),
    ("warp/2026", "times", '"agent_name":"Counter","artifacts_json":"[{'),
    ("zed/0.2", "times", '"detailed_summary_state":{"Generated":{"text":"A greeting."}}'),
    ("zed/0.3", "times", '"cumulative_token_usage":{"input_tokens":90,"output_tokens":8}'),
    ("zed/0.3", "times", '"request_token_usage":{"u1":'),
]
SECRET = (b"PLANTED-TOKEN", b"planted-token-that-is-nobodys", b"FAKE-SECRET-must-never-leave")


@cache
def projected(name: str) -> dict[str, bytes]:
    """Map each stream of a sample's documents and databases to the records of all sessions."""
    found: dict[str, bytes] = {}
    for location in engine.locations(built(name)):
        if location.unit.kind is not Kind.LINES:
            with engine.streams(location) as streams:
                for stream in streams:
                    found[stream.name] = found.get(stream.name, b"") + engine.content(stream)
    return found


@pytest.mark.parametrize(("name", "stream", "part"), KEPT)
def test_a_projection_keeps_what_a_reader_needs(name: str, stream: str, part: str) -> None:
    assert part.encode() in projected(name)[stream]


@each_tool(NAMES)
def test_no_projection_has_a_secret_of_the_tool(name: str) -> None:
    content = b"".join(projected(name).values())
    assert not any(secret in content for secret in SECRET)


NEEDED = re.compile(r"token|cost|usage|reason|think|tool_?call|credit|effort", re.IGNORECASE)
"""The names of fields and columns that a reader, or a report of usage, needs."""
ELSEWHERE = {
    ("amp", "usageLedger"): "each of its events is a record",
    ("cline", "model_usage"): "its elements are records",
    ("mistral-vibe", "tool_call_id"): "of the context that goes to the model; the entries have calls and their results",
    ("openhands", "usage_to_metrics"): "each of its elements is a stream",
}
"""What is kept under another name, or left out on purpose."""


def names_in(value: object) -> Iterator[str]:
    """Iterate over the names of all fields in a JSON value."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from names_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from names_in(each)


def names_in_file(path: Path) -> set[str]:
    """Return the names of the fields in a document, or of the columns of a database that have a value in some row."""
    if not path.read_bytes().startswith(b"SQLite format 3"):
        text = to_utf8(path.read_bytes())
        parts = [text] if path.suffix == ".json" else text.split(b"\n")
        found = set[str]()
        for part in parts:
            with suppress(ValueError):
                found.update(names_in(json.loads(part)))
        return found
    found, database = set[str](), open_store(path)
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        cursor = database.execute(f'SELECT * FROM "{table}"')
        columns = [each[0] for each in cursor.description]
        for row in cursor.fetchall():
            there = {name for name, value in zip(columns, row, strict=True) if value not in (None, "", 0)}
            found |= there if table != "account" else set()  # its tokens are keys
    database.close()
    return found


@each_tool(NAMES)
def test_no_projection_drops_usage_reasoning_or_the_id_of_a_call(name: str) -> None:
    """Every field of a document and every column of a database whose name says so is in a record, under its name."""
    tool, content = name.partition("/")[0], b"".join(projected(name).values())
    for location in engine.locations(built(name)):
        if location.unit.kind in (Kind.DOCUMENT, Kind.FOLDER, Kind.DATABASE):
            whole = Path(location.path)
            for path in [whole] if whole.is_file() else filter(Path.is_file, whole.rglob("*")):
                needed = {each for each in names_in_file(path) if NEEDED.search(each) and (tool, each) not in ELSEWHERE}
                assert {each for each in needed if f'"{each}"'.encode() not in content} == set(), path


RENAMED = """
session_id sessionId chat_id chatId conversation_id thread_id message_id response_id id key value data items session
messages requests metadata entries title name label display_name slug author text seq i k v path parent_id
parent_session_id parentThreadId parent_conversation_id parent_session_key forked_from spawned_by isSubagent
fork_source_session_id fork_source_session_key current_session_id session_key store_key workspace_id workspaceId
workingDirectory working_directory directory worktree git_branch git_commit time_created time_updated timestamp
created_timestamp created_at updated_at updated lastUpdated lastUpdatedAt lastMessageDate start_time end_time
model model_name active_model llm_model model_provider content_json event_json event_zstd metadata_json data_type
conversation_data context aggregate_id project_id message_hash parent_hash hash position state
"""
"""Names of what a record has under another name or in its place: ids, titles, times, models, wrappers of records."""
LEFT_OUT = {
    "amp": "client clientVersion displayName env events initial os platform trees uri usageLedger",
    "cline": (
        "agent environment_history files_in_context model_usage origin record_state subagent system_prompt taskType"
    ),
    "codewhale": "journal leaf_id mode schema_version system_prompt",
    "copilot-chat": "changeType diffs relativePath status unifiedDiff",
    "cursor": "checkpointAt recency",
    "goose": "description extension_data model_config_json",
    "hermes": "billing_base_url last_activity_at model_config prompt system_prompt system_prompt_hash",
    "icodemate": "vcs",
    "kilo-code": "files_in_context record_source record_state roo_edit_date roo_read_date vcs",
    "llm": "attachment_id content fragment_id order payload response_json source tool_id tool_name tool_result_id",
    "mimocode": "vcs",
    "mistral-vibe": (
        "agent_config agent_profile api_key archived_at arguments auto_approve bumped_at checkpoint checkpoint_version"
        " chunks config core_system_instructions created_worktree delta entry environment execution_state experiments"
        " first_sequence generation import_provenance interop_export last_message_fingerprint manifest_sha256"
        " manifest_version op payload pinned_at previous_record_sha256 projection_state providers raw record_sha256"
        " recovery_journal_record_version recovery_journal_segment runtime_state runtime_state_version seen_at sequence"
        " sha256 snapshot_sequence store_format store_format_minor system_prompt title_source tool_call_id"
        " tools_available turn_index unseen_at username watermark"
    ),
    "openclaw": "entry_json event_utf8_bytes generation navigation_json store_json",
    "opencode": "secret share_url url vcs",
    "openhands": (
        "KEY agent_state api_key base_url blocked_actions blocked_messages confirmation_policy hook_config"
        " last_user_message_id llm persistence_dir post_tool_use pre_tool_use secret_registry secret_sources"
        " security_analyzer selected_branch session_end session_start stop stuck_detection usage_to_metrics"
        " user_prompt_submit workspace"
    ),
    "pearai": "files_in_context perplexityHistory",
    "shelley": "conversation_options draft is_draft queued_messages",
    "warp": "command summary",
}
"""What a tool stores and no record has: keys and settings, drafts, counters and digests of the store, copies of the
project's files, and what the facts of the session were taken from. Where a reader could miss it, `gaps` says so."""


def test_whatever_a_projection_drops_is_known() -> None:
    """A field or column that is new in a sample is kept, or somebody decides that it is not."""
    dropped: dict[str, set[str]] = {}
    for name in NAMES:
        content = b"".join(projected(name).values())
        for location in engine.locations(built(name)):
            if location.unit.kind in (Kind.DOCUMENT, Kind.FOLDER, Kind.DATABASE):
                whole = Path(location.path)
                for path in [whole] if whole.is_file() else filter(Path.is_file, whole.rglob("*")):
                    lost = {each for each in names_in_file(path) if f'"{each}"'.encode() not in content} - set(
                        RENAMED.split()
                    )
                    dropped.setdefault(name.partition("/")[0], set()).update(lost)
    assert {tool: names for tool, names in dropped.items() if names} == {
        tool: set(names.split()) for tool, names in LEFT_OUT.items()
    }
