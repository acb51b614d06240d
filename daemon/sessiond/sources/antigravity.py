"""Antigravity and its command line, agy: docs/formats/antigravity.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker
from sessiond.sources.base import BaseSource, Memory, Root, SideFiles, Unit, UserDirs
from sessiond.sources.content import blocks, call, name_of, result, template, text_of
from sessiond.sources.prompts import decode_prompt, history_root, history_unit, prompt_items
from sessiond.sources.records import UUID, parse

LOG = re.compile(rf"({UUID})/\.system_generated/logs/transcript(_full)?\.jsonl", re.ASCII)
REQUEST = re.compile(r"<USER_REQUEST>(.*?)</USER_REQUEST>", re.DOTALL)
CHANGE = re.compile(r"<USER_SETTINGS_CHANGE>(.*?)</USER_SETTINGS_CHANGE>", re.DOTALL)
MODEL = re.compile(
    r"changed (?:the model|setting `Model Selection`)(?: from [^\n]+?)? to ([^\n]+?)(?:\.\s|\.?\s*\Z|\n)"
)
"""The sentence that names the model. Other settings change in sentences of the same form, and a remark may follow."""


class _Step(msgspec.Struct, gc=False):
    step_index: int | str | None = None
    type: str | None = None
    source: str | None = None
    created_at: str | None = None
    content: Any = None
    display: str | None = None
    """What was typed, in a line of the history of prompts."""


STEP = msgspec.json.Decoder(_Step)


class Antigravity(BaseSource):
    """Transcripts of steps, since agy 1.0.10. They contain neither directory nor version."""

    tool: ClassVar[str] = "antigravity"
    own_keys: ClassVar[bool] = True  # steps are numbered in each conversation
    versions: ClassVar[tuple[str, ...]] = ("1.1.5",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no folder, branch, version, title or parent is in a transcript",
        "conversations of 1.0.9 and before are encrypted",
        "history.jsonl is captured of conversations without a transcript only; its first prompts name no conversation",
    )
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        SideFiles(rf"(?P<id>{UUID})/(?P<name>.+)", "plans, images and other artifacts"),
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return `brain` of the command line and the editor, and the histories of prompts above it."""
        for name in ("antigravity-cli", "antigravity"):
            yield Root(path=f"{dirs.home}/.gemini/{name}/brain", depth=3, skip=frozenset(["messages", "tasks"]))
            yield history_root(f"{dirs.home}/.gemini/{name}")

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of either transcript of a conversation; both have the same steps, which count once."""
        found = LOG.fullmatch(relative)
        return Unit(native_id=found[1], stream="main" if found[2] else "short") if found else history_unit(relative)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a step. A prompt is wrapped in <USER_REQUEST>; the source MODEL also stands for tool results."""
        step = parse(STEP, record)
        if step.display is not None:
            return decode_prompt(record, memory)
        text = step.content if isinstance(step.content, str) else ""
        role = None
        if step.type == "USER_INPUT" and step.source == "USER_EXPLICIT":
            request = REQUEST.search(text)
            # What follows the request was written by the tool. A user may quote a change, and so may a tool result.
            for change in CHANGE.findall(text, request.end() if request else 0):
                if found := MODEL.search(change):
                    memory["model"] = found[1]
            role = Role.USER if (request[1] if request else text).strip() else None
        elif step.type == "PLANNER_RESPONSE" and text.strip():
            role = Role.ASSISTANT
        model, key = memory.get("model"), None if step.step_index is None else str(step.step_index)
        return Entry(time=step.created_at, role=role, key=key, model=model if role is Role.ASSISTANT else None)

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a step. Results follow their calls in order; neither has an id."""
        if "display" in record:
            yield from prompt_items(record, entry)
            return
        kind, text = record.get("type"), text_of(record.get("content"))
        base = template(entry, Speaker.ASSISTANT)
        if kind == "USER_INPUT":
            request = REQUEST.search(text)
            yield from blocks((request[1] if request else text).strip(), replace(base, speaker=Speaker.USER))
        elif kind == "PLANNER_RESPONSE":
            yield from blocks(text, base)
            calls = list(enumerate(record.get("tool_calls") or ()))
            for number, each in calls:
                yield replace(call(each, base), call=f"{base.key}.{number}")
            memory["items.calls"] = [f"{base.key}.{number}" for number, _ in calls]
        elif record.get("source") == "MODEL" and text:
            calls_left = memory.get("items.calls") or [None]
            yield replace(result({"content": text}, base), call=calls_left.pop(0), name=name_of(kind))


SOURCES = (Antigravity(),)
