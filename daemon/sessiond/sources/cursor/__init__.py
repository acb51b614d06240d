"""Cursor, the editor and its command line: docs/formats/cursor.md.

`editor.py` reads the editor's databases, `cli.py` the stores and transcripts of the command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Rows, SideFiles, Unit, UserDirs, Watch
from sessiond.sources.content import call, result, template, thought
from sessiond.sources.cursor.cli import is_store, list_store, project_store, project_text, transcript_unit
from sessiond.sources.cursor.editor import list_chats, list_composers, project_chat, project_composer
from sessiond.sources.editors import CURSORS, user_data_dirs, workspace_folder
from sessiond.sources.messages import message_items
from sessiond.sources.objects import OBJECT, as_text, get_in
from sessiond.sources.projection import SESSION
from sessiond.sources.records import UUID, digest, parse

STORE = re.compile(rf"((?:([^/]+)/)?state\.vscdb|[0-9a-f]+/({UUID})/store\.db)(?:-wal)?", re.ASCII)
QUERY = re.compile(r"<user_query>(.*?)</user_query>", re.DOTALL)
INJECTED = re.compile(r"\s*<(?:user_info|system_reminder|additional_data|git_status|rules|attached_files)\b")
ROLES = {1: Role.USER, 2: Role.ASSISTANT, "user": Role.USER, "assistant": Role.ASSISTANT, "ai": Role.ASSISTANT}
SILENT = frozenset(["system", "tool", "head", "turn_ended", SESSION, None])


class Cursor(BaseSource):
    """Composers and chats of the editor, chats and transcripts of the command line.

    One session may be in several stores, which share the session's id but no ids of messages. So the key of a message
    consists of its role, its text and how often that text has occurred.
    """

    tool: ClassVar[str] = "cursor"
    own_keys: ClassVar[bool] = True
    variables: ClassVar[tuple[str, ...]] = ("CURSOR_CONFIG_DIR",)
    versions: ClassVar[tuple[str, ...]] = ("2 (workspace heads)", "3", "3.12", "CLI of June 2026")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or branch is stored",
        "the folder of a command line chat is stored as a hash only",
        "a transcript has no times: those of its file are used",
        "a row that is edited in place is found within a day, unless its chat is among the newest eight",
        "assets/, terminals/ and other directories of a project in ~/.cursor/projects name no session and are not read",
        "a prompt that was not sent yet, and the contents of the project's files before and after an edit",
    )
    session_like: ClassVar[str] = (
        r"(?:[^/]+/)?state[^/]*\.vscdb|[^/]+/[^/]+/[^/]+\.db|[^/]+/agent-transcripts/.+\.(?:jsonl?|txt)"
    )
    projection_version: ClassVar[int] = 2
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        SideFiles(rf"[^/]+/agent-transcripts/(?P<id>{UUID})/(?P<name>.+)", "files beside a transcript"),
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the global and the workspaces' storage, and the command line's chats and projects.

        There may be thousands of workspaces, each with a small database that seldom changes: they are scanned.
        """
        for user in user_data_dirs(dirs, CURSORS):
            yield Root(path=f"{user}/globalStorage", watch=Watch.FLAT, depth=0)
            yield Root(path=f"{user}/workspaceStorage", watch=Watch.SCAN, depth=1)
        for home in dirs.with_override("CURSOR_CONFIG_DIR", f"{dirs.home}/.cursor"):
            yield Root(path=f"{home}/chats", depth=2)
            yield Root(path=f"{home}/projects", depth=4)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a database (or its -wal file) or a transcript."""
        if found := STORE.fullmatch(relative):
            path, workspace, chat = found.groups()
            beside = (f"{workspace}/workspace.json",) if workspace else ()
            return Unit(kind=Kind.DATABASE, path=path, native_id=chat, timeless=bool(chat), beside=beside)
        return transcript_unit(relative)

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Return the workspace's folder as the working directory."""
        return Entry(cwd=next(filter(None, map(workspace_folder, beside.values())), None))

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project a transcript of the older kind, a text."""
        for content in files.values():
            yield from project_text(content, unit)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List the chat of a `store.db`, or the composers and the old chats of an editor's database."""
        if is_store(database):
            yield from list_store(database)
            return
        if database.has("cursorDiskKV", "key", "value"):
            yield from list_composers(database)
        yield from list_chats(database)

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project one chat: its own fields, then a message a record."""
        if is_store(database):
            yield from project_store(database, native_id)
            return
        if database.has("cursorDiskKV", "key", "value"):
            yield from project_composer(database, native_id)
        yield from project_chat(database, native_id)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a bubble, a message, or a chat's own fields. Bubbles of tools and thinking have no text."""
        item = parse(OBJECT, record)
        kind = item.get("role", item.get("type"))
        if not isinstance(kind, str | int | None) or kind not in ROLES:
            if not isinstance(kind, str | None) or kind not in SILENT:
                return Entry(unknown=str(kind)[:40])
            return None if kind else _decode_head(item)
        role, model = ROLES[kind], _model(get_in(item, "modelInfo", "modelName") or item.get("modelType"))
        time_ms = parse_time(get_in(item, "timingInfo", "clientEndTime") or item.get("createdAt"))
        cwd, text = as_text(item.get("workspaceProjectDir")), _text(item).strip()
        if role is Role.USER:
            text = "\n".join(QUERY.findall(text)).strip() or ("" if INJECTED.match(text) else text)
        if not text:
            return Entry(time_ms=time_ms, model=model, cwd=cwd)
        mark = role[0] + digest(text)
        count = memory[mark] = memory.get(mark, 0) + 1
        return Entry(time_ms=time_ms, role=role, key=f"{mark}.{count}", model=model, cwd=cwd)

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a bubble or a message. A user's message also holds what the program added to it."""
        kind = record.get("role", record.get("type"))
        base = template(entry, Speaker(ROLES[kind]) if isinstance(kind, str | int) and kind in ROLES else None)
        if "bubbleId" in record or ("role" not in record and "text" in record):
            yield from _bubble_items(record, base)
            return
        for item in message_items(record, entry):
            queries = QUERY.findall(item.text) if item.speaker is Speaker.USER else ()
            yield replace(item, text="\n".join(queries).strip()) if queries else item


def _bubble_items(bubble: dict[str, Any], base: Item) -> Iterator[Item]:
    """Iterate the items of a bubble: a thought, a text, or a call with its result."""
    if text := as_text(get_in(bubble, "thinking", "text")):
        yield thought(text, base)
    if text := _text(bubble):
        yield replace(base, text=text, injected=base.speaker is Speaker.USER and not base.counts)
    former = bubble.get("toolFormerData")
    if isinstance(former, dict):
        number = former.get("toolCallId")
        yield call({"id": number, "name": former.get("name"), "input": former.get("rawArgs")}, base)
        yield result({"content": former.get("result"), "id": number, "status": former.get("status")}, base)


def _decode_head(head: dict[str, Any]) -> Entry:
    return Entry(
        time_ms=parse_time(head.get("createdAt") or head.get("timestamp")),
        cwd=as_text(get_in(head, "workspaceIdentifier", "uri", "fsPath")),
        title=as_text(head.get("name") or head.get("chatTitle")),
        model=_model(head.get("lastUsedModel") or get_in(head, "modelConfig", "modelName")),
        parent=as_text(head.get("parent")),
        more=(Entry(time_ms=parse_time(head.get("lastUpdatedAt"))),),
    )


def _text(item: dict[str, Any]) -> str:
    content = get_in(item, "message", "content") or item.get("content") or item.get("text") or item.get("rawText")
    if isinstance(content, list):
        texts = (as_text(get_in(part, "text")) for part in content if get_in(part, "type") == "text")
        return "\n".join(filter(None, texts))
    return as_text(content) or ""


def _model(model: Any) -> str | None:
    """Return the model; None for "default", the automatic choice."""
    return None if model == "default" else as_text(model)


SOURCES = (Cursor(),)
