"""Qwen Code, a fork of Gemini CLI with its own records since: docs/formats/qwen-code.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import Memory, Retention, Root, SideFiles, Unit, UserDirs, Watch
from sessiond.sources.content import blocks, speaker_of, template
from sessiond.sources.gemini_cli import GeminiCli, Part
from sessiond.sources.objects import get_in
from sessiond.sources.records import find_names, parse, unknown_type
from sessiond.sources.tokens import usage
from sessiond.sources.user_dirs import read_small_file, unique_paths

ID = "[0-9a-fA-F-]{32,36}"
FILE = re.compile(rf"[^/]+/(?:chats/(?:archive/)?({ID})|subagents/({ID})/(agent-[\w.-]+))\.jsonl", re.ASCII)
OUTPUT = re.compile(rb"[/\\]([\w.-]+\.output)\b", re.ASCII)
RUNTIME = re.compile(rb'"runtimeOutputDir"\s*:\s*("(?:[^"\\\n]|\\.)+")')
KNOWN = frozenset(["user", "assistant", "tool_result", "system"])


class _Content(msgspec.Struct, gc=False):
    parts: list[Part] = []


class _Payload(msgspec.Struct, gc=False, rename="camel"):
    custom_title: str | None = None
    parent_session_id: str | None = None
    session_id: str | None = None


class _Record(msgspec.Struct, gc=False, rename="camel"):
    """A record. One without a uuid is in Gemini's format."""

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


RECORD = msgspec.json.Decoder(_Record)


class QwenCode(GeminiCli):
    """Chats of Qwen Code: its own records, and Gemini's in the older layout."""

    tool: ClassVar[str] = "qwen-code"
    variables: ClassVar[tuple[str, ...]] = ("QWEN_HOME", "QWEN_RUNTIME_DIR")
    versions: ClassVar[tuple[str, ...]] = ("0.0 (Gemini's layout)", "0.24.4")
    gaps: ClassVar[tuple[str, ...]] = (
        "a runtimeOutputDir in a project's own settings is not found: add its root to the configuration",
        "logs.json is captured of chats without a transcript only",
        "settings.json, and the state of the memory of a project (meta.json, extract-cursor.json, memory/)",
    )
    other_files: ClassVar[tuple[str, ...]] = (r"[^/]+/(?:meta|extract-cursor)\.json", r"settings\.json")

    side_files: ClassVar[tuple[SideFiles, ...]] = (
        SideFiles(r"[0-9a-f]{64}/(?P<name>[\w.-]+\.output)", "full outputs", "outputs/"),
        SideFiles(rf"[^/]+/subagents/(?P<id>{ID})/(?P<name>.+)", "notes about subagents", "subagents/"),
        SideFiles(rf"[^/]+/chats/(?:archive/)?(?P<id>{ID})\.(?P<name>runtime\.json)", "state of the process"),
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return `projects` and the older `tmp` of ~/.qwen, QWEN_HOME, QWEN_RUNTIME_DIR and `runtimeOutputDir`.

        The settings are a root too: when they change, the roots are determined again.
        """
        homes = dirs.with_override("QWEN_HOME", f"{dirs.home}/.qwen")
        named = [dirs.absolute(_runtime_dir(read_small_file(f"{base}/settings.json"))) for base in homes]
        for base in unique_paths(dirs.from_variable("QWEN_RUNTIME_DIR"), *named, *homes):
            for folder, depth in (("projects", 3), ("tmp", 2)):
                yield Root(path=f"{base}/{folder}", depth=depth, skip=frozenset(["memory"]))
        for base in homes:
            yield Root(path=base, watch=Watch.FLAT, depth=0, registry="settings.json", only="settings.json")

    def retention(self, dirs: UserDirs) -> Retention | None:
        """Return None: Qwen Code deletes no sessions."""
        return None

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a chat, an archived chat (`chats/archive/`) or a subagent's transcript."""
        found = FILE.fullmatch(relative)
        if not found:
            return super().unit(relative)
        main, parent, agent = found.groups()
        return Unit(native_id=main) if main else Unit(native_id=parent, stream=agent, thread=False)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a record. A fork copies records with their uuids and times."""
        line = parse(RECORD, record)
        if not line.uuid:
            return super().decode(record, memory)
        payload, fork = line.system_payload or _Payload(), line.forked_from
        parent = payload.parent_session_id if line.subtype == "parent_session" else None
        return Entry(
            time_ms=parse_time(line.timestamp),
            role=_role(line, memory),
            key=line.uuid,
            model=line.model if line.type == "assistant" else None,
            version=line.version,
            cwd=line.cwd,
            branch=line.git_branch,
            title=payload.custom_title,
            parent=(fork.session_id if fork else None) or parent,
            native_id=line.session_id,
            rewind=_rewound_prompt(line, memory) if line.subtype == "rewind" else None,
            copied=fork is not None,
            unknown=unknown_type(line.type, KNOWN),
            mentions=find_names(OUTPUT, b".output", record),
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a record: its message's parts, or a message of the first versions."""
        if "uuid" not in record:
            yield from super().items(record, entry, memory)
            return
        base = template(entry, speaker_of(get_in(record, "message", "role") or record.get("type")))
        base = replace(base, key=entry.key)
        silent = base.speaker is Speaker.USER and not base.counts and not record.get("isSidechain")
        yield from blocks(get_in(record, "message", "parts"), replace(base, injected=silent))
        yield from usage(record.get("usageMetadata"), base, cached_in_input=True)


def _role(record: _Record, memory: Memory) -> Role | None:
    """Return the role of a record that counts. Only prompts from a real user do, not notifications or goals."""
    if record.is_sidechain:
        return None
    if record.type == "user" and (record.provenance or record.subtype or "real_user") == "real_user":
        memory.setdefault("turns", []).append([record.parent_uuid or "", record.uuid])
        return Role.USER
    parts = record.message.parts if record.message and record.type == "assistant" else []
    return Role.ASSISTANT if any(part.text and not part.thought for part in parts) else None


def _rewound_prompt(record: _Record, memory: Memory) -> str | None:
    """Return the first prompt that a rewind removes: the one with the same parent as the rewind's record."""
    turns = memory.get("turns", [])
    for index, (parent, prompt) in enumerate(turns):
        if parent == (record.parent_uuid or ""):
            memory["turns"] = turns[:index]
            return str(prompt)
    return None


def _runtime_dir(settings: bytes) -> str:
    """Return `runtimeOutputDir` of the settings, or "". They may have comments, so the text is searched."""
    with suppress(ValueError):
        if found := RUNTIME.search(settings):
            return msgspec.json.decode(found[1], type=str)
    return ""


SOURCES = (QwenCode(),)
