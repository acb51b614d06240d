"""The lines of Claude Code's transcripts: their shape, and who said what (formats.md 2.1, field-notes A.2)."""

from __future__ import annotations

import re

import msgspec

from sessiond.sources.records import NONE

# Record types seen in 1.0.60, 2.0.14 and 2.1.330 (field-notes A.2) or by peers to 2.1.239 (formats.md 2.1).
TYPES = (
    "user assistant system attachment summary file-history-snapshot progress queue-operation custom-title ai-title"
    " agent-name last-prompt mode permission-mode pr-link frame-link worktree-state relocated bridge-session started"
    " result atis-latch tools-used cost-state api-request api-request-shape api-request-blob"
)
KNOWN = frozenset(TYPES.split())
# What Claude Code says in the user's name without isMeta; an envelope counts when a prompt follows it.
INJECTED = re.compile(
    rb'"(?:\s|\\[nrt])*(?:"$|<(?:command-|local-command-|bash-(?:input|stdout|stderr)>|task-notification>)'
    rb"|\[Request interrupted by user|Unknown slash command: |<(system-reminder|ide_opened_file|ide_selection)>)"
)
RESULT = re.compile(rb'\[\{"(?:tool_use_id":|type":"tool_result")')
THOUGHT = re.compile(rb'\[\{"type":"(?:thinking"|redacted_)')
EMPTY = re.compile(rb'(?:\[\]|"")?\Z')


class Part(msgspec.Struct, gc=False):
    """A message, a block of one, or an attachment; raw what is looked at only sometimes, and then at its head."""

    type: str | None = None
    id: str | None = None
    model: str | None = None
    content: msgspec.Raw = NONE
    text: msgspec.Raw = NONE
    prompt: msgspec.Raw = NONE


class Line(msgspec.Struct, gc=False, rename="camel"):
    """A line, as far as it is looked at."""

    type: str = "?"
    timestamp: str | None = None
    uuid: str | None = None
    session_id: str | None = None
    version: str | None = None
    cwd: str | None = None
    git_branch: str | None = None
    message: Part | str | None = None
    attachment: Part | str | None = None
    is_sidechain: bool | None = None
    is_meta: bool | None = None
    is_compact_summary: bool | None = None
    is_api_error_message: bool | None = None
    prompt_source: str | None = None
    session_kind: str | None = None
    request_session_id: str | None = None
    forked_from: Line | None = None
    custom_title: str | None = None
    ai_title: str | None = None
    summary: str | None = None
    leaf_uuid: str | None = None


LINE = msgspec.json.Decoder(Line)
BLOCKS = msgspec.json.Decoder(list[Part])


def is_typed(text: msgspec.Raw) -> bool:
    """Tell whether a human typed this JSON string (formats.md 2.1 message_count, field-notes A.2 Count)."""
    found = INJECTED.match(text, 0, 128)
    return not found or (bool(found[1]) and not bytes(memoryview(text)[-64:]).endswith(b"</" + found[1] + b'>"'))


def is_prompt(content: msgspec.Raw) -> bool:
    """Tell whether a user's message has what a human said, and not only results of tools."""
    if RESULT.match(content):
        return False  # most of a transcript's bytes; not parsed twice
    head = bytes(memoryview(content)[:1])
    if head != b"[":
        return head == b'"' and is_typed(content)
    blocks = BLOCKS.decode(content)
    if any(block.type == "tool_result" for block in blocks):
        return False
    return any(block.type != "text" or is_typed(block.text) for block in blocks)


def is_answer(content: msgspec.Raw) -> bool:
    """Tell whether a line has more than thinking; a message that is nothing else does not count (formats.md 1.4)."""
    if THOUGHT.match(content):
        return any(block.type not in ("thinking", "redacted_thinking") for block in BLOCKS.decode(content))
    return not EMPTY.match(content)
