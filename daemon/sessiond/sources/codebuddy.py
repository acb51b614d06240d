"""CodeBuddy Code (Tencent): docs/formats/codebuddy.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import BaseSource, Memory, Root, SideFiles, Unit, UserDirs
from sessiond.sources.content import blocks, call, find, name_of, result, speaker_of, template, text_of, thought
from sessiond.sources.records import ABSENT, UUID, message_role, parse, unknown_type
from sessiond.sources.tokens import usage

FILE = re.compile(rf"[^/]+/({UUID})(?:/subagents/([\w-]+))?\.jsonl", re.ASCII)
# The items of a model's API, and the tool's own kinds.
TYPES = (
    "message function_call function_call_result reasoning custom-title ai-title file-history-snapshot summary topic"
    " goal-result goal-progress resend-fork-notice session-meta"
)
KNOWN = frozenset(TYPES.split())


class _ProviderData(msgspec.Struct, frozen=True, gc=False, rename="camel"):
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
    content: msgspec.Raw = ABSENT
    provider_data: _ProviderData = _ProviderData()
    session_id: str | None = None
    cwd: str | None = None
    custom_title: str | None = None
    ai_title: str | None = None


LINE = msgspec.json.Decoder(_Line)


class CodeBuddy(BaseSource):
    """Transcripts of CodeBuddy Code: Claude Code's layout, with the items of a model's API as lines."""

    tool: ClassVar[str] = "codebuddy"
    variables: ClassVar[tuple[str, ...]] = ("CODEBUDDY_CONFIG_DIR",)
    versions: ClassVar[tuple[str, ...]] = ("2.163.0",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or branch is stored",
        "messages that a rewind removes are counted",
        "chats of the extension and of WorkBuddy are not read",
        "the prompts in history.jsonl name no session and are not read",
    )
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        SideFiles(rf"[^/]+/(?P<id>{UUID})/(?P<name>.+)", "outputs of tools, notes about subagents"),
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return `projects` of CODEBUDDY_CONFIG_DIR and ~/.codebuddy."""
        for base in dirs.with_override("CODEBUDDY_CONFIG_DIR", f"{dirs.home}/.codebuddy"):
            yield Root(path=f"{base}/projects", depth=3)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a transcript, or of a subagent's, which is a stream of its session."""
        if not (found := FILE.fullmatch(relative)):
            return None
        return Unit(native_id=found[1], stream=found[2] or "main", thread=not found[2])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode an item. The items of an answer share a message id; lines that a fork copied have its parent's id."""
        line = parse(LINE, record)
        data, role, key, title = line.provider_data, None, line.id, None
        hidden = data.is_meta or data.skip_run or data.is_summary or data.is_compact_internal
        if line.type == "message":
            role = message_role(line.role, line.content)
        elif line.type == "function_call":
            role = Role.ASSISTANT
        elif line.custom_title:
            memory["named"], title = True, line.custom_title
        elif not memory.get("named"):
            title = line.ai_title
        if role is Role.ASSISTANT:
            key = data.message_id or key
        return Entry(
            time_ms=parse_time(line.timestamp),
            role=None if hidden or data.agent == "compact" else role,
            key=key,
            model=data.model if role is Role.ASSISTANT else None,
            cwd=line.cwd,
            title=title,
            native_id=line.session_id,
            unknown=unknown_type(line.type, KNOWN),
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a line: Responses' types, with usage on the answers."""
        kind, base = record.get("type"), template(entry, speaker_of(record.get("role")))
        if kind == "message":
            injected = base.speaker is Speaker.USER and not base.counts
            yield from blocks(record.get("content"), replace(base, injected=injected))
            answer = replace(base, key=name_of(find(record, "providerData.messageId")) or base.key)
            yield from usage(find(record, "message.usage", "providerData.rawUsage"), answer, cached_in_input=True)
        elif kind == "reasoning" and (text := text_of(find(record, "rawContent", "content", "summary"))):
            yield thought(text, base)
        elif kind == "function_call":
            yield call(record, base, kind)
        elif kind == "function_call_result":
            yield result(record, base)


SOURCES = (CodeBuddy(),)
