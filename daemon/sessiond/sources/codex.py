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
LINES = (
    "session_meta response_item event_msg turn_context compacted world_state token_usage_record"
    " inter_agent_communication_metadata inter_agent_communication"
)
ITEMS = (
    "message reasoning function_call function_call_output custom_tool_call custom_tool_call_output local_shell_call"
    " local_shell_call_output web_search_call image_generation_call ghost_snapshot compaction other"
)
KNOWN, BARE_KNOWN = frozenset(LINES.split()), frozenset(ITEMS.split())
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
    record_type: str | None = None


class _Line(msgspec.Struct, gc=False):
    timestamp: str | None = None
    type: str = ""
    payload: _Body | None = None


class _Document(msgspec.Struct):
    session: msgspec.Raw
    items: list[msgspec.Raw] = []


LINE = msgspec.json.Decoder(_Line)
BARE = msgspec.json.Decoder(_Body)
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
    versions: ClassVar[tuple[str, ...]] = ("0.1 (TypeScript)", "0.20.0", "0.80.0", "0.100", "0.149", "0.169.0")
    gaps: ClassVar[tuple[str, ...]] = (
        "a fork of 0.169 has its own records only: it points into the file of its parent",
        "titles are in a database beside the rollouts, which is not read",
    )
    views: ClassVar[bool] = True

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

    def decode(self, record: bytes | memoryview, memory: Memory) -> Entry | None:
        """Tell what a line says; the first session_meta is the file's own, and messages count once (see `_message`)."""
        line = parse(LINE, record)
        kind, time = line.type, line.timestamp
        body = line.payload or parse(BARE, record)
        if kind == "session_meta" or (not kind and body.id and not body.record_type):
            return self._opened(body, parse_time(time), memory)
        if body.turn_id and body.turn_id != memory.get("turn"):
            memory.update(turn=body.turn_id, said={})
        if kind == "turn_context":
            memory["model"] = body.model or memory.get("model")
            return Entry(time=time, model=body.model, cwd=body.cwd)
        if kind == "event_msg":
            if body.type == "item_completed" and body.item and body.item.type in SAYS:
                text = _text(body.item.content)
                return self._message("item", SAYS[body.item.type], text, memory, time=time)
            if body.type in ("user_message", "agent_message"):
                return self._message("told", SAYS[body.type], bytes(body.message), memory, time=time)
            memory["cut"] = memory.get("cut") or body.type == "turn_aborted"
        elif body.type == "message" and body.role in SAYS and not memory.get("heard"):
            text = _text(body.content)
            return self._message("sent", SAYS[body.role], text, memory, time=time, api_id=body.id or "")
        known = kind in KNOWN or (not line.payload and (kind in BARE_KNOWN or body.record_type))
        return Entry(time=time, unknown=None if known else kind or "?")

    def _opened(self, meta: _Body, time_ms: int | None, memory: Memory) -> Entry:
        """Read a session_meta: the first is the file's own, a later one was copied with its parent's history."""
        # Copies and their original name messages alike: after the thread that the history began in.
        pointer = meta.history_base is not NONE
        memory["origin"] = (None if pointer else meta.forked_from_id) or meta.id
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
            copied=bool(meta.forked_from_id) and not pointer,
        )

    def _message(
        self, family: str, role: Role, text: bytes, memory: Memory, *, time: str | None, api_id: str = ""
    ) -> Entry:
        """Count a message once, though most rollouts tell it twice (field-notes A.3 Count).

        Of the families, "told" (legacy events) and "item" (paginated ones) are what was said; "sent" is what went to
        the model, and counts only as long as no other came: 0.20 has nothing else. The first other one takes back what
        was sent since the last prompt, which it repeats, and from then on "sent" is silent.
        """
        if role is Role.USER and INJECTED.match(text[:128]) and (family == "sent" or text != b'""'):
            memory["cut"] = memory.get("cut") or text.startswith(b'"<turn_aborted')
            inside = CWD.search(text)
            return Entry(time=time, cwd=msgspec.json.decode(b'"' + inside[1] + b'"') if inside else None)
        if role is Role.ASSISTANT and text in (b"", b'""'):
            return Entry(time=time)
        mark, rewind = role[0] + blake2b(text, digest_size=8).hexdigest(), None
        if family == "sent" and role is Role.USER and self._repeated(mark, memory):
            return Entry(time=time)
        if family != "sent" and not memory.get("heard"):
            rewind, *marks = memory.pop("pending", [None])
            past = {mark: n - marks.count(mark) for mark, n in memory.get("said", {}).items()}
            memory.update(heard=True, said={f + mark[4:]: n for mark, n in past.items() for f in ("told", "item")})
        # No id is in all versions, and ids such as `item-1` of migrated files are not unique: so a message is named by
        # its origin, turn and text, and by how many times that was said, which keeps two prompts "continue" apart.
        said = memory.setdefault("said", {})
        count = said[family + mark] = said.get(family + mark, 0) + 1
        key = f"{memory.get('origin')}.{memory.get('turn')}.{mark}.{count}"
        if family == "sent":
            if role is Role.USER:
                memory["pending"] = [key, "sent" + mark]
            else:
                # The API's id tells that the files of the TypeScript CLI, one a save, begin with the same history.
                key = api_id if api_id.startswith("msg_") else key
                memory["pending"] = [*memory.get("pending", [key]), "sent" + mark]
        model = memory.get("model") if role is Role.ASSISTANT else None
        return Entry(time=time, role=role, key=key, model=model, rewind=rewind)

    def _repeated(self, mark: str, memory: Memory) -> bool:
        """Tell whether a continued task sends the first prompt once more after an abort (formats.md 2.2)."""
        first = memory.get("first")
        if first is None:
            memory.update(first=mark, cut=False)
        elif first == mark and memory["cut"]:
            return True
        else:
            memory["first"] = ""  # after another prompt, the same words are a new one
        return False


SOURCES = (Codex(),)
