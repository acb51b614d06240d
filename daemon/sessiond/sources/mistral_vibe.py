"""Mistral Vibe, which has had three stores: docs/formats/mistral-vibe.md.

1.x wrote a document for each session, 2.x a directory with JSON lines and a description, and since 2.26 ("unified") a
directory with generations of content-addressed chunks and a journal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Unit, UserDirs
from sessiond.sources.objects import encode, without_nulls
from sessiond.sources.records import ABSENT, ROLES, UUID, compact, has_content, parse, unknown_type

NAME = r"[\w-]+_\d{8}_\d{6}_[0-9a-f]{8}"
UNIFIED = re.compile(rf"(unified/({UUID}))(?:/.*)?", re.ASCII | re.DOTALL)
DIRECTORY = re.compile(rf"({NAME})(?:/.*)?", re.ASCII | re.DOTALL)
DOCUMENT_FILE = re.compile(rf"{NAME}\.json", re.ASCII)
AGENT = re.compile(r"agents/([\w-]+)/messages\.jsonl", re.ASCII)
IMPORTED = re.compile(r"imported-\d+", re.ASCII)
KNOWN = frozenset(["message", "effect", "meta"])


class _Record(msgspec.Struct, gc=False):
    """A message of any store, or the projected description."""

    type: str = "message"
    id: str | None = None
    message_id: str | None = None
    role: str | None = None
    content: msgspec.Raw = ABSENT
    tool_calls: list[msgspec.Raw] | None = None
    injected: bool | None = None
    created: float | None = msgspec.field(name="createdAt", default=None)
    time: str | None = None
    cwd: str | None = None
    branch: str | None = None
    model: str | None = None
    parent: str | None = None
    title: str | None = None


class _Environment(msgspec.Struct):
    working_directory: str | None = None


class _Config(msgspec.Struct):
    active_model: str | None = None
    model_name: str | None = None


class _Meta(msgspec.Struct):
    """meta.json, or `metadata` in a document of 1.x. Its other fields include the user's name and settings."""

    session_id: str
    parent_session_id: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    git_branch: str | None = None
    environment: _Environment | None = None
    config: _Config | None = None
    agent_config: _Config | None = None
    title: str | None = None
    git_commit: str | None = None
    stats: Any = None
    total_messages: int | None = None
    child_sessions: Any = None
    loops: Any = None
    origin_directory: str | None = None
    created_worktree: Any = None
    import_provenance: Any = None


class _Imported(msgspec.Struct):
    session_id: str | None = None


class _Provenance(msgspec.Struct):
    source: _Imported | None = None


class _Runtime(msgspec.Struct):
    """runtime-state.json of a generation. Its other fields include instructions and settings."""

    import_provenance: _Provenance | None = None


class _Document(msgspec.Struct):
    """A session of 1.x."""

    metadata: _Meta
    messages: list[msgspec.Raw]


class _Identified(msgspec.Struct, gc=False):
    id: str | None = None


class _Current(msgspec.Struct):
    generation: str


class _Chunks(msgspec.Struct):
    chunks: list[str] = []


class _Segment(msgspec.Struct):
    path: str = ""


class _Manifest(msgspec.Struct):
    projection_state: _Chunks
    recovery_journal_segment: _Segment | None = None


class _Change(msgspec.Struct):
    op: str = ""
    id: str | None = None
    entry: msgspec.Raw = ABSENT


class _Changes(msgspec.Struct):
    delta: list[_Change] = []


class _JournalLine(msgspec.Struct):
    type: str = ""
    payload: msgspec.Raw = ABSENT


RECORD, META = msgspec.json.Decoder(_Record), msgspec.json.Decoder(_Meta)
DOCUMENT = msgspec.json.Decoder(_Document)
IDENTIFIED, LIST = msgspec.json.Decoder(_Identified), msgspec.json.Decoder(list[msgspec.Raw])
CURRENT, MANIFEST = msgspec.json.Decoder(_Current), msgspec.json.Decoder(_Manifest)
RUNTIME = msgspec.json.Decoder(_Runtime)
JOURNAL_LINE, CHANGES = msgspec.json.Decoder(_JournalLine), msgspec.json.Decoder(_Changes)


class MistralVibe(BaseSource):
    """Sessions of Mistral Vibe. Their ids have the shape of UUIDs."""

    tool: ClassVar[str] = "mistral-vibe"
    variables: ClassVar[tuple[str, ...]] = ("VIBE_HOME",)
    versions: ClassVar[tuple[str, ...]] = ("1.3", "2.26.1", "3.0.2")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or title is stored, and since 3.0 no branch",
        "a session of 1.x that 2.x took over may appear twice",
        "a parent is stored since 2.0, for forks and compaction only",
        "the user's name, the system prompt, the tools and the configuration, which holds keys",
        "plugins/ has the tool's own plugins, and .session-index.json repeats what the sessions say of themselves",
    )
    other_files: ClassVar[tuple[str, ...]] = (r"(?:unified/)?\.session-index\.json",)
    projection_version: ClassVar[int] = 2

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return `logs/session` of VIBE_HOME and ~/.vibe."""
        for home in dirs.with_override("VIBE_HOME", f"{dirs.home}/.vibe"):
            yield Root(path=f"{home}/logs/session", depth=5, skip=frozenset(["plugins", "active"]))

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a session's directory, or of a document of 1.x."""
        if found := UNIFIED.fullmatch(relative):
            return Unit(kind=Kind.FOLDER, path=found[1], native_id=found[2])
        if DOCUMENT_FILE.fullmatch(relative):
            return Unit(kind=Kind.DOCUMENT)
        found = DIRECTORY.fullmatch(relative)
        return Unit(kind=Kind.FOLDER, path=found[1]) if found else None

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project the messages, and the description, which is rewritten at each save, as another stream.

        Raises: ValueError for a directory without a description, or with an incomplete generation.
        """
        if unit.kind is Kind.DOCUMENT:
            for content in files.values():
                document = parse(DOCUMENT, content)
                yield Projection(native_id=document.metadata.session_id, records=map(compact, document.messages))
                yield _description(document.metadata)
            return
        if not any(content for name, content in files.items() if name != "meta.json"):
            return  # a session that was begun and has no message
        if "meta.json" not in files:
            raise ValueError("the session has no description yet")
        meta = parse(META, files["meta.json"])
        if "CURRENT" in files:
            yield Projection(native_id=meta.session_id, records=map(compact, _unified_entries(files).values()))
            meta = replace(meta, parent_session_id=meta.parent_session_id or _imported_from(files))
        else:
            if files.get("messages.jsonl") == b"":
                raise ValueError("the messages are being written")
            yield Projection(native_id=meta.session_id, records=_lines(files.get("messages.jsonl", b"")))
        for name in sorted(files):
            if found := AGENT.fullmatch(name):
                yield Projection(native_id=meta.session_id, stream=found[1], thread=False, records=_lines(files[name]))
        yield _description(meta)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a message. In 2.x it has no time: the description has the first and the last."""
        item = parse(RECORD, record)
        key = item.message_id or item.id
        # An imported message is counted in the session of 2.x that it was imported from, under another key.
        counts = item.type == "message" and not item.injected and not IMPORTED.fullmatch(key or "")
        role = ROLES.get(item.role or "") if counts else None
        if role and not item.tool_calls and not has_content(item.content, silent=("thinking", "reasoning")):
            role = None
        return Entry(
            time_ms=parse_time(item.time or item.created),
            role=role,
            key=key,
            model=item.model,
            cwd=item.cwd,
            branch=None if item.branch == "HEAD" else item.branch,  # "HEAD" if no branch is checked out
            parent=item.parent,
            title=item.title if item.type == "meta" else None,
            unknown=unknown_type(item.type, KNOWN),
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a message. The tool added none of the imported ones."""
        imported = IMPORTED.fullmatch(entry.key or "") is not None
        for item in super().items(record, entry, memory):
            yield replace(item, injected=item.injected and not imported)


def _description(meta: _Meta) -> Projection:
    """Project the description: a record with the first time, and one with the last and with what changes."""
    config = meta.config or meta.agent_config or _Config()
    facts = {
        "cwd": meta.environment.working_directory if meta.environment else None,
        "branch": meta.git_branch,
        "model": config.model_name or config.active_model,
        "parent": meta.parent_session_id,
        "title": meta.title,
        "git_commit": meta.git_commit,
        "origin_directory": meta.origin_directory,
        "created_worktree": meta.created_worktree,
        "import_provenance": meta.import_provenance,
    }
    state = {
        "stats": meta.stats,
        "total_messages": meta.total_messages,
        "child_sessions": meta.child_sessions,
        "loops": meta.loops,
    }
    times = [time for time in (meta.start_time, meta.end_time) if time]
    records = [{"type": "meta", "time": time, **facts} for time in times[:1]]
    records += [{"type": "meta", "time": time, **state} for time in times[1:]]
    return Projection(
        native_id=meta.session_id, stream="meta", records=[encode(without_nulls(each)) for each in records]
    )


def _unified_entries(files: Mapping[str, bytes]) -> dict[str, msgspec.Raw]:
    """Return the entries of the current generation with the journal's additions and replacements, by id.

    The chunks of `projection_state` are read because they have times; those of the checkpoint have none.
    """
    generation = parse(CURRENT, files["CURRENT"]).generation
    name = f"generations/{generation}/manifest.json"
    if name not in files:
        raise ValueError("the generation is not there yet")
    manifest, entries = parse(MANIFEST, files[name]), dict[str, msgspec.Raw]()
    for chunk in manifest.projection_state.chunks:
        if f"chunks/{chunk}.json" not in files:
            raise ValueError("a chunk of the generation is not there yet")
        for entry in parse(LIST, files[f"chunks/{chunk}.json"]):
            entries[parse(IDENTIFIED, bytes(entry)).id or str(len(entries))] = entry
    journal = manifest.recovery_journal_segment.path if manifest.recovery_journal_segment else ""
    for change in _journal_changes(_lines(files.get(journal, b""))):
        if bytes(change.entry):
            entries[parse(IDENTIFIED, bytes(change.entry)).id or change.id or str(len(entries))] = change.entry
    return entries


def _imported_from(files: Mapping[str, bytes]) -> str | None:
    """Return the id of the session of 2.x that was imported into this one."""
    name = f"generations/{parse(CURRENT, files['CURRENT']).generation}/runtime-state.json"
    provenance = parse(RUNTIME, files[name]).import_provenance if name in files else None
    return provenance.source.session_id if provenance and provenance.source else None


def _journal_changes(lines: Iterable[bytes]) -> Iterator[_Change]:
    for line in lines:
        step = parse(JOURNAL_LINE, line)
        if step.type == "projection_delta":
            yield from CHANGES.decode(step.payload).delta


def _lines(content: bytes) -> list[bytes]:
    """Return the complete lines."""
    return [line for line in content.split(b"\n")[:-1] if line]


SOURCES = (MistralVibe(),)
