"""Codex CLI, its IDE extension and desktop application: formats.md 2.2, field-notes A.3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit, parse

FILE = re.compile(
    r"(?:[^/]+/)*rollout-\d{4}-\d\d-\d\d(?:T\d\d-\d\d-\d\d)?-"
    r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(jsonl|jsonl\.zst|json)",
    re.ASCII,
)
OUTER = (
    "session_meta response_item event_msg turn_context compacted world_state token_usage_record"
    " inter_agent_communication_metadata inter_agent_communication"
)
ENVELOPES = frozenset(OUTER.split())
ITEMS = (
    "message reasoning function_call function_call_output custom_tool_call custom_tool_call_output local_shell_call"
    " local_shell_call_output web_search_call image_generation_call ghost_snapshot compaction other"
)
BARE = frozenset(ITEMS.split())
# Codex's own words in the user's name (formats.md 2.2 message_count, field-notes A.3 response_item/message).
INJECTED = re.compile(
    rb'"(?:\s|\\[nrt])*(?:"$|# AGENTS\.md instructions for |<(?:environment_context|user_instructions|turn_aborted'
    rb"|recommended_plugins|INSTRUCTIONS|skill|subagent_notification|user_shell_command|permissions instructions)\b)"
)
CWD = re.compile(rb"<cwd>(.*?)</cwd>")
PARENT = re.compile(rb'"parent_thread_id"\s*:\s*"([^"]+)"')
SAYS = {
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "user_message": Role.USER,
    "agent_message": Role.ASSISTANT,
    "UserMessage": Role.USER,
    "AgentMessage": Role.ASSISTANT,
}
NONE = msgspec.Raw(b"")


class _Git(msgspec.Struct, gc=False):
    branch: str | None = None


class _Part(msgspec.Struct, gc=False):
    """A block of a message's content, or an item of `item_completed`."""

    type: str | None = None
    id: str | None = None
    text: msgspec.Raw = NONE
    content: msgspec.Raw = NONE


class _Body(msgspec.Struct, gc=False):
    """A payload; before 0.3x the line itself."""

    type: str | None = None
    id: str | None = None
    timestamp: str | None = None
    role: str | None = None
    content: msgspec.Raw = NONE
    message: msgspec.Raw = NONE
    item: _Part | None = None
    turn_id: str | None = None
    model: str | None = None
    cwd: str | None = None
    cli_version: str | None = None
    git: _Git | None = None
    forked_from_id: str | None = None
    parent_thread_id: str | None = None
    history_base: msgspec.Raw = NONE
    source: msgspec.Raw = NONE


class _Line(_Body, gc=False):
    payload: _Body | None = None
    record_type: str | None = None


class _Document(msgspec.Struct):
    session: msgspec.Raw
    items: list[msgspec.Raw] = []


LINE = msgspec.json.Decoder(_Line)
PARTS = msgspec.json.Decoder(list[_Part])
DOCUMENT = msgspec.json.Decoder(_Document)


def _text(raw: msgspec.Raw) -> bytes:
    """Read a message's text as its JSON source: a string, or the strings of its blocks one after the other."""
    text = bytes(raw)
    if not text.startswith(b"["):
        return text
    return b"".join(bytes(part.text) for part in PARTS.decode(text))


class Codex(BaseSource):
    """Rollouts of Codex, whoever originated them (no allow-list: formats.md 2.2 Traps)."""

    tool: ClassVar[str] = "codex"

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `sessions` and `archived_sessions` of CODEX_HOME, and of ~/.codex as well: what is there stays there."""
        given = places.environ.get("CODEX_HOME", "").rstrip("/")
        for home in dict.fromkeys(filter(None, [given, f"{places.home}/.codex"])):
            yield Root(path=f"{home}/sessions")
            yield Root(path=f"{home}/archived_sessions")

    def unit(self, relative: str) -> Unit | None:
        """Tell rollouts, plain and packed (`.jsonl.zst`), and the documents of the TypeScript CLI (`.json`).

        A file's uuid is its thread's id. Names of temporary files (`.rollout-*`, `rollout-compress-*`) do not fit.
        """
        found = FILE.fullmatch(relative)
        if not found:
            return None
        if found[2] == "json":
            return Unit(kind=Kind.DOCUMENT, native_id=found[1])
        return Unit(native_id=found[1], packed=found[2] == "jsonl.zst")

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out {session, items} as an un-enveloped rollout: the header, then an item a line (formats.md 2.2 (a))."""
        for content in files.values():
            document = parse(DOCUMENT, content)
            records = (msgspec.json.format(raw, indent=-1) for raw in (document.session, *document.items))
            yield Portrait(native_id=unit.native_id or "", records=[bytes(record) for record in records])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a line says. Messages stand in two families, of which one counts (see `_message`)."""
        line = parse(LINE, record)
        kind, body, time_ms = line.type or "", line.payload or line, parse_time(line.timestamp)
        if kind == "session_meta" or (not kind and line.id and not line.record_type):
            return self._opened(body, time_ms, memory)
        if body.turn_id and body.turn_id != memory.get("turn"):
            memory.update(turn=body.turn_id, said={})
        if kind == "turn_context":
            memory["model"] = body.model or memory.get("model")
            return Entry(time_ms=time_ms, model=body.model, cwd=body.cwd)
        if kind == "event_msg":
            if body.type == "item_completed" and body.item and body.item.type in SAYS:
                return self._message(
                    SAYS[body.item.type], _text(body.item.content), time_ms, memory, body.item.id or ""
                )
            if body.type in ("user_message", "agent_message"):
                return self._message(SAYS[body.type], bytes(body.message), time_ms, memory, "")
            memory["cut"] = memory.get("cut") or body.type == "turn_aborted"
        elif body.type == "message" and body.role in SAYS:
            return self._message(SAYS[body.role], _text(body.content), time_ms, memory, None)
        known = kind in (ENVELOPES if line.payload else BARE) or line.record_type
        return Entry(time_ms=time_ms, unknown=None if known else kind or "?")

    def _opened(self, meta: _Body, time_ms: int | None, memory: Memory) -> Entry:
        """Read a session_meta: the first is the file's own, a later one was copied with its parent's history."""
        if memory.setdefault("id", meta.id) != meta.id:
            return Entry(time_ms=time_ms, copied=True)
        spawner = PARENT.search(bytes(meta.source))
        parent = meta.forked_from_id or meta.parent_thread_id or (spawner[1].decode() if spawner else None)
        return Entry(
            time_ms=min(filter(None, (parse_time(meta.timestamp), time_ms)), default=None),
            version=meta.cli_version,
            cwd=meta.cwd,
            branch=meta.git.branch if meta.git else None,
            parent=parent if parent != meta.id else None,
            # 0.169 points into the parent's file instead (history_base); older ones copy it, re-stamped.
            copied=bool(meta.forked_from_id) and meta.history_base is NONE,
        )

    def _message(self, role: Role, text: bytes, time_ms: int | None, memory: Memory, event_id: str | None) -> Entry:
        """Count a message once, though most rollouts tell it twice (field-notes A.3 Count).

        Events (`event_id` is not None) are what was said; response items are what the model was sent, and count
        only where no event came yet: 0.20 writes no events at all. The first event takes back the items since the
        last prompt, which it repeats, and from then on items are silent.
        """
        cwd = None
        if role is Role.USER and INJECTED.match(text[:128]) and (event_id is None or text != b'""'):
            memory["cut"] = memory.get("cut") or text.startswith(b'"<turn_aborted')
            inside = CWD.search(text)
            cwd = msgspec.json.decode(b'"' + inside[1] + b'"', type=str) if inside else None
            return Entry(time_ms=time_ms, cwd=cwd)
        if (text in (b"", b'""') and role is Role.ASSISTANT) or (event_id is None and memory.get("events")):
            return Entry(time_ms=time_ms)
        said, rewind = memory.setdefault("said", {}), None
        mark = role[0] + blake2b(text, digest_size=8).hexdigest()
        if event_id is not None and not memory.get("events"):
            rewind, *marks = memory.pop("pending", [None])
            memory.update(events=True, said={key: n - marks.count(key) for key, n in said.items()})
            said = memory["said"]
        # No id survives in every version: the text, and how many times it was said in the turn, name a message
        # in all copies of it, and keep two prompts "continue" apart.
        said[mark] = said.get(mark, 0) + 1
        key = event_id or f"{memory.get('turn', '')}.{mark}.{said[mark]}"
        if event_id is None:
            key = self._repeated(mark, key, memory) if role is Role.USER else key
            memory["pending"] = [key, mark] if role is Role.USER else [*memory.get("pending", [key]), mark]
        model = memory.get("model") if role is Role.ASSISTANT else None
        return Entry(time_ms=time_ms, role=role, key=key, model=model, rewind=rewind)

    def _repeated(self, mark: str, key: str, memory: Memory) -> str:
        """Find the first prompt again when a continued task sends it once more after an abort (formats.md 2.2)."""
        first = memory.setdefault("first", [mark, key])
        if first[0] == mark and memory.get("cut"):
            return str(first[1])
        if first[1] != key:
            memory["first"] = ["", ""]
        return key


SOURCES = (Codex(),)
