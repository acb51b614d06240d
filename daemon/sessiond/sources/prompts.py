"""Histories of prompts: what users typed into all sessions of a tool (see Kind.HISTORY).

The first prompt is the title of a session of which nothing else is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from sessiond.session import USER, Entry, Item, Speaker, parse_time
from sessiond.sources.base import Kind, Memory, Root, Unit, Watch
from sessiond.sources.content import template, text_of
from sessiond.sources.records import ABSENT, parse

HISTORY = "history.jsonl"
"""The name of the file of most tools, in the directory above their sessions."""
COMMAND = re.compile(r"\s*(?:/[A-Za-z][\w:.-]*(?:\s|$)|!|$)")
"""Input for the tool itself: a slash command, or a shell command."""


HASH = re.compile(r"[0-9a-f]{8,64}")


class _Paste(msgspec.Struct):
    """A text that was pasted into a prompt: it is in the line, or in a file that is named after a hash of it."""

    hash: str | None = msgspec.field(default=None, name="contentHash")


class _Prompt(msgspec.Struct):
    """A line of any of these tools. Claude Code before 2.0.49 wrote no session id; some versions of Codex another name.

    Antigravity has a conversation and a workspace instead of a session and a project.
    """

    display: str | None = None
    timestamp: msgspec.Raw = ABSENT
    project: str | None = None
    own_id: str | None = msgspec.field(default=None, name="sessionId")
    text: str | None = None
    ts: msgspec.Raw = ABSENT
    session_id: str | None = None
    conversation_id: str | None = None
    workspace: str | None = None
    conversation: str | None = msgspec.field(default=None, name="conversationId")
    pasted: str | None = None
    """The file that a record was made from, see `pasted_files`."""
    pasted_contents: dict[str, _Paste] = msgspec.field(default_factory=dict, name="pastedContents")


PROMPT = msgspec.json.Decoder(_Prompt)


def history_root(home: str, *others: str) -> Root:
    """Return the root of a history, and of `others`, in a directory with further files."""
    return Root(path=home, watch=Watch.FLAT, depth=0, only=(HISTORY, *others) if others else HISTORY)


def history_unit(relative: str) -> Unit | None:
    """Return the unit of a history; None for another path."""
    return Unit(kind=Kind.HISTORY) if relative == HISTORY else None


def decode_prompt(record: bytes | memoryview, memory: Memory) -> Entry:
    """Decode a line of a history of prompts."""
    line = parse(PROMPT, record)
    text, time = (line.display, line.timestamp) if line.display is not None else (line.text, line.ts)
    if text is None or not bytes(time):
        return Entry(unknown=None if line.pasted else "?")
    native_id = line.own_id or line.session_id or line.conversation_id or line.conversation
    return prompt_entry(text, native_id, msgspec.json.decode(time), memory, cwd=line.project or line.workspace)


def prompt_entry(
    text: str, native_id: str | None, time: str | float | None, memory: Memory, cwd: str | None = None
) -> Entry:
    """Return the entry of a prompt. A command to the tool itself is no message."""
    typed = not COMMAND.match(text)
    title = text.strip().partition("\n")[0] if typed and not memory.get("titled") else None
    if typed:
        memory["titled"] = True
    return Entry(
        time_ms=parse_time(time),
        role=USER if typed else None,
        cwd=cwd,
        native_id=native_id,
        title=title,
    )


def pasted_files(record: bytes) -> list[str]:
    """Return the files, relative to its directory, that have what was pasted into a prompt of Claude Code.

    Raises: ValueError for a damaged record.
    """
    found = parse(PROMPT, record).pasted_contents.values()
    return [f"paste-cache/{each.hash}.txt" for each in found if each.hash and HASH.fullmatch(each.hash)]


def prompt_items(record: Mapping[str, Any], entry: Entry) -> Iterator[Item]:
    """Iterate the items of a line: the prompt, and the texts that were pasted into it."""
    text, pasted = record.get("display", record.get("text")), record.get("pastedContents")
    if "pasted" in record:
        yield replace(
            template(entry, Speaker.USER), text=f"\n[pasted] {text_of(record.get('content'))}", continues=True
        )
    if isinstance(text, str):
        yield (base := prompt_item(text, entry))
        for each in pasted.values() if isinstance(pasted, Mapping) else ():
            if isinstance(each, Mapping) and each.get("content"):
                yield replace(base, text=f"\n[pasted] {text_of(each['content'])}", continues=True)


def prompt_item(text: str, entry: Entry) -> Item:
    """Return the item of a prompt, for which `prompt_entry` returned `entry`."""
    return replace(template(entry, Speaker.USER), text=text, injected=entry.role is None)
