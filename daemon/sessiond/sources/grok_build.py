"""Grok Build (xAI): docs/formats/grok-build.md."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, SideFiles, Unit, UserDirs
from sessiond.sources.content import blocks, call, find, name_of, result, template, text_of, thought
from sessiond.sources.objects import OBJECT, encode, get_in
from sessiond.sources.prompts import prompt_entry, prompt_item
from sessiond.sources.records import UUID, parse, unknown_type
from sessiond.sources.tokens import usage

FILE = re.compile(rf"[^/]+/({UUID})/(?:(updates\.jsonl)|summary\.json|subagents/({UUID})/meta\.json)", re.ASCII)
HISTORY = "prompt_history.jsonl"
SPAWNED = ("parent_session_id", "subagent_id", "child_session_id", "subagent_type", "description", "status")
# The update kinds of the Agent Client Protocol, and the tool's own.
KINDS = (
    "user_message_chunk agent_message_chunk agent_thought_chunk tool_call tool_call_update plan current_mode_update"
    " available_commands_update turn_completed rewind_marker compaction_checkpoint background_tasks subagent_spawned"
    " subagent_progress subagent_finished model_changed model_auto_switched session_summary_generated session_recap"
    " last_turn_summary task_backgrounded task_completed auto_compact_started auto_compact_completed"
    " auto_compact_failed auto_compact_cancelled hook_execution hook_annotation goal_updated plan_kept diff_review"
)
KNOWN = frozenset(KINDS.split())
ROLES = {"user_message_chunk": Role.USER, "agent_message_chunk": Role.ASSISTANT}


class _Meta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    event_id: str | None = None
    agent_timestamp_ms: float | None = None
    prompt_id: str | None = None
    stream_start_ms: int | None = None
    model_id: str | None = None
    prompt_index: int | None = None


class _Update(msgspec.Struct, frozen=True, gc=False):
    kind: str = msgspec.field(name="sessionUpdate", default="?")
    meta: _Meta = msgspec.field(name="_meta", default=_Meta())
    target_prompt_index: int | None = None


class _Params(msgspec.Struct, frozen=True, gc=False):
    update: _Update = _Update()
    meta: _Meta = msgspec.field(name="_meta", default=_Meta())


class _Line(msgspec.Struct, gc=False):
    """An update, the projected fields of a summary, or a line of the history of prompts."""

    params: _Params = _Params()
    timestamp: float | str | None = None
    info: dict[str, str] | None = None
    created_at: str | None = None
    head_branch: str | None = None
    generated_title: str | None = None
    parent_session_id: str | None = None
    forked_at: str | None = None
    session_id: str | None = None
    prompt: str | None = None


LINE = msgspec.json.Decoder(_Line)


class GrokBuild(BaseSource):
    """Sessions of Grok Build: a log of updates, and a summary beside it."""

    tool: ClassVar[str] = "grok-build"
    variables: ClassVar[tuple[str, ...]] = ("GROK_HOME",)
    versions: ClassVar[tuple[str, ...]] = ("1.0.41",)
    projection_version: ClassVar[int] = 2
    gaps: ClassVar[tuple[str, ...]] = (
        "no version is stored",
        "prompt_history.jsonl is captured of sessions without a transcript only",
        "session_search.sqlite, which has the texts of all sessions again, is not read",
    )
    other_files: ClassVar[tuple[str, ...]] = (r"session_search\.sqlite",)
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        SideFiles(rf"[^/]+/(?P<id>{UUID})/(?P<name>.+)", "chat history, events, all other files of a session"),
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the sessions of GROK_HOME and ~/.grok."""
        for base in dirs.with_override("GROK_HOME", f"{dirs.home}/.grok"):
            yield Root(path=f"{base}/sessions", depth=4)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a log, a summary, or the note about a subagent, which has a session of its own."""
        if not (found := FILE.fullmatch(relative)):
            folder, _, name = relative.partition("/")
            return Unit(kind=Kind.HISTORY, directory=_decode_folder(folder)) if name == HISTORY else None
        session, log, subagent = found.groups()
        if log:
            return Unit(native_id=session)
        return Unit(kind=Kind.DOCUMENT, native_id=subagent or session, stream="spawned" if subagent else "summary")

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project a summary, and of the note about a subagent all but the prompt, which its session has."""
        for content in files.values():
            document = OBJECT.decode(content)
            wanted = document if unit.stream == "summary" else SPAWNED
            fields = {name: document[name] for name in wanted if name in document}
            yield Projection(native_id=unit.native_id or "", stream=unit.stream, records=[encode(fields)])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode an update or a summary. The chunks of one answer have the same key, so they count once.

        A fork copies updates as they are, apart from the session's id.
        """
        line = parse(LINE, record)
        update, meta = line.params.update, line.params.meta
        if update.kind == "?":
            if line.prompt is not None:
                return prompt_entry(line.prompt, line.session_id, line.timestamp, memory)
            return Entry(
                time_ms=parse_time(line.created_at),
                cwd=(line.info or {}).get("cwd"),
                branch=line.head_branch,
                title=line.generated_title,
                parent=line.parent_session_id,
                copied=line.forked_at is not None,
            )
        prompts: dict[str, str] = memory.setdefault("prompts", {})
        role, key = ROLES.get(update.kind), f"{meta.event_id}.{meta.agent_timestamp_ms}"
        if role is Role.USER:
            prompts[str(update.meta.prompt_index)], memory["model"] = key, update.meta.model_id
        elif role:
            key = f"{meta.prompt_id}.{meta.stream_start_ms}"
        return Entry(
            time_ms=parse_time(meta.agent_timestamp_ms or line.timestamp),
            role=role,
            key=key,
            model=memory.get("model") if role is Role.ASSISTANT else None,
            rewind=prompts.get(str(update.target_prompt_index)) if update.kind == "rewind_marker" else None,
            unknown=unknown_type(update.kind, KNOWN),
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of an update of the Agent Client Protocol. Messages and thoughts arrive in chunks."""
        if isinstance(prompt := record.get("prompt"), str):
            yield prompt_item(prompt, entry)
            return
        update = get_in(record, "params", "update") or {}
        kind, base = update.get("sessionUpdate"), template(entry, Speaker.ASSISTANT)
        chunk = [kind, entry.key if entry.role else None]
        going_on, memory["items.chunk"] = chunk == memory.get("items.chunk"), chunk
        if kind in ROLES:
            yield from blocks(update.get("content"), replace(base, continues=going_on))
        elif kind == "agent_thought_chunk":
            yield replace(thought(text_of(update.get("content")), base), continues=going_on)
        elif kind == "tool_call":
            yield replace(call(update, base), name=name_of(find(update, "title", "kind")))
        elif kind == "tool_call_update" and update.get("status") in ("completed", "failed"):
            yield result({**update, "content": find(update, "rawOutput", "content")}, base)
        yield from usage(update.get("usage"), base)


def _decode_folder(name: str) -> str | None:
    """Return the directory after which a folder is named: a percent-encoded path, or another name for a long one."""
    path = urllib.parse.unquote(name)
    return path if path.startswith("/") else None


SOURCES = (GrokBuild(),)
