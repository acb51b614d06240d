"""Mistral Vibe: formats.md 2.27, field-notes B.2 "Mistral Vibe". It has had three stores.

1.x kept a document a session, 2.x a directory with JSON lines and a description, and since 2.26 ("unified") a directory
with generations of content-addressed chunks and a journal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit, parse, speaks
from sessiond.sources.vibe.unified import entries_of, lines_of

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
NAME = r"[\w-]+_\d{8}_\d{6}_[0-9a-f]{8}"
UNIFIED = re.compile(rf"(unified/({UUID}))(?:/.*)?", re.ASCII | re.DOTALL)
LINES = re.compile(rf"({NAME})(?:/.*)?", re.ASCII | re.DOTALL)
DOCUMENT = re.compile(rf"{NAME}\.json", re.ASCII)
AGENT = re.compile(r"agents/([\w-]+)/messages\.jsonl", re.ASCII)
ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
KNOWN = frozenset(["message", "effect", "meta"])  # seen in 3.0.2
NONE = msgspec.Raw(b"")


class _Environment(msgspec.Struct):
    working_directory: str | None = None


class _Config(msgspec.Struct):
    active_model: str | None = None
    model_name: str | None = None


class _Meta(msgspec.Struct):
    """meta.json: beside this, user name, system prompt and the whole configuration (formats.md 1.8)."""

    session_id: str
    parent_session_id: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    git_branch: str | None = None
    environment: _Environment | None = None
    config: _Config | None = None
    agent_config: _Config | None = None
    title: str | None = None


class _Document(msgspec.Struct):
    metadata: _Meta
    messages: list[msgspec.Raw]


class _Record(msgspec.Struct, gc=False):
    """A message of either kind, or what `project` says of the session."""

    type: str = "message"
    id: str | None = None
    message_id: str | None = None
    role: str | None = None
    content: msgspec.Raw = NONE
    tool_calls: list[msgspec.Raw] | None = None
    injected: bool | None = None
    created: float | None = msgspec.field(name="createdAt", default=None)
    time: str | None = None
    cwd: str | None = None
    branch: str | None = None
    model: str | None = None
    parent: str | None = None
    title: str | None = None


META, WHOLE = msgspec.json.Decoder(_Meta), msgspec.json.Decoder(_Document)
RECORD = msgspec.json.Decoder(_Record)


class Vibe(BaseSource):
    """Sessions of Mistral Vibe, whose ids have the shape of UUIDs."""

    tool: ClassVar[str] = "mistral-vibe"
    versions: ClassVar[tuple[str, ...]] = ("1.3", "2.26.1", "3.0.2")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or title is kept; a branch since 3.0 neither",
        "a session that another major version took over may be seen twice",
        "a parent is named since 2.0 only where the tool forked or compacted",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name logs/session of ~/.vibe and of VIBE_HOME."""
        given = places.environ.get("VIBE_HOME", "").rstrip("/")
        for home in dict.fromkeys(filter(None, [given, f"{places.home}/.vibe"])):
            yield Root(path=f"{home}/logs/session", depth=5, skip=frozenset(["plugins", "active"]))

    def unit(self, relative: str) -> Unit | None:
        """Tell the directories of sessions, and the documents of 1.x."""
        if found := UNIFIED.fullmatch(relative):
            return Unit(kind=Kind.FOLDER, path=found[1], native_id=found[2])
        if DOCUMENT.fullmatch(relative):
            return Unit(kind=Kind.DOCUMENT)
        found = LINES.fullmatch(relative)
        return Unit(kind=Kind.FOLDER, path=found[1]) if found else None

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out the messages; the description, which is written at each save, is a stream of its own.

        Raises: ValueError for a directory without a description, or whose generation is not all there.
        """
        if unit.kind is Kind.DOCUMENT:
            for content in files.values():
                document = parse(WHOLE, content)
                yield Portrait(native_id=document.metadata.session_id, records=map(_line, document.messages))
                yield _described(document.metadata)
            return
        if "meta.json" not in files:
            raise ValueError("the session has no description yet")
        meta = parse(META, files["meta.json"])
        if "CURRENT" in files:
            yield Portrait(native_id=meta.session_id, records=map(_line, entries_of(files).values()))
        else:
            if files.get("messages.jsonl") == b"":
                raise ValueError("the messages are being written")
            yield Portrait(native_id=meta.session_id, records=lines_of(files.get("messages.jsonl", b"")))
        for name in sorted(files):
            if found := AGENT.fullmatch(name):
                yield Portrait(native_id=meta.session_id, stream=found[1], thread=False, records=lines_of(files[name]))
        yield _described(meta)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a message says. In 2.x it has no time: the description has the first and the last."""
        said = parse(RECORD, record)
        role = None if said.injected or said.type != "message" else ROLES.get(said.role or "")
        if role and not said.tool_calls and not speaks(said.content, silent=("thinking", "reasoning")):
            role = None
        return Entry(
            time_ms=parse_time(said.time or said.created),
            role=role,
            key=said.message_id or said.id,
            model=said.model,
            cwd=said.cwd,
            # "HEAD" where none is checked out (formats.md 2.27).
            branch=None if said.branch == "HEAD" else said.branch,
            parent=said.parent,
            title=said.title if said.type == "meta" else None,
            unknown=None if said.type in KNOWN else said.type,
        )


def _described(meta: _Meta) -> Portrait:
    config = meta.config or meta.agent_config or _Config()
    described = {
        "cwd": meta.environment.working_directory if meta.environment else None,
        "branch": meta.git_branch,
        "model": config.model_name or config.active_model,
        "parent": meta.parent_session_id,
        "title": meta.title,
    }
    times = [time for time in (meta.start_time, meta.end_time) if time]
    records = [{"type": "meta", "time": time, **described} for time in times[:1]]
    records += [{"type": "meta", "time": time} for time in times[1:]]
    return Portrait(native_id=meta.session_id, stream="meta", records=map(msgspec.json.encode, records))


def _line(raw: msgspec.Raw) -> bytes:
    return bytes(msgspec.json.format(bytes(raw), indent=-1))


SOURCES = (Vibe(),)
