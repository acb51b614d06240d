"""Cline: tasks of its editor extension, and sessions of its command line (SDK): docs/formats/cline.md.

Roo Code, Kilo Code before 7 and PearAI's agent keep tasks in the same shape; their sources derive from `Tasks`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, SideFiles, Unit, UserDirs, Watch
from sessiond.sources.editors import user_data_dirs
from sessiond.sources.messages import message_items
from sessiond.sources.objects import OBJECT, without_nulls
from sessiond.sources.records import ABSENT, BLOCKS, SILENT_BLOCKS, compact, has_content, parse, unknown_type

TASK = re.compile(r"([\w-]{8,64})/(api_conversation_history|ui_messages|task_metadata|history_item)\.json", re.ASCII)
TASK_STREAMS = {"api_conversation_history": "main", "ui_messages": "ui", "task_metadata": "metadata"}
SESSION = re.compile(r"(\d+(?:_\w+)?)/(?:\1(\.messages)?|(agent_\w+)\.messages)\.json", re.ASCII)
CWD = re.compile(rb"# Current (?:Working|Workspace) Directory \((.+?)\) Files\b")
# Text that the extension writes in the user's name. Tool results were text before native tool calls.
INJECTED = re.compile(
    rb'"(?:\s|\\[nrt])*(?:<environment_details>|<explicit_instructions|<hook_context|\[ERROR\]|\[TASK RESUMPTION\]'
    rb"|\[[\w-]+(?: for [^\]]*)?\] Result:|Warning: this is a legacy conversation)"
)
WRITTEN = re.compile(r"(?s)\s*<(?:task|feedback|user_\w+|answer)\b[^>]*>\s*(.*?)\s*(?:</\w+>\s*)?")
HUMAN = re.compile(rb"<(?:task|feedback|user_message|user_input|answer)\b")
# This text ends the messages that an SDK session took over from a task of the extension.
TAKEN_OVER = b"Warning: this is a legacy conversation, which means tool names may have changed."
SILENT = (*SILENT_BLOCKS, "reasoning")
ENDED = frozenset(["completed", "cancelled", "failed", "error"])
NOTES = ("say", "ask", "session", "task", "used", "end")


class _Model(msgspec.Struct, gc=False):
    """A message's model: `modelId` in the extension, `id` in the SDK."""

    id: str | None = None
    model: str | None = msgspec.field(name="modelId", default=None)


class Record(msgspec.Struct, gc=False):
    """A message of the model's conversation, a message of the user interface, or projected facts of the session."""

    id: str | None = None
    role: str | None = None
    content: msgspec.Raw = ABSENT
    ts: float | None = None
    model_info: _Model | None = msgspec.field(name="modelInfo", default=None)
    is_summary: bool = msgspec.field(name="isSummary", default=False)
    type: str | None = None
    at: str | None = None
    model: str | None = None
    cwd: str | None = None
    branch: str | None = None
    version: str | None = None
    title: str | None = None
    parent: str | None = None


class _HistoryItem(msgspec.Struct, rename="camel"):
    """`history_item.json`, which Roo Code keeps beside a task."""

    id: str = ""
    ts: float | None = None
    task: str | None = None
    workspace: str | None = None
    cwd_on_task_initialization: str | None = None
    model_id: str | None = None
    status: str | None = None
    parent_task_id: str | None = None


class _Metadata(msgspec.Struct):
    """`task_metadata.json`."""

    model_usage: list[dict[str, Any]] = []
    environment_history: list[dict[str, Any]] = []


class _Git(msgspec.Struct):
    branch: str | None = None
    version: str | None = None


class _Details(msgspec.Struct):
    git: _Git | None = None
    origin: _Git | None = msgspec.field(name="sessionHistoryOrigin", default=None)
    title: str | None = None


class _Manifest(msgspec.Struct):
    """`<id>.json` of an SDK session."""

    session_id: str
    started_at: str | None = None
    ended_at: str | None = None
    status: str | None = None
    model: str | None = None
    cwd: str | None = None
    metadata: _Details | None = None


class _Messages(msgspec.Struct):
    """`<id>.messages.json` of an SDK session."""

    messages: list[msgspec.Raw]


class _Partial(msgspec.Struct, gc=False):
    partial: bool | None = None


RECORD = msgspec.json.Decoder(Record)
LIST, HISTORY_ITEM = msgspec.json.Decoder(list[msgspec.Raw]), msgspec.json.Decoder(_HistoryItem)
METADATA, MANIFEST = msgspec.json.Decoder(_Metadata), msgspec.json.Decoder(_Manifest)
MESSAGES, PARTIAL = msgspec.json.Decoder(_Messages), msgspec.json.Decoder(_Partial)


class Tasks(BaseSource):
    """Tasks of an extension of Cline's family: a directory for each task, with a few JSON documents.

    They are scanned instead of watched: there are thousands, and Roo Code keeps a shadow repository in each.
    """

    projection_version: ClassVar[int] = 2
    local_ids: ClassVar[bool] = True
    extension: ClassVar[str]
    """The extension's id, which names its directory in an editor's storage."""
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        SideFiles(
            r"(?P<id>[\w-]{8,64})/(?P<name>(?!settings\.json|checkpoints/).+)",
            "history of the context, outputs of commands",
        ),
    )
    other_files: ClassVar[tuple[str, ...]] = (r"[\w-]{8,64}/(?:settings\.json|checkpoints/.+)", r"_index\.json")

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the extension's tasks in every editor, local and remote."""
        for user in user_data_dirs(dirs):
            yield tasks_root(f"{user}/globalStorage/{self.extension}/tasks")

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of one of a task's documents, each of which is a stream."""
        found = TASK.fullmatch(relative)
        if not found:
            return None
        return Unit(kind=Kind.DOCUMENT, native_id=found[1], stream=TASK_STREAMS.get(found[2], "history"))

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project a list of messages, one a record; of other documents, the few fields that are read."""
        for content in files.values():
            records = list(_records(content, unit.stream))
            yield Projection(native_id=unit.native_id or "", stream=unit.stream, thread=unit.thread, records=records)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a message, or projected facts of the session."""
        item = parse(RECORD, record)
        if item.role is None:
            return self._decode_note(item)
        role, cwd = None, None
        if item.role == "assistant" and not item.is_summary and has_content(item.content, silent=SILENT):
            role = Role.ASSISTANT
        elif item.role == "user" and not item.is_summary:
            role = Role.USER if _is_prompt(item.content) else None
            if not memory.get("cwd") and (found := CWD.search(bytes(item.content))):
                memory["cwd"] = True
                cwd = found[1].decode(errors="replace").replace("\\\\", "\\")
        taken_over = item.role == "user" and TAKEN_OVER in bytes(item.content)
        return Entry(
            time_ms=parse_time(item.ts),
            role=role,
            key=item.id or (None if item.ts is None else str(item.ts)),
            model=item.model_info.model or item.model_info.id if item.model_info else None,
            cwd=cwd,
            unknown=unknown_type(item.role, ("user", "assistant", "system")),
            # An unknown key takes back all messages so far: the task itself has them, under its own keys.
            rewind="taken over" if taken_over else None,
        )

    def _decode_note(self, note: Record) -> Entry:
        return Entry(
            time_ms=parse_time(note.ts) or parse_time(note.at),
            model=note.model,
            version=note.version,
            cwd=note.cwd,
            branch=note.branch,
            title=note.title,
            parent=note.parent,
            ended=note.type == "end",
            unknown=unknown_type(note.type, NOTES),
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a message. What the user wrote is in a tag; blocks of the extension are beside it."""
        for item in message_items(record, entry):
            written = WRITTEN.fullmatch(item.text) if item.speaker is Speaker.USER else None
            injected = item.injected or item.text.startswith("<environment_details>")
            yield replace(item, text=written[1] if written else item.text, injected=injected)


class Cline(Tasks):
    """Tasks of Cline's extension, and sessions of its SDK: a manifest and a document of messages each."""

    tool: ClassVar[str] = "cline"
    variables: ClassVar[tuple[str, ...]] = ("CLINE_DATA_DIR", "CLINE_DIR", "CLINE_SESSION_DATA_DIR")
    versions: ClassVar[tuple[str, ...]] = ("3.8 and 4.0 (extension)", "3.0.65 (CLI)")
    gaps: ClassVar[tuple[str, ...]] = (
        "if the tool is killed in the first turn, the prompt is in the manifest but not a message",
        "the system prompt, which the tool builds again, and the list of files in a task's context",
        "taskHistory.json is not read: the folder of a task comes from its first message",
        "no parent: the messages of subagents are streams of their session",
        "settings of a task may hold keys, and its checkpoints are a repository: both are left out",
    )
    extension: ClassVar[str] = "saoudrizwan.claude-dev"

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the extension's tasks, and tasks and sessions of ~/.cline/data and the directories in variables."""
        yield from super().roots(dirs)
        named = dirs.from_variable("CLINE_DIR", "/data")
        bases = dirs.with_override("CLINE_DATA_DIR", named, f"{dirs.home}/.cline/data")
        for base in bases:
            yield tasks_root(f"{base}/tasks")
        for path in dirs.with_override("CLINE_SESSION_DATA_DIR", *(f"{base}/sessions" for base in bases)):
            yield Root(path=path, depth=1)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a document of a task or a session; a subagent's messages are a stream of its session.

        A session that the SDK made from a task keeps the task's id: it is the same session, continued elsewhere.
        """
        found = SESSION.fullmatch(relative)
        if not found:
            return super().unit(relative)
        native_id, messages, agent = found.groups()
        stream = agent or (("main" if "_" in native_id else "sdk") if messages else "session")
        return Unit(kind=Kind.DOCUMENT, native_id=native_id, stream=stream, thread=not agent)


def tasks_root(path: str) -> Root:
    """Return the root for a directory of tasks."""
    return Root(path=path, watch=Watch.SCAN, depth=2, skip=frozenset(["checkpoints"]))


def _records(content: bytes, stream: str) -> Iterable[bytes]:
    encode = msgspec.json.encode
    if stream == "metadata":
        metadata = parse(METADATA, content)
        for used in (*metadata.model_usage, *metadata.environment_history):
            facts = {"model": used.get("model_id"), "version": used.get("cline_version")}
            yield encode(without_nulls({**used, "type": "used", **facts}))
    elif stream == "history":
        item = parse(HISTORY_ITEM, content)
        cwd = item.workspace or item.cwd_on_task_initialization
        task = {"title": item.task and item.task[:200], "model": item.model_id, "parent": item.parent_task_id}
        # Its counters of tokens and its relatives. The task's whole text is the first message.
        rest = {name: value for name, value in parse(OBJECT, content).items() if name != "task"}
        yield encode({"type": "task", "ts": item.ts, "cwd": cwd, **task, "item": rest})
        if item.status == "completed":
            yield encode({"type": "end", "ts": item.ts})
    elif stream == "session":
        manifest = parse(MANIFEST, content)
        details = manifest.metadata or _Details()
        own = {"at": manifest.started_at, "model": manifest.model, "cwd": manifest.cwd, "title": details.title}
        git = {"branch": details.git and details.git.branch, "version": details.origin and details.origin.version}
        yield encode({"type": "session", **own, **git, "manifest": _manifest(content)})
        if manifest.status in ENDED:
            yield encode({"type": "end", "at": manifest.ended_at})
    else:
        messages = parse(LIST, content) if content.lstrip().startswith(b"[") else parse(MESSAGES, content).messages
        # The last message of the user interface is left out as long as it grows.
        yield from (compact(message) for message in messages if not parse(PARTIAL, bytes(message)).partial)


def _manifest(content: bytes) -> dict[str, Any]:
    """Return a manifest without the system prompt, which is as long as a conversation and the same for all."""
    manifest = parse(OBJECT, content)
    if isinstance(details := manifest.get("metadata"), dict):
        details.pop("systemPrompt", None)
    return manifest


def _is_prompt(content: msgspec.Raw) -> bool:
    """Return whether a human wrote part of a user's message. In older messages a tool's result is a text block too."""
    source = bytes(content)
    if not source.startswith(b"["):
        return has_content(content, injected=INJECTED)
    blocks = BLOCKS.decode(source)
    texts = [bytes(block.text) for block in blocks if not isinstance(block, str) and block.type == "text"]
    if any(HUMAN.search(text[:400]) for text in texts):
        return True
    return bool(texts) and not INJECTED.match(texts[0][:256]) and has_content(content, silent=SILENT, injected=INJECTED)


SOURCES = (Cline(),)
