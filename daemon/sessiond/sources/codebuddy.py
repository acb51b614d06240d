"""CodeBuddy Code (Tencent; closed source): formats.md 3; its lines as runs of 2.163.0 left them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Memory, Places, Root, Unit
from sessiond.sources.records import NONE, UUID, parse, speaker, unheard

FILE = re.compile(rf"[^/]+/({UUID})(?:/subagents/([\w-]+))?\.jsonl", re.ASCII)
# What the API of models calls items, and the tool's own kinds of them (a list in its program).
TYPES = (
    "message function_call function_call_result reasoning custom-title ai-title file-history-snapshot summary topic"
    " goal-result goal-progress resend-fork-notice session-meta"
)
KNOWN = frozenset(TYPES.split())


class _Provided(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    message_id: str | None = None
    model: str | None = None
    agent: str | None = None
    is_meta: bool | None = None
    skip_run: bool | None = None
    is_summary: bool | None = None
    is_compact_internal: bool | None = None


class _Line(msgspec.Struct, gc=False, rename="camel"):
    type: str = "?"
    id: str | None = None
    timestamp: float | None = None
    role: str | None = None
    content: msgspec.Raw = NONE
    provider_data: _Provided = _Provided()
    session_id: str | None = None
    cwd: str | None = None
    custom_title: str | None = None
    ai_title: str | None = None


LINE = msgspec.json.Decoder(_Line)


class CodeBuddy(BaseSource):
    """Transcripts of CodeBuddy Code: Claude Code's layout, with the items of a model's API as lines."""

    tool: ClassVar[str] = "codebuddy"
    versions: ClassVar[tuple[str, ...]] = ("2.163.0",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch is stored",
        "what a rewind takes back is counted",
        "the extension's and WorkBuddy's chats",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `projects` of ~/.codebuddy, and of CODEBUDDY_CONFIG_DIR."""
        for base in places.homes("CODEBUDDY_CONFIG_DIR", f"{places.home}/.codebuddy"):
            yield Root(path=f"{base}/projects", depth=3)

    def unit(self, relative: str) -> Unit | None:
        """Tell transcripts, and those of subagents, which are streams of their session."""
        if not (found := FILE.fullmatch(relative)):
            return None
        return Unit(native_id=found[1], stream=found[2] or "main", thread=not found[2])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an item says. All of one answer have its id; a fork copies lines whole, its parent's id in them."""
        line = parse(LINE, record)
        provided, role, key, title = line.provider_data, None, line.id, None
        hidden = provided.is_meta or provided.skip_run or provided.is_summary or provided.is_compact_internal
        if line.type == "message":
            role = speaker(line.role, line.content)
        elif line.type == "function_call":
            role = Role.ASSISTANT
        elif line.custom_title:
            memory["named"], title = True, line.custom_title
        elif not memory.get("named"):
            title = line.ai_title
        if role is Role.ASSISTANT:
            key = provided.message_id or key
        return Entry(
            time_ms=parse_time(line.timestamp),
            role=None if hidden or provided.agent == "compact" else role,
            key=key,
            model=provided.model if role is Role.ASSISTANT else None,
            cwd=line.cwd,
            title=title,
            native_id=line.session_id,
            unknown=unheard(line.type, KNOWN),
        )


SOURCES = (CodeBuddy(),)
