"""Histories of prompts of further tools: a JSON document (Gemini, Qwen), and one for each directory (Grok)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from docs.sources_document import captured_histories
from sessiond.config import Config
from sessiond.doctor.inventory import scan_tools
from sessiond.ingest import Turn
from sessiond.ingest import ingest as read
from sessiond.privacy import Exclusion
from sessiond.session import session_id
from sessiond.sources import find_sources
from sessiond.spool.health import read_unnamed
from sessiond.spool.rows import SessionState
from support.harness import NOW_MS, DaemonHarness, daemon_harness, encode

FIRST, SECOND = "0a000000-0000-4000-8000-000000000001", "0b000000-0000-4000-8000-000000000002"
DAY_MS = 86_400_000
DOCUMENTS = {"gemini-cli": ".gemini/tmp/loom", "qwen-code": ".qwen/tmp/loom"}
"""The project's directory of each tool whose history is a document."""

documents = pytest.mark.parametrize("tool", DOCUMENTS)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def prompt(text: str, number: int = 0, session: str = FIRST, at_ms: int = NOW_MS - DAY_MS) -> dict[str, Any]:
    """Return an element of `logs.json`."""
    time = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
    return {"sessionId": session, "messageId": number, "timestamp": time, "type": "user", "message": text}


def write(harness: DaemonHarness, tool: str, *prompts: dict[str, Any]) -> str:
    """Write the history of a project as its tool does, with the file that names the project's directory."""
    harness.write(f"{DOCUMENTS[tool]}/.project_root", b"/home/ada/loom")
    path = harness.write(f"{DOCUMENTS[tool]}/logs.json", b"")
    Path(path).write_bytes(json.dumps(prompts, indent=2).encode())
    return path


def record(prompt: dict[str, Any]) -> bytes:
    """Return the record that is made from an element."""
    return json.dumps({"log": prompt}, separators=(",", ":")).encode() + b"\n"


def find(harness: DaemonHarness, tool: str, native_id: str = FIRST) -> SessionState | None:
    """Return a session of the spool."""
    return harness.spool.catalog.session(session_id(tool, native_id))


def count(harness: DaemonHarness, tool: str, native_id: str = FIRST) -> tuple[bool, int]:
    """Return whether only prompts of a session are known, and its messages."""
    found = find(harness, tool, native_id)
    assert found is not None and found.record is not None
    return found.prompts_only, found.record.message_count


@documents
def test_prompts_in_a_document_are_kept(harness: DaemonHarness, tool: str) -> None:
    """The record has the times, the project's directory, and the first prompt as the title. A command is no prompt."""
    lines = [prompt("weave a scarf\nof wool"), prompt("/clear", 1), prompt("longer", 2, at_ms=NOW_MS - DAY_MS + 60_000)]
    path = write(harness, tool, *lines, prompt("knit", 0, SECOND))
    harness.settle()
    found = find(harness, tool)
    assert found is not None and found.record is not None and found.prompts_only
    assert (found.record.message_count, found.record.working_directory) == (2, "/home/ada/loom")
    assert found.title == "weave a scarf"
    assert found.record.started_at.timestamp() * 1000 == NOW_MS - DAY_MS
    assert found.record.source_path == f"{path}::{FIRST}"
    assert harness.held(FIRST, "prompts") == b"".join(map(record, lines))
    assert count(harness, tool, SECOND) == (True, 1)


@documents
def test_a_rewritten_document_adds_its_new_prompts_once(harness: DaemonHarness, tool: str) -> None:
    """The tool writes the whole file with each prompt, and may drop the oldest: nothing is repeated or lost."""
    lines = [prompt(f"prompt {number}", number) for number in range(4)]
    write(harness, tool, *lines[:2])
    harness.settle()
    path = write(harness, tool, *lines[:3])
    (location,) = harness.places(path)
    assert read(harness.ingesting, location).read == len(record(lines[2])), "only what was added"
    harness.settle()
    write(harness, tool, *lines[2:])
    harness.settle()
    assert harness.held(FIRST, "prompts") == b"".join(map(record, lines))
    assert count(harness, tool) == (True, 4)


@documents
def test_half_of_a_document_is_read_when_it_is_whole(harness: DaemonHarness, tool: str) -> None:
    """What can't be parsed is tried again while it is fresh, and reported when it stays so."""
    path = write(harness, tool, prompt("one"), prompt("two", 1))
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:-40])
    os.utime(path, ns=(NOW_MS * 1_000_000, NOW_MS * 1_000_000))
    (location,) = harness.places(path)
    assert read(harness.ingesting, location).retry
    os.utime(path, ns=((NOW_MS - DAY_MS) * 1_000_000, (NOW_MS - DAY_MS) * 1_000_000))
    read(harness.ingesting, location)
    file = harness.spool.catalog.file(path)
    assert file is not None and file.trouble is not None and "can't be parsed" in file.trouble
    Path(path).write_bytes(content)
    harness.settle()
    assert count(harness, tool) == (True, 2)


def test_a_chat_keeps_the_prompts_of_its_history_out(harness: DaemonHarness) -> None:
    """It is not captured yet, and the name of its file has only the beginning of its id."""
    chat = f".gemini/tmp/loom/chats/session-2026-11-01T10-00-{FIRST[:8]}.jsonl"
    header = {"sessionId": FIRST, "startTime": "2026-11-01T10:00:00Z", "kind": "main"}
    message = {"id": "m1", "timestamp": "2026-11-01T10:00:01Z", "type": "user", "content": "weave"}
    history = write(harness, "gemini-cli", prompt("weave"), prompt("knit", 0, SECOND))
    harness.write(chat, header, message)
    harness.ingest(history)
    assert find(harness, "gemini-cli") is None
    assert count(harness, "gemini-cli", SECOND) == (True, 1)
    harness.settle()
    assert count(harness, "gemini-cli") == (False, 1)
    assert [stream["name"] for stream in harness.held_sessions()[FIRST]["held"]] == [os.path.basename(chat)[:-6]]


def test_a_chat_whose_name_has_no_id_hides_no_prompts(harness: DaemonHarness) -> None:
    harness.write(".gemini/tmp/loom/chats/session--.jsonl", {"$set": {"lastUpdated": "2026-11-01T10:00:00Z"}})
    harness.ingest(write(harness, "gemini-cli", prompt("weave")))
    assert count(harness, "gemini-cli") == (True, 1)


@documents
def test_prompts_of_an_excluded_project_stay_out(harness: DaemonHarness, tool: str) -> None:
    """Its directory is beside the history; without that nothing is known of the project, so nothing is captured."""
    harness.ingesting = replace(harness.ingesting, exclusion=Exclusion(("/home/ada/loom",), harness.home))
    path = write(harness, tool, prompt("secret plans"))
    harness.settle()
    assert find(harness, tool) is None
    os.unlink(os.path.join(os.path.dirname(path), ".project_root"))
    harness.settle()
    assert find(harness, tool) is None


@documents
def test_prompts_in_a_document_are_read_again_for_an_endpoint_that_lacks_them(
    harness: DaemonHarness, tool: str
) -> None:
    path = write(harness, tool, prompt("one"), prompt("two", 0, SECOND))
    harness.settle()
    (location,) = harness.places(path)
    read(harness.ingesting, location, Turn(only=frozenset([FIRST])))
    harness.settle()
    assert harness.held(FIRST, "prompts") == record(prompt("one"))


GROK = ".grok/sessions/%2Fhome%2Fada%2Floom"


def grok_prompt(text: str, session: str = FIRST) -> dict[str, Any]:
    """Return a line of Grok Build's history."""
    return {"timestamp": "2026-11-01T10:00:00Z", "session_id": session, "prompt": text}


def test_the_history_of_grok_is_kept_with_the_directory_of_its_folder(harness: DaemonHarness) -> None:
    """A session that still has its log adds nothing."""
    update = {"update": {"sessionUpdate": "user_message_chunk", "content": {"type": "text", "text": "knit"}}}
    meta = {"_meta": {"eventId": "e1", "agentTimestampMs": NOW_MS - DAY_MS}}
    harness.write(f"{GROK}/{SECOND}/updates.jsonl", {"params": update | meta})
    lines = [grok_prompt("weave"), grok_prompt("knit", SECOND), grok_prompt("longer")]
    harness.write(f"{GROK}/prompt_history.jsonl", *lines)
    harness.settle()
    found = find(harness, "grok-build")
    assert found is not None and found.record is not None
    assert (found.prompts_only, found.title, found.record.message_count) == (True, "weave", 2)
    assert found.record.working_directory == "/home/ada/loom"
    assert count(harness, "grok-build", SECOND) == (False, 1)


def test_the_history_of_antigravity_is_kept_with_its_workspace(harness: DaemonHarness) -> None:
    """A prompt without a conversation is only counted, and a conversation with a transcript adds nothing."""
    brain = f".gemini/antigravity-cli/brain/{SECOND}/.system_generated/logs/transcript_full.jsonl"
    step = {"step_index": 0, "type": "USER_INPUT", "source": "USER_EXPLICIT", "created_at": "2026-08-22T10:00:00Z"}
    harness.write(brain, step | {"content": "<USER_REQUEST>knit</USER_REQUEST>"})
    line = {"display": "weave", "timestamp": NOW_MS - DAY_MS, "workspace": "/home/ada/loom"}
    mine = line | {"conversationId": FIRST}
    path = harness.write(".gemini/antigravity-cli/history.jsonl", line, mine, line | {"conversationId": SECOND})
    harness.settle()
    found = find(harness, "antigravity")
    assert found is not None and found.record is not None
    assert (found.prompts_only, found.title, found.record.message_count) == (True, "weave", 1)
    assert found.record.working_directory == "/home/ada/loom"
    assert harness.held(FIRST, "prompts") == encode(mine)
    assert count(harness, "antigravity", SECOND) == (False, 1)
    assert read_unnamed(harness.spool) == {path: 1}


def test_a_fork_of_claude_code_has_its_history_too(harness: DaemonHarness) -> None:
    line = {"display": "weave", "pastedContents": {}, "timestamp": NOW_MS - DAY_MS, "project": "/home/ada/loom"}
    harness.write(".openclaude/history.jsonl", line | {"sessionId": FIRST})
    harness.settle()
    assert count(harness, "openclaude") == (True, 1)


def test_the_history_of_grok_keeps_an_excluded_directory_out(harness: DaemonHarness) -> None:
    harness.ingesting = replace(harness.ingesting, exclusion=Exclusion(("/home/ada/loom",), harness.home))
    harness.write(f"{GROK}/prompt_history.jsonl", grok_prompt("secret plans"))
    harness.settle()
    assert find(harness, "grok-build") is None


TYPED_MS = NOW_MS - DAY_MS
CLAUDE_LINE = {"display": "weave", "pastedContents": {}, "timestamp": TYPED_MS, "sessionId": FIRST}
CODEX_LINE = {"session_id": FIRST, "ts": TYPED_MS // 1000, "text": "weave"}
CAPTURED = {
    "antigravity": (".gemini/antigravity-cli/history.jsonl", CLAUDE_LINE | {"conversationId": FIRST}),
    "claude-code": (".claude/history.jsonl", CLAUDE_LINE),
    "codex": (".codex/history.jsonl", CODEX_LINE),
    "gemini-cli": (".gemini/tmp/loom/logs.json", [prompt("weave")]),
    "grok-build": (f"{GROK}/prompt_history.jsonl", grok_prompt("weave")),
    "iflow": (".iflow/tmp/9f9f/logs.json", [prompt("weave")]),
    "open-interpreter": (".openinterpreter/history.jsonl", CODEX_LINE),
    "openclaude": (".openclaude/history.jsonl", CLAUDE_LINE),
    "qwen-code": (".qwen/tmp/loom/logs.json", [prompt("weave")]),
    "traex": (".trae/cli/history.jsonl", CODEX_LINE),
}
"""The history of each tool whose history names sessions, with a prompt of one that has no transcript."""


@pytest.mark.parametrize("tool", CAPTURED)
def test_init_counts_what_is_captured_of_every_history(tool: str, harness: DaemonHarness) -> None:
    path, content = CAPTURED[tool]
    harness.write(path, json.dumps(content).encode() + b"\n")
    found = {each.tool: each.prompts_only for each in scan_tools(Config(), {"HOME": harness.home}, NOW_MS)}
    assert found == {tool: 1}
    harness.settle()
    assert count(harness, tool) == (True, 1)


def test_no_tool_with_a_history_is_left_out() -> None:
    assert set(CAPTURED) == {source.tool for source in find_sources() if list(captured_histories(source))}
