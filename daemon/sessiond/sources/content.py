"""Turns the content of messages into items, in the vocabulary that the tools share with the model APIs.

Tools write blocks of text, thoughts, calls, results and media in a few dialects, which differ in names only: those of
Anthropic's Messages, OpenAI's Chat Completions and Responses, and Gemini's parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, ItemKind, Media, Speaker, parse_time

TEXTS = {"text", "input_text", "output_text", "summary_text", "Text", "markdown"}
THOUGHTS = {"thinking", "reasoning", "Thinking", "redacted_thinking", "think"}
CALLS = {"tool_use", "toolCall", "tool-call", "toolRequest", "tool_call", "function_call", "custom_tool_call"}
CALLS |= {
    "local_shell_call",
    "web_search_call",
    "server_tool_use",
    "mcp_tool_use",
    "ToolUse",
    "function",
    "functionCall",
}
RESULTS = {"tool_result", "tool-result", "toolResponse", "function_call_output", "custom_tool_call_output"}
RESULTS |= {
    "local_shell_call_output",
    "function_call_result",
    "web_search_tool_result",
    "ToolResult",
    "functionResponse",
}
MEDIA = {"image", "input_image", "image_url", "document", "audio", "file", "Image", "imageUrl", "inlineData"}
WRAPPED = ("Text", "Thinking", "ToolUse", "ToolResult", "Image", "functionCall", "functionResponse", "inlineData")
"""Keys under which some dialects put a block, in place of a `type`."""

CALL_IDS = ("call_id", "callId", "toolCallId", "tool_call_id", "callID", "id")
RESULT_IDS = ("tool_use_id", "toolUseID", "tool_call_id", "toolCallId", "call_id", "callId", "id")
CALL_NAMES = ("name", "toolName", "tool", "function.name", "toolCall.value.name")
ARGUMENTS = (
    "input",
    "arguments",
    "args",
    "function.arguments",
    "toolCall.value.arguments",
    "action",
    "rawInput",
    "params",
)
OUTPUTS = ("content", "output", "result", "response", "toolResult.value.content", "toolResult.value", "error")
TEXT_KEYS = ("text", "Text", "thinking", "Thinking", "content", "output", "value", "stdout", "Json", "resultDisplay")


def find(value: Any, *paths: str) -> Any:
    """Return the first value that is neither missing nor empty at one of these dotted paths; None without one."""
    for path in paths:
        found = value
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None and found != "":
            return found
    return None


def text_of(value: Any) -> str:
    """Return the text in a string, a block or a list of them; JSON for an object of another shape."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(text for each in value if (text := text_of(each)))
    if isinstance(value, Mapping):
        inner = find(value, *TEXT_KEYS)
        if inner is not None:
            return text_of(inner)
        return "" if value.get("type") in MEDIA or not value else _encode(value)
    return "" if value is None else str(value)


def name_of(value: Any) -> str | None:
    """Return an id or a name, which some tools write as a number; None for anything else."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def template(entry: Entry, speaker: Speaker | None = None) -> Item:
    """Return an item with the facts that all items of a message share.

    `speaker` is who wrote the record, if it does not count.
    """
    return Item(
        kind=ItemKind.MESSAGE,
        speaker=Speaker(entry.role) if entry.role else speaker or Speaker.SYSTEM,
        time_ms=entry.time_ms if entry.time is None else parse_time(entry.time),
        key=entry.key,
        model=entry.model,
        counts=entry.role is not None,
        copied=entry.copied,
    )


def speaker_of(role: Any) -> Speaker:
    """Return the speaker for a role of a model API; the system for one that is not known."""
    return SPEAKERS.get(role, Speaker.SYSTEM) if isinstance(role, str) else Speaker.SYSTEM


SPEAKERS = {
    "user": Speaker.USER,
    "human": Speaker.USER,
    "assistant": Speaker.ASSISTANT,
    "model": Speaker.ASSISTANT,
    "gemini": Speaker.ASSISTANT,
    "tool": Speaker.TOOL,
    "toolResult": Speaker.TOOL,
}


def blocks(content: Any, message: Item) -> Iterator[Item]:
    """Iterate the items in the content of a message: a string, a block, or a list of both.

    `message` is the template of its items.
    """
    for block in content if isinstance(content, list) else [content]:
        if isinstance(block, list):
            yield from blocks(block, message)
        elif isinstance(block, str):
            if block:
                yield replace(message, text=block)
        elif isinstance(block, Mapping):
            yield from _block(block, message)


def _block(block: Mapping[str, Any], message: Item) -> Iterator[Item]:
    wrapper = next((name for name in WRAPPED if name in block), None)
    kind = name_of(block.get("type")) or wrapper or ("text" if "text" in block else "")
    inner = block[wrapper] if wrapper and isinstance(block[wrapper], Mapping) else block
    if kind in CALLS:
        yield call(inner, message, kind)
    elif kind in RESULTS:
        yield result(inner, message)
    elif kind in MEDIA:
        yield replace(message, media=(media(inner, kind),))
    elif kind in THOUGHTS or block.get("thought") is True:
        if text := text_of(find(inner, "thinking", "think", "text", "summary", "content") or ""):
            yield thought(text, message)
    elif text := text_of(block):
        yield replace(message, text=text) if kind in TEXTS else note(text, message)


def thought(text: str, message: Item) -> Item:
    """Return a thought of the model."""
    return replace(message, kind=ItemKind.THOUGHT, speaker=Speaker.ASSISTANT, text=text, injected=False)


def note(text: str, message: Item) -> Item:
    """Return a line of the AI coding tool itself."""
    return replace(message, kind=ItemKind.NOTE, speaker=Speaker.SYSTEM, text=text, counts=False)


def summary(text: str, message: Item) -> Item:
    """Return the summary of a compaction."""
    return replace(message, kind=ItemKind.SUMMARY, text=text, injected=True)


def call(block: Mapping[str, Any], message: Item, kind: str = "") -> Item:
    """Return a call. `kind` is the block's type: its name if it has no other."""
    ids = CALL_IDS if kind != "tool_use" else ("id", *CALL_IDS)
    return replace(
        message,
        kind=ItemKind.CALL,
        speaker=Speaker.USER if message.speaker is Speaker.USER else Speaker.ASSISTANT,
        text="",
        call=name_of(find(block, *ids)),
        name=name_of(find(block, *CALL_NAMES)) or kind or "tool",
        arguments=raw(find(block, *ARGUMENTS)),
        injected=False,
    )


def result(block: Mapping[str, Any], message: Item) -> Item:
    """Return the result of a call. It is no message, so it never counts."""
    output = find(block, *OUTPUTS)
    return replace(
        message,
        kind=ItemKind.RESULT,
        speaker=Speaker.TOOL,
        text=text_of(output),
        call=name_of(find(block, *RESULT_IDS)),
        name=name_of(find(block, "name", "toolName")),
        failed=failed(block),
        media=tuple(_media_in(output)),
        counts=False,
        injected=False,
    )


def failed(block: Mapping[str, Any]) -> bool:
    """Return whether a result reports an error."""
    if find(block, "is_error", "isError", "data.is_error") is True or block.get("success") is False:
        return True
    return find(block, "status", "state.status", "toolResult.status") in ("error", "failed", "failure")


def media(block: Mapping[str, Any], kind: str) -> Media:
    """Return what is known of an image or a file without decoding it."""
    data = find(block, "source.data", "data", "image_url.url", "imageUrl.url", "image_url", "url", "source.bytes")
    declared = find(block, "source.media_type", "mimeType", "mime", "mime_type", "media_type", "mediaType")
    size = None
    if isinstance(data, str) and (data.startswith("data:") or "://" not in data):
        head, _, encoded = data.rpartition(",")
        declared = declared or head.removeprefix("data:").partition(";")[0] or None
        size = len(encoded) * 3 // 4 - encoded[-2:].count("=")
    return Media(
        type=declared if isinstance(declared, str) else kind.removeprefix("input_"),
        size=size,
        name=name_of(find(block, "filename", "file_name", "name", "title")),
    )


def _media_in(output: Any) -> Iterator[Media]:
    for block in output if isinstance(output, list) else ():
        if isinstance(block, Mapping) and block.get("type") in MEDIA:
            yield media(block, str(block["type"]))


def raw(value: Any) -> msgspec.Raw:
    """Return a value as JSON. Text that is JSON itself is taken as it is, since many tools encode arguments twice."""
    if isinstance(value, str):
        try:
            msgspec.json.decode(value)
        except (ValueError, RecursionError):
            pass
        else:
            return msgspec.Raw(value.encode())
    return msgspec.Raw(msgspec.json.encode({} if value is None else value))


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()
