"""Messages in Gemini's shape: of its documents, of its operations, and of what Qwen Code wrote before its own."""

from __future__ import annotations

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.records import NONE, parse, unheard

# chatRecordingTypes.ts (formats.md 2.7 Storage); "" is the header.
KNOWN = frozenset(["", "user", "gemini", "qwen", "info", "error", "warning"])
ANSWERS = ("gemini", "qwen")
# What is said in the user's name, or to the CLI and not to the model (formats.md 2.7 message_count).
INJECTED = ("/", "?", "<session_context>", "<hook_context>")


class Part(msgspec.Struct, gc=False, rename="camel"):
    """A part of what was said; a thought is marked, a tool's answer is not said."""

    text: str | None = None
    thought: bool | None = None
    function_response: msgspec.Raw = NONE


class Message(msgspec.Struct, gc=False, rename="camel"):
    """A message, of anybody."""

    id: str | None = None
    timestamp: str | None = None
    type: str = ""
    content: msgspec.Raw = NONE
    model: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class Set(msgspec.Struct, gc=False, rename="camel"):
    """What `$set` sets."""

    last_updated: str | None = None
    summary: str | None = None
    messages: list[Message] | None = None


class Line(Message, rename={"session_id": "sessionId", "start_time": "startTime", "set": "$set", "to": "$rewindTo"}):
    """A line of operations: the header, a message, or a change of what was before."""

    session_id: str | None = None
    start_time: str | None = None
    directories: list[str] = []
    tool_calls: list[msgspec.Raw] | None = msgspec.field(default=None, name="toolCalls")
    set: Set | None = None
    to: str | None = None


LINE = msgspec.json.Decoder(Line)
CONTENT = msgspec.json.Decoder(str | Part | list[str | Part] | None)


def parts_of(content: msgspec.Raw) -> list[Part]:
    """Read content: a string, a part, or a list of both since 0.25 (formats.md 2.7 Layout history)."""
    found = parse(CONTENT, bytes(content)) if content else None
    parts = found if isinstance(found, list) else [found]
    return [Part(text=part) if isinstance(part, str) else part for part in parts if part]


def is_prompt(content: msgspec.Raw) -> bool:
    """Tell whether a human said it to the model."""
    parts = parts_of(content)
    if not parts or any(part.function_response for part in parts):
        return False
    text = "".join(part.text or "" for part in parts).lstrip()
    return not text.startswith(INJECTED) and bool(text or any(part.text is None for part in parts))


def entry_of(message: Message) -> Entry:
    """Tell what a message says; its id is the same when it is written again, however often (field-notes A.4)."""
    role = None
    if message.type == "user" and is_prompt(message.content):
        role = Role.USER
    elif message.type in ANSWERS and (message.tool_calls or parts_of(message.content)):
        role = Role.ASSISTANT
    return Entry(
        time_ms=parse_time(message.timestamp),
        role=role,
        key=message.id,
        model=message.model if message.type in ANSWERS else None,
        unknown=unheard(message.type, KNOWN),
    )
