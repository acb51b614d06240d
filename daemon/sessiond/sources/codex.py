"""Codex, its command line, IDE extension and desktop application: docs/formats/codex.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Unit, UserDirs
from sessiond.sources.content import blocks, find, name_of, speaker_of, summary, template, text_of
from sessiond.sources.prompts import decode_prompt, history_root, history_unit, prompt_items
from sessiond.sources.records import ABSENT, UUID, compact, digest, parse
from sessiond.sources.titles import TITLES, find_title, titles_unit
from sessiond.sources.tokens import usage

FILE = re.compile(
    rf"(?:[^/]+/)*rollout-\d{{4}}-\d\d-\d\d(?:T\d\d-\d\d-\d\d)?-({UUID})\.(jsonl|jsonl\.zst|json)", re.ASCII
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
SHOWN = BARE_KNOWN - {"message", "ghost_snapshot", "compaction", "other"}
PARENT = re.compile(rb'"parent_thread_id"\s*:\s*"([^"]+)"')
ROLES = {
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "user_message": Role.USER,
    "agent_message": Role.ASSISTANT,
    "UserMessage": Role.USER,
    "AgentMessage": Role.ASSISTANT,
}
# Text that Codex writes in the user's name.
INJECTED = re.compile(
    rb'"(?:\s|\\[nrt])*(?:"$|# AGENTS\.md instructions for |<(?:environment_context|user_instructions|turn_aborted'
    rb"|recommended_plugins|INSTRUCTIONS|skill|subagent_notification|user_shell_command|permissions instructions)\b)"
)
CWD = re.compile(rb"<cwd>(.*?)</cwd>")


class _Git(msgspec.Struct, gc=False):
    branch: str | None = None


class _Part(msgspec.Struct, gc=False):
    """A content block of a message, or the item of an `item_completed`."""

    type: str | None = None
    id: str | None = None
    text: msgspec.Raw = ABSENT
    content: msgspec.Raw = ABSENT


class _Body(msgspec.Struct, gc=False):
    """A payload, or the whole line of a version without an envelope (about 0.20)."""

    type: str | None = None
    id: str | None = None
    timestamp: str | None = None
    role: str | None = None
    content: msgspec.Raw = ABSENT
    message: msgspec.Raw = ABSENT
    item: _Part | None = None
    turn_id: str | None = None
    model: str | None = None
    cwd: str | None = None
    cli_version: str | None = None
    git: _Git | None = None
    forked_from_id: str | None = None
    parent_thread_id: str | None = None
    history_base: msgspec.Raw = ABSENT
    source: msgspec.Raw = ABSENT
    record_type: str | None = None


class _Line(msgspec.Struct, gc=False):
    timestamp: str | None = None
    type: str = ""
    payload: _Body | None = None


class _Document(msgspec.Struct):
    """A session of the TypeScript CLI."""

    session: msgspec.Raw
    items: list[msgspec.Raw] = []


LINE, BARE = msgspec.json.Decoder(_Line), msgspec.json.Decoder(_Body)
PARTS = msgspec.json.Decoder(list[_Part])
DOCUMENT = msgspec.json.Decoder(_Document)


def decode_line(record: bytes | memoryview, memory: Memory) -> Entry:
    """Decode a line of a rollout. The first session_meta is the file's own; a message counts once (see `_message`)."""
    line = parse(LINE, record)
    kind, time = line.type, line.timestamp
    body = line.payload or parse(BARE, record)
    if kind == "session_meta" or (not kind and body.id and not body.record_type):
        return _header(body, parse_time(time), memory)
    if body.turn_id and body.turn_id != memory.get("turn"):
        memory.update(turn=body.turn_id, said={})
    if kind == "turn_context":
        memory["model"] = body.model or memory.get("model")
        return Entry(time=time, model=body.model, cwd=body.cwd)
    if kind == "event_msg":
        if body.type == "item_completed" and body.item and body.item.type in ROLES:
            return _message("item", ROLES[body.item.type], _text(body.item.content), memory, time=time)
        if body.type in ("user_message", "agent_message"):
            return _message("event", ROLES[body.type], bytes(body.message), memory, time=time)
        memory["cut"] = memory.get("cut") or body.type == "turn_aborted"
    elif body.type == "message" and body.role in ROLES and not memory.get("heard"):
        return _message("sent", ROLES[body.role], _text(body.content), memory, time=time, api_id=body.id or "")
    known = kind in KNOWN or (not line.payload and (kind in BARE_KNOWN or body.record_type))
    has_type = kind or body.type or body.record_type
    return Entry(time=time, unknown=None if known else kind or "?") if has_type else decode_prompt(record, memory)


class Codex(BaseSource):
    """Rollouts of Codex from any program that started it: an allow-list of originators would lose sessions."""

    tool: ClassVar[str] = "codex"
    variables: ClassVar[tuple[str, ...]] = ("CODEX_HOME",)
    versions: ClassVar[tuple[str, ...]] = ("0.1 (TypeScript)", "0.20.0", "0.80.0", "0.100", "0.149", "0.169.0")
    gaps: ClassVar[tuple[str, ...]] = (
        "a fork of 0.169 has its own records only: it points into its parent's file; *.sqlite repeats rollouts",
        "history.jsonl, which names no project, is captured only of sessions that were deleted before their capture",
        "what Codex cuts from long outputs is nowhere; snapshots of the shell have the environment and are left out",
    )
    views: ClassVar[bool] = True

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the rollouts of CODEX_HOME and ~/.codex, and the histories of prompts beside them."""
        homes = dirs.with_override("CODEX_HOME", f"{dirs.home}/.codex")
        yield from rollout_roots(homes)
        yield from (history_root(home, TITLES) for home in homes)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a rollout: lines, packed lines (`.jsonl.zst`), or a TypeScript CLI document (`.json`).

        `history.jsonl` has the prompts of all sessions. The UUID in a file's name is its thread's id. Temporary files
        (`.rollout-*`, `rollout-compress-*`) don't match.
        """
        found = FILE.fullmatch(relative)
        if not found:
            return history_unit(relative) or titles_unit(relative)
        if found[2] == "json":
            return Unit(kind=Kind.DOCUMENT, native_id=found[1])
        return Unit(native_id=found[1], packed=found[2] == "jsonl.zst", beside=(f"../{TITLES}",))

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Return the title that a thread has when it is captured; later ones come from the list of titles itself."""
        titles = (find_title(lines, unit.native_id or "") for lines in beside.values())
        return next((Entry(title=title) for title in titles if title), None)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project {session, items} to a rollout without envelopes: the header, then one item a line."""
        for content in files.values():
            document = parse(DOCUMENT, content)
            records = map(compact, (document.session, *document.items))
            yield Projection(native_id=unit.native_id or "", records=records)

    decode = staticmethod(decode_line)  # rollouts are the largest transcripts: this saves one call a line

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a line."""
        return prompt_items(record, entry) if "ts" in record else read_items(record, entry, memory)


def read_items(record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
    """Iterate the items of a line of a rollout.

    A message is shown where it counts (see `_message`); of those that do not, only what Codex wrote in the user's name
    is shown. Usage is stated once for each answer of the model: token_usage_record since 0.169, token_count before.
    """
    kind, body = record.get("type"), record.get("payload")
    body = body if isinstance(body, dict) else record
    own = body.get("type") or ("message" if body.get("role") else None)
    base = template(entry, speaker_of(body.get("role")))
    if entry.role is not None:
        images = [{"type": "image", "image_url": image} for image in body.get("images") or ()]
        yield from blocks([find(body, "item.content", "message", "content"), *images], base)
    elif kind == "token_usage_record":
        memory["items.records"] = True
        answer = replace(base, key=name_of(body.get("response_id")), model=memory.get("model"))
        yield from usage(body.get("usage"), answer, cached_in_input=True)
    elif own == "token_count" and not memory.get("items.records"):
        answer = replace(base, model=memory.get("model"))
        yield from usage(find(body, "info.last_token_usage"), answer, cached_in_input=True)
    elif kind == "compacted":
        yield summary(text_of(body.get("message")), replace(base, speaker=Speaker.ASSISTANT))
    elif kind == "response_item" or body is record:
        if own == "message" and base.speaker is not Speaker.ASSISTANT and not _is_echo(body):
            yield from blocks(body.get("content"), replace(base, injected=True))
        elif own in SHOWN:
            yield from blocks([body], replace(base, speaker=Speaker.ASSISTANT))


def _is_echo(body: dict[str, Any]) -> bool:
    """Return whether a message that went to the model repeats a prompt that an event states."""
    content = _text(msgspec.Raw(msgspec.json.encode(body.get("content"))))
    return body.get("role") == "user" and not INJECTED.match(content[:128])


def rollout_roots(homes: Iterable[str]) -> Iterator[Root]:
    """Iterate over the directories of rollouts; archiving a rollout moves it from the first to the second."""
    for home in homes:
        yield Root(path=f"{home}/sessions")
        yield Root(path=f"{home}/archived_sessions")


def _header(meta: _Body, time_ms: int | None, memory: Memory) -> Entry:
    """Decode a session_meta. The first is the file's own; a later one was copied with its parent's history."""
    # A copy and its original must give a message the same key, so keys begin with the thread where history began.
    pointer = meta.history_base is not ABSENT
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
        # A fork of 0.169 points into its parent's file (history_base); older ones copy it with new timestamps.
        copied=bool(meta.forked_from_id) and not pointer,
    )


def _message(family: str, role: Role, text: bytes, memory: Memory, *, time: str | None, api_id: str = "") -> Entry:
    """Decode a message so that it counts once, though most rollouts contain each message twice.

    Records come in three families. "event" (legacy) and "item" (paginated) are what was said. "sent" is
    what went to the model; it counts only until one of the others appears, because 0.20 has nothing else. The first
    record of another family takes back what was sent since the last prompt, which it repeats; after that "sent" is
    ignored.
    """
    if role is Role.USER and INJECTED.match(text[:128]) and (family == "sent" or text != b'""'):
        memory["cut"] = memory.get("cut") or text.startswith(b'"<turn_aborted')
        inside = CWD.search(text)
        return Entry(time=time, cwd=msgspec.json.decode(b'"' + inside[1] + b'"') if inside else None)
    if role is Role.ASSISTANT and text in (b"", b'""'):
        return Entry(time=time)
    mark, rewind = role[0] + digest(text), None
    if family == "sent" and role is Role.USER and _is_repeated_prompt(mark, memory):
        return Entry(time=time)
    if family != "sent" and not memory.get("heard"):
        rewind, *marks = memory.pop("pending", [None])
        past = {mark: n - marks.count(mark) for mark, n in memory.get("said", {}).items()}
        memory.update(
            heard=True, said={f + mark.removeprefix("sent"): n for mark, n in past.items() for f in ("event", "item")}
        )
    # No id exists in all versions, and ids such as `item-1` of migrated files are not unique. So the key consists of
    # origin, turn and text, and how often that text was said, which keeps two prompts "continue" apart.
    said = memory.setdefault("said", {})
    count = said[family + mark] = said.get(family + mark, 0) + 1
    key = f"{memory.get('origin')}.{memory.get('turn')}.{mark}.{count}"
    if family == "sent":
        if role is Role.USER:
            memory["pending"] = [key, "sent" + mark]
        else:
            # The TypeScript CLI writes a new file at each save; the API's id shows that they share a history.
            key = api_id if api_id.startswith("msg_") else key
            memory["pending"] = [*memory.get("pending", [key]), "sent" + mark]
    model = memory.get("model") if role is Role.ASSISTANT else None
    return Entry(time=time, role=role, key=key, model=model, rewind=rewind)


def _is_repeated_prompt(mark: str, memory: Memory) -> bool:
    """Return whether a continued task sends the first prompt again after an abort."""
    first = memory.get("first")
    if first is None:
        memory.update(first=mark, cut=False)
    elif first == mark and memory["cut"]:
        return True
    else:
        memory["first"] = ""  # after another prompt, the same words are a new prompt
    return False


def _text(content: msgspec.Raw) -> bytes:
    """Return a message's text as JSON source: a string, or the concatenated strings of its blocks."""
    text = bytes(content)
    if not text.startswith(b"["):
        return text
    return b"".join(bytes(part.text) for part in PARTS.decode(text))


SOURCES = (Codex(),)
