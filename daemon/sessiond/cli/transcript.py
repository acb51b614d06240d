"""Render a transcript for people: messages by author, tool calls in one line, for the formats of all tools.

Records of unknown types are summarized in one line, so nothing is hidden.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from sessiond.cli.output import count, escape
from sessiond.session import parse_time

LARGEST = 4 << 20
"""Largest record in bytes that is decoded; of a larger one only the size is shown."""
SHORT = 200
"""Most characters of a tool's input or output that are shown."""
FIRST = 3
"""Lines shown of a message that the tool adds for the model, like its instructions."""
TEXTS = {"text", "input_text", "output_text", "summary_text", "Text"}
THOUGHTS = {"thinking": "thinking", "reasoning": "text"}
CALLS = {"function_call", "custom_tool_call", "local_shell_call", "web_search_call", "tool_use", "server_tool_use"}
NAMED = ("name", "type")


class TranscriptItem(msgspec.Struct, frozen=True):
    """One item of a record: a text by an author, or a line about a tool call."""

    who: str
    text: str
    at_ms: int | None = None
    line: bool = False
    """Whether it is one shortened line: a tool call, its result, or reasoning."""


def render(records: Iterable[bytes], *, color: bool = False) -> Iterator[str]:
    """Iterate the lines of text for records, without control characters."""
    speaker: str | None = None
    other: Counter[str] = Counter()
    for record in records:
        if not record.strip():
            continue
        items = parse_record(record)
        if isinstance(items, str):
            other[items] += 1
            continue
        if other:
            yield from _summary(other)
            speaker = None
        for each in items:
            if each.who != speaker:
                yield ""
                yield _heading(each, color)
                speaker = each.who
            for line in _lines(each):
                yield f"  {escape(line)}".rstrip()
    if other:
        yield from _summary(other)


def parse_record(record: bytes) -> list[TranscriptItem] | str:
    """Return the items of a record, or the name of its type if it has no text or an unknown shape."""
    if len(record) > LARGEST:
        return f"{len(record)} bytes"
    try:
        line = msgspec.json.decode(record)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return "damaged"
    if not isinstance(line, dict):
        return type(line).__name__
    time = line.get("timestamp", line.get("ts"))
    at_ms = parse_time(time) if isinstance(time, str | int | float) else None
    typed = line.get("display") if "type" not in line else None
    if "session_id" in line and "ts" in line:
        typed = line.get("text")
    if "pasted" in line and isinstance(line.get("content"), str):
        typed = f"[pasted] {line['content']}"
    if isinstance(typed, str):  # a line of a history of prompts
        return [TranscriptItem("user", typed, at_ms), *_pasted(line.get("pastedContents"), at_ms)]
    for inner in (line.get("message"), line.get("payload"), line):
        if isinstance(inner, dict):
            items = _items(inner, at_ms, _text(line.get("type")))
            if items:
                return items
    payload = line.get("payload")
    below = _text(payload.get("type")) if isinstance(payload, dict) else ""
    name = " ".join(part for part in (_text(line.get("type")), below) if part)
    return name or _short(line)


def _pasted(pasted: Any, at_ms: int | None) -> Iterator[TranscriptItem]:
    """Iterate over the texts that were pasted into a prompt."""
    for each in pasted.values() if isinstance(pasted, dict) else ():
        if isinstance(each, dict) and isinstance(each.get("content"), str):
            yield TranscriptItem("user", f"[pasted] {each['content']}", at_ms)


def _items(item: dict[str, Any], at_ms: int | None, kind: str) -> list[TranscriptItem]:
    own = _text(item.get("type"))
    if own in CALLS:
        return [_call(item, at_ms)]
    if own.endswith("_output"):
        return [TranscriptItem("tool", f"= {_short(item.get('output'))}", at_ms, line=True)]
    if own in THOUGHTS and not item.get("role"):
        blocks = item.get("summary") or item.get("content")
        text = "\n".join(item.text for item in _blocks(blocks, "", at_ms))
        return [TranscriptItem("assistant", f"(thinks) {_short(text)}", at_ms, line=True)] if text else []
    who = _text(item.get("role")) or (kind if kind in ("user", "assistant", "system") else "")
    content = item.get("content")
    return list(_blocks(content, who, at_ms)) if who and isinstance(content, str | list) else []


def _blocks(content: Any, who: str, at_ms: int | None) -> Iterator[TranscriptItem]:
    for block in [content] if isinstance(content, str | dict) else content if isinstance(content, list) else []:
        if isinstance(block, str):
            yield TranscriptItem(who, block, at_ms)
            continue
        if not isinstance(block, dict):
            continue
        kind = _text(block.get("type"))
        if kind in TEXTS:
            yield TranscriptItem(who, _text(block.get("text")), at_ms)
        elif kind in CALLS:
            yield _call(block, at_ms)
        elif kind == "tool_result":
            yield TranscriptItem("tool", f"= {_short(block.get('content'))}", at_ms, line=True)
        elif kind in THOUGHTS:
            thought = _text(block.get(THOUGHTS[kind]))
            if thought:
                yield TranscriptItem(who, f"(thinks) {_short(thought)}", at_ms, line=True)
        else:
            yield TranscriptItem(who, f"[{kind or 'something'}]", at_ms, line=True)


def _call(item: dict[str, Any], at_ms: int | None) -> TranscriptItem:
    name = next((_text(item.get(key)) for key in NAMED if item.get(key)), "tool")
    given = next((item[key] for key in ("input", "arguments", "action") if item.get(key)), "")
    return TranscriptItem("assistant", f"> {name} {_short(given)}".rstrip(), at_ms, line=True)


def _short(value: Any) -> str:
    """Format any value in one line of at most SHORT characters."""
    if isinstance(value, list):
        texts = [_text(block.get("text")) for block in value if isinstance(block, dict) and "text" in block]
        value = "\n".join(texts) if texts else value
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = " ".join(text[: 4 * SHORT].split())
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _lines(item: TranscriptItem) -> list[str]:
    """Return the lines of an item; only the first few if neither the user nor the model wrote it."""
    whole = item.text.expandtabs(4).splitlines() or [""]
    own = item.who not in ("user", "assistant", "tool") or item.text.lstrip().startswith("<")
    if not own or len(whole) <= FIRST + 1:
        return whole
    return [*whole[:FIRST], f"... {count(len(whole) - FIRST, 'more line')}"]


def _heading(item: TranscriptItem, color: bool) -> str:
    at = "" if item.at_ms is None else f"  {datetime.fromtimestamp(item.at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    text = f"{escape(item.who)}{at}"
    return f"\x1b[1m{text}\x1b[0m" if color else text


def _summary(other: Counter[str]) -> Iterator[str]:
    names = ", ".join(name if number == 1 else f"{name} x{number}" for name, number in other.items())
    text = names if len(names) <= SHORT else names[: SHORT - 1] + "…"
    yield ""
    yield f"({count(other.total(), 'other record')}: {escape(text)})"
    other.clear()
