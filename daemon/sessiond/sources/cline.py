"""Cline, and what was forked from it: formats.md 2.9 to 2.11, field-notes B.2 "Cline CLI 3.0.65".

The extensions keep a directory of JSON documents per task. Cline's CLI (and its extension, by and by) keeps
sessions of a manifest and a document of messages instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BLOCKS, BaseSource, Kind, Memory, Places, Portrait, Root, Unit, Watch, parse, speaks

EDITORS = ("Code", "Code - Insiders", "VSCodium", "Cursor", "Windsurf")
SERVERS = (".vscode-server", ".vscode-server-insiders", ".cursor-server", ".windsurf-server")
TASK = re.compile(r"([\w-]{8,64})/(api_conversation_history|ui_messages|task_metadata|history_item)\.json", re.ASCII)
STREAMS = {"api_conversation_history": "main", "ui_messages": "ui", "task_metadata": "metadata"}
SESSION = re.compile(r"(\d+(?:_\w+)?)/(?:\1(\.messages)?|(agent_\w+)\.messages)\.json", re.ASCII)
# What the extension says in the user's name; tool results were text before native tool calls.
INJECTED = re.compile(
    rb'"(?:\s|\\[nrt])*(?:<environment_details>|<explicit_instructions|<hook_context|\[ERROR\]|\[TASK RESUMPTION\]'
    rb"|\[[\w-]+(?: for [^\]]*)?\] Result:|Warning: this is a legacy conversation)"
)
# It ends what a session of the SDK took over from a task of the extension (legacy-task-handling.ts).
TAKEN_OVER = b"Warning: this is a legacy conversation, which means tool names may have changed."
HUMAN = re.compile(rb"<(?:task|feedback|user_message|user_input|answer)\b")
CWD = re.compile(rb"# Current (?:Working|Workspace) Directory \((.+?)\) Files\b")
FINAL = frozenset(["completed", "cancelled", "failed", "error"])
SILENT = ("tool_result", "thinking", "redacted_thinking", "reasoning")
NONE = msgspec.Raw(b"")


class _Model(msgspec.Struct, gc=False):
    """A message's model: `modelId` the extension's, `id` the SDK's."""

    id: str | None = None
    model: str | None = msgspec.field(name="modelId", default=None)


class _Record(msgspec.Struct, gc=False):
    """A message of a model's conversation, one of the user interface's, or what `project` took from elsewhere."""

    id: str | None = None
    role: str | None = None
    content: msgspec.Raw = NONE
    ts: float | None = None
    modelInfo: _Model | None = None  # noqa: N815 - as it is written
    isSummary: bool = False  # noqa: N815
    type: str | None = None
    at: str | None = None
    model: str | None = None
    cwd: str | None = None
    branch: str | None = None
    version: str | None = None
    title: str | None = None
    parent: str | None = None


class _Item(msgspec.Struct, rename="camel"):
    """A history item: Cline's in taskHistory.json, Roo Code's beside the task."""

    id: str = ""
    ts: float | None = None
    task: str | None = None
    workspace: str | None = None
    cwd_on_task_initialization: str | None = None
    model_id: str | None = None
    status: str | None = None
    parent_task_id: str | None = None


class _Used(msgspec.Struct):
    ts: float | None = None
    model: str | None = msgspec.field(name="model_id", default=None)
    version: str | None = msgspec.field(name="cline_version", default=None)


class _Metadata(msgspec.Struct):
    model_usage: list[_Used] = []
    environment_history: list[_Used] = []


class _Git(msgspec.Struct):
    branch: str | None = None
    version: str | None = None


class _Details(msgspec.Struct):
    git: _Git | None = None
    origin: _Git | None = msgspec.field(name="sessionHistoryOrigin", default=None)
    title: str | None = None


class _Manifest(msgspec.Struct):
    session_id: str
    started_at: str | None = None
    ended_at: str | None = None
    status: str | None = None
    model: str | None = None
    cwd: str | None = None
    metadata: _Details | None = None


class _Messages(msgspec.Struct):
    messages: list[msgspec.Raw]


class _Partial(msgspec.Struct, gc=False):
    partial: bool | None = None


LIST = msgspec.json.Decoder(list[msgspec.Raw])
ITEM = msgspec.json.Decoder(_Item)
METADATA = msgspec.json.Decoder(_Metadata)
MANIFEST = msgspec.json.Decoder(_Manifest)
MESSAGES = msgspec.json.Decoder(_Messages)
PARTIAL = msgspec.json.Decoder(_Partial)
RECORD = msgspec.json.Decoder(_Record)


class Tasks(BaseSource):
    """Tasks of an extension of Cline's family: `tasks/<id>/` with a document for each thing.

    They are left to the rescan: there are thousands, and Roo Code keeps a shadow repository in each.
    """

    local_ids: ClassVar[bool] = True
    extension: ClassVar[str]

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the tasks in every editor's storage, local and on a server (formats.md 2.9 Directory)."""
        bases = [f"{places.config}/{editor}" for editor in EDITORS]
        bases += [f"{places.home}/{server}/data" for server in SERVERS]
        for base in bases:
            yield tasks(f"{base}/User/globalStorage/{self.extension}/tasks")

    def unit(self, relative: str) -> Unit | None:
        """Tell a task's documents: what went to the model, what the user saw, and what was noted of it."""
        found = TASK.fullmatch(relative)
        if not found:
            return None
        return Unit(kind=Kind.DOCUMENT, native_id=found[1], stream=STREAMS.get(found[2], "history"))

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out a list of messages, one a line; of the rest, take the few fields that are looked at."""
        for content in files.values():
            records = list(_records(content, unit.stream))
            yield Portrait(native_id=unit.native_id or "", stream=unit.stream, thread=unit.thread, records=records)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a message says."""
        said = parse(RECORD, record)
        if said.role is None:
            return self._note(said)
        role, cwd = None, None
        if said.role == "assistant" and not said.isSummary and speaks(said.content, silent=SILENT):
            role = Role.ASSISTANT
        elif said.role == "user" and not said.isSummary:
            role = Role.USER if _prompt(said.content) else None
            if not memory.get("cwd") and (found := CWD.search(bytes(said.content))):
                memory["cwd"] = True
                cwd = found[1].decode(errors="replace").replace("\\\\", "\\")
        taken = said.role == "user" and TAKEN_OVER in bytes(said.content)
        model = said.modelInfo.model or said.modelInfo.id if said.modelInfo else None
        key = said.id or (None if said.ts is None else str(said.ts))
        unknown = None if said.role in ("user", "assistant", "system") else said.role
        rewind = "taken over" if taken else None  # all of them: the task itself has them, with its own keys
        return Entry(
            time_ms=parse_time(said.ts), role=role, key=key, model=model, cwd=cwd, unknown=unknown, rewind=rewind
        )

    def _note(self, said: _Record) -> Entry:
        return Entry(
            time_ms=parse_time(said.ts) or parse_time(said.at),
            model=said.model,
            version=said.version,
            cwd=said.cwd,
            branch=said.branch,
            title=said.title,
            parent=said.parent,
            ended=said.type == "end",
            unknown=None if said.type in ("say", "ask", "session", "task", "used", "end") else said.type or "?",
        )


class Cline(Tasks):
    """Tasks of Cline's extension, and sessions of its CLI."""

    tool: ClassVar[str] = "cline"
    versions: ClassVar[tuple[str, ...]] = ("3.8 and 4.0 (extension)", "3.0.65 (CLI)")
    gaps: ClassVar[tuple[str, ...]] = (
        "a prompt that was killed in its first turn is the title, but no message yet",
        "taskHistory.json is not read: the folder of a task comes from its first message",
        "no parent: subagents' messages are in files of their own that are not read",
    )
    extension: ClassVar[str] = "saoudrizwan.claude-dev"

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the extension's tasks, and tasks and sessions of ~/.cline, CLINE_DIR and the data directories."""
        yield from super().roots(places)
        given = places.environ.get
        home = given("CLINE_DIR") and f"{given('CLINE_DIR')}/data"
        bases = [base.rstrip("/") for base in (given("CLINE_DATA_DIR"), home, f"{places.home}/.cline/data") if base]
        for base in dict.fromkeys(bases):
            yield tasks(f"{base}/tasks")
        own = given("CLINE_SESSION_DATA_DIR", "").rstrip("/")
        for path in dict.fromkeys(filter(None, [own, *(f"{base}/sessions" for base in bases)])):
            yield Root(path=path, depth=1)

    def unit(self, relative: str) -> Unit | None:
        """Tell the documents of a task or a session; a subagent's messages are a stream of its session.

        A session that the SDK made of a task has the task's id: it is the same session, gone on elsewhere.
        """
        found = SESSION.fullmatch(relative)
        if not found:
            return super().unit(relative)
        native_id, messages, agent = found.groups()
        stream = agent or (("main" if "_" in native_id else "sdk") if messages else "session")
        return Unit(kind=Kind.DOCUMENT, native_id=native_id, stream=stream, thread=not agent)


class RooCode(Tasks):
    """Tasks of Roo Code (it ended in May 2026)."""

    tool: ClassVar[str] = "roo-code"
    versions: ClassVar[tuple[str, ...]] = ("3.52.1",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch or (mostly) model is kept",
        "a customStoragePath must be named in the configuration",
    )
    extension: ClassVar[str] = "rooveterinaryinc.roo-cline"

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the extension's tasks, and those of its CLI (formats.md 2.10 Directory)."""
        yield from super().roots(places)
        yield tasks(f"{places.home}/.vscode-mock/global-storage/tasks")


class KiloTasks(Tasks):
    """Tasks of Kilo Code before 7, in Roo Code's shape (formats.md 2.11); its sessions since are OpenCode's."""

    tool: ClassVar[str] = "kilo-code"
    versions: ClassVar[tuple[str, ...]] = ("5.0",)
    gaps: ClassVar[tuple[str, ...]] = ("legacy tasks: no version, branch or (mostly) model is kept",)
    extension: ClassVar[str] = "kilocode.kilo-code"

    def _note(self, said: _Record) -> Entry:
        """Leave out the parent: ids of tasks are this machine's and those of sessions are not, under one tool."""
        return msgspec.structs.replace(super()._note(said), parent=None)


def tasks(path: str) -> Root:
    """Make the root for a directory of tasks."""
    return Root(path=path, watch=Watch.SCAN, depth=1, skip=frozenset(["checkpoints"]))


def _records(content: bytes, stream: str) -> Iterable[bytes]:
    if stream == "metadata":
        metadata = parse(METADATA, content)
        for used in (*metadata.model_usage, *metadata.environment_history):
            yield msgspec.json.encode({"type": "used", "ts": used.ts, "model": used.model, "version": used.version})
    elif stream == "history":
        item = parse(ITEM, content)
        cwd = item.workspace or item.cwd_on_task_initialization
        task = {"title": item.task and item.task[:200], "model": item.model_id, "parent": item.parent_task_id}
        yield msgspec.json.encode({"type": "task", "ts": item.ts, "cwd": cwd, **task})
        if item.status == "completed":
            yield msgspec.json.encode({"type": "end", "ts": item.ts})
    elif stream == "session":
        manifest = parse(MANIFEST, content)
        details = manifest.metadata or _Details()
        own = {"at": manifest.started_at, "model": manifest.model, "cwd": manifest.cwd, "title": details.title}
        git = {"branch": details.git and details.git.branch, "version": details.origin and details.origin.version}
        yield msgspec.json.encode({"type": "session", **own, **git})
        if manifest.status in FINAL:
            yield msgspec.json.encode({"type": "end", "at": manifest.ended_at})
    else:
        raws = parse(LIST, content) if content.lstrip().startswith(b"[") else parse(MESSAGES, content).messages
        for raw in raws:
            if not parse(PARTIAL, bytes(raw)).partial:  # the user interface's last one, while it grows
                yield bytes(msgspec.json.format(raw, indent=-1))


def _prompt(content: msgspec.Raw) -> bool:
    """Tell whether a human wrote some of a user's message; in older ones a tool's answer is text, the next text too."""
    source = bytes(content)
    if not source.startswith(b"["):
        return speaks(content, injected=INJECTED)
    texts = [
        bytes(block.text) for block in BLOCKS.decode(source) if not isinstance(block, str) and block.type == "text"
    ]
    if any(HUMAN.search(text[:400]) for text in texts):
        return True
    return bool(texts) and not INJECTED.match(texts[0][:256]) and speaks(content, silent=SILENT, injected=INJECTED)


SOURCES = (Cline(), RooCode(), KiloTasks())
