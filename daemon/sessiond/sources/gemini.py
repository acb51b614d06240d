"""Gemini CLI and what was made of it: formats.md 2.7 and 2.20, field-notes A.4 and A.5."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit, Watch, parse, peek

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
FILE = re.compile(rf"([^/]+)/chats/(?:(session-[\w-]+)\.(jsonl|json)|({UUID})/([\w-]+)\.jsonl)", re.ASCII)
# chatRecordingTypes.ts (formats.md 2.7 Storage); "" is the header.
KNOWN = frozenset(["", "user", "gemini", "qwen", "info", "error", "warning"])
QWEN_FILE = re.compile(rf"[^/]+/(?:chats/(?:archive/)?({UUID})|subagents/({UUID})/(agent-[\w.-]+))\.jsonl", re.ASCII)
QWEN_KNOWN = frozenset(["user", "assistant", "tool_result", "system"])
RUNTIME = re.compile(rb'"runtimeOutputDir"\s*:\s*("(?:[^"\\\n]|\\.)+")')
ANSWERS = ("gemini", "qwen")
# What is said in the user's name, or to the CLI and not to the model (formats.md 2.7 message_count).
INJECTED = ("/", "?", "<session_context>", "<hook_context>")
# Of an old document, what stays; `lastUpdated` repeats the last message's time and would be news at each change.
HEADER = ("sessionId", "projectHash", "startTime", "kind", "directories")
VOLATILE = ("messages", "lastUpdated")
NONE = msgspec.Raw(b"")


class _Part(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    function_response: msgspec.Raw = NONE


class _Message(msgspec.Struct, gc=False, rename="camel"):
    id: str | None = None
    timestamp: str | None = None
    type: str = ""
    content: msgspec.Raw = NONE
    model: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Set(msgspec.Struct, gc=False, rename="camel"):
    last_updated: str | None = None
    summary: str | None = None
    messages: list[_Message] | None = None


class _Line(_Message, rename={"session_id": "sessionId", "start_time": "startTime", "set": "$set", "to": "$rewindTo"}):
    session_id: str | None = None
    start_time: str | None = None
    directories: list[str] = []
    tool_calls: list[msgspec.Raw] | None = msgspec.field(default=None, name="toolCalls")
    set: _Set | None = None
    to: str | None = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] = []


class _Payload(msgspec.Struct, gc=False, rename="camel"):
    custom_title: str | None = None
    parent_session_id: str | None = None
    session_id: str | None = None


class _Record(msgspec.Struct, gc=False, rename="camel"):
    """A record of Qwen Code's own format."""

    uuid: str | None = None
    parent_uuid: str | None = None
    session_id: str | None = None
    timestamp: str | None = None
    type: str = "?"
    subtype: str | None = None
    provenance: str | None = None
    cwd: str | None = None
    version: str | None = None
    git_branch: str | None = None
    model: str | None = None
    message: _Content | None = None
    system_payload: _Payload | None = None
    forked_from: _Payload | None = None
    is_sidechain: bool | None = None


QWEN_LINE = msgspec.json.Decoder(_Record)
LINE = msgspec.json.Decoder(_Line)
CONTENT = msgspec.json.Decoder(str | _Part | list[str | _Part] | None)
DOCUMENT = msgspec.json.Decoder(dict[str, msgspec.Raw])
LIST = msgspec.json.Decoder(list[msgspec.Raw])
TEXT = msgspec.json.Decoder(str)


def _parts(content: msgspec.Raw) -> list[_Part]:
    """Read content: a string, a part, or a list of both since 0.25 (formats.md 2.7 Layout history)."""
    found = parse(CONTENT, bytes(content)) if content else None
    parts = found if isinstance(found, list) else [found]
    return [_Part(text=part) if isinstance(part, str) else part for part in parts if part]


def _prompt(content: msgspec.Raw) -> bool:
    parts = _parts(content)
    if not parts or any(part.function_response for part in parts):
        return False
    text = "".join(part.text or "" for part in parts).lstrip()
    return not text.startswith(INJECTED) and bool(text or any(part.text is None for part in parts))


def _entry(message: _Message) -> Entry:
    """Tell what a message says; its id is the same when it is written again, however often (field-notes A.4)."""
    role = None
    if message.type == "user" and _prompt(message.content):
        role = Role.USER
    elif message.type in ANSWERS and (message.tool_calls or _parts(message.content)):
        role = Role.ASSISTANT
    return Entry(
        time_ms=parse_time(message.timestamp),
        role=role,
        key=message.id,
        model=message.model if message.type in ANSWERS else None,
        unknown=None if message.type in KNOWN else message.type,
    )


class GeminiCli(BaseSource):
    """Chats of Gemini CLI: operations since 0.39, before that a document that is written anew at each change."""

    tool: ClassVar[str] = "gemini-cli"
    versions: ClassVar[tuple[str, ...]] = ("0.25.0", "0.61.0")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch is stored",
        "logs.json and checkpoints of before 0.0.77: they have prompts only",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `tmp` of ~/.gemini, and of GEMINI_CLI_HOME, which replaces the home (`utils/paths.ts`)."""
        for home in dict.fromkeys([places.environ.get("GEMINI_CLI_HOME", "").rstrip("/") or places.home, places.home]):
            yield Root(path=f"{home}/.gemini/tmp", depth=3, skip=frozenset(["tool-outputs", "memory", "logs", "bin"]))

    def unit(self, relative: str) -> Unit | None:
        """Tell chats and subagents' chats from activity logs, checkpoints and what was set aside as unreadable.

        A session may have four files: a hash directory and its slug, a document and its operations, a decoy
        (field-notes A.1.5, A.1.6). Each name is a stream; which session's, only the content says.
        """
        found = FILE.fullmatch(relative)
        if not found:
            return None
        project, stem, suffix, parent, child = found.groups()
        beside = (f"{project}/.project_root",)
        if parent:
            own = child if re.fullmatch(UUID, child) else f"{parent}/{child}"
            return Unit(native_id=own, parent=parent, beside=beside)
        if suffix == "json":
            return Unit(kind=Kind.DOCUMENT, stream=f"{stem}.json", beside=beside)
        return Unit(stream=stem, beside=beside)

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Read the working directory, which the chats themselves do not say (formats.md 2.7 working_directory)."""
        return next((Entry(cwd=text.decode().strip()) for text in beside.values()), None)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay a document out as operations: header, messages, and what else it says."""
        for content in files.values():
            document = parse(DOCUMENT, content)
            messages = LIST.decode(document.get("messages", b"[]"))
            rest = {key: value for key, value in document.items() if key not in (*HEADER, *VOLATILE)}
            records = [
                msgspec.json.encode({key: document[key] for key in HEADER if key in document}),
                *map(bytes, messages),
                *([msgspec.json.encode({"$set": rest})] if rest else []),
            ]
            if "sessionId" in document:  # one without must not stop its siblings (formats.md 1.5)
                native_id = TEXT.decode(document["sessionId"])
                compact = [bytes(msgspec.json.format(record, indent=-1)) for record in records]
                yield Portrait(native_id=native_id, stream=unit.stream, records=compact)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an operation does; `$set.messages` and `$rewindTo` take messages back (field-notes A.4 Format)."""
        line = parse(LINE, record)
        if line.set:
            said = line.set.messages
            return Entry(
                time_ms=parse_time(line.set.last_updated),
                title=line.set.summary,
                rewind=None if said is None else "",
                more=tuple(map(_entry, said or ())),
            )
        if line.session_id:
            cwd = line.directories[0] if line.directories else None
            return Entry(time_ms=parse_time(line.start_time), native_id=line.session_id, cwd=cwd)
        if line.to is not None:
            return Entry(rewind=line.to)
        return _entry(line) if line.type else Entry(unknown="?")


def _runtime(settings: bytes, home: str) -> str:
    """Find which directory the settings name for what is written at run time; "" where they name none."""
    with suppress(ValueError):
        if found := RUNTIME.search(settings):
            path = msgspec.json.decode(found[1], type=str).rstrip("/")
            return home + path[1:] if path.startswith("~/") else path
    return ""


class QwenCode(GeminiCli):
    """Chats of Qwen Code: its own records, and Gemini's where they were written before it went its way."""

    tool: ClassVar[str] = "qwen-code"
    versions: ClassVar[tuple[str, ...]] = ("0.0 (Gemini's layout)", "0.24.4")
    gaps: ClassVar[tuple[str, ...]] = (
        "a runtimeOutputDir that a project's own settings name: its root must be named in the configuration",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `projects` and the older `tmp` of ~/.qwen, of QWEN_HOME in its place, and of QWEN_RUNTIME_DIR.

        The settings may name another directory (formats.md 2.20); they may have comments, so it is looked for as text.
        """
        runtime, home = (places.environ.get(name, "").rstrip("/") for name in ("QWEN_RUNTIME_DIR", "QWEN_HOME"))
        homes = dict.fromkeys(filter(None, [home, f"{places.home}/.qwen"]))
        paths = [_runtime(peek(f"{base}/settings.json"), places.home) for base in homes]
        for base in dict.fromkeys(filter(os.path.isabs, [runtime, *paths, *homes])):
            for folder, depth in (("projects", 3), ("tmp", 2)):
                yield Root(path=f"{base}/{folder}", depth=depth, skip=frozenset(["memory"]))
        for base in homes:
            yield Root(path=base, watch=Watch.FLAT, depth=0, registry="settings.json")

    def unit(self, relative: str) -> Unit | None:
        """Tell chats, archived ones (`chats/archive/`) and subagents' transcripts (field-notes A.5 Where)."""
        found = QWEN_FILE.fullmatch(relative)
        if not found:
            return super().unit(relative)
        main, parent, agent = found.groups()
        return Unit(native_id=main) if main else Unit(native_id=parent, stream=agent, thread=False)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a record says. A fork copies records with their uuids and times (field-notes A.5 Fork)."""
        line = parse(QWEN_LINE, record)
        if not line.uuid:
            return super().decode(record, memory)
        role, said, payload = None, line.message.parts if line.message else [], line.system_payload
        if line.is_sidechain:
            pass
        elif line.type == "user" and (line.provenance or line.subtype or "real_user") == "real_user":
            role = Role.USER  # others are notifications and goals; what is typed in the middle of a turn is real
            memory.setdefault("turns", []).append([line.parent_uuid or "", line.uuid])
        elif line.type == "assistant" and any(part.text and not part.thought for part in said):
            role = Role.ASSISTANT
        return Entry(
            time_ms=parse_time(line.timestamp),
            role=role,
            key=line.uuid,
            model=line.model if line.type == "assistant" else None,
            version=line.version,
            cwd=line.cwd,
            branch=line.git_branch,
            title=payload.custom_title if payload else None,
            parent=(line.forked_from.session_id if line.forked_from else None)
            or (payload.parent_session_id if payload and line.subtype == "parent_session" else None),
            native_id=line.session_id,
            rewind=self._rewound(line.parent_uuid or "", memory) if line.subtype == "rewind" else None,
            copied=line.forked_from is not None,
            unknown=None if line.type in QWEN_KNOWN else line.type,
        )

    def _rewound(self, parent: str, memory: Memory) -> str | None:
        """Name the prompt that a rewind goes back behind: its record hangs where that prompt hung (the bundle)."""
        turns = memory.get("turns", [])
        for index, (hung, prompt) in enumerate(turns):
            if hung == parent:
                memory["turns"] = turns[:index]
                return str(prompt)
        return None


SOURCES = (GeminiCli(), QwenCode())
