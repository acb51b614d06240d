"""Cursor, the editor and its command line: formats.md 2.3 and 2.4, field-notes B.3.

One session may lie in several of its stores, which share its id and no id of a message: the editor's database, the
command line's `store.db`, a transcript. So a message is named by its role, its text and how often that was said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, ClassVar

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Rows, Unit, Watch, parse
from sessiond.sources.cursor import stores
from sessiond.sources.cursor.stores import OBJECT, encode, inner
from sessiond.sources.editors import folder_of

ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
STORE = re.compile(rf"((?:([^/]+)/)?state\.vscdb|[0-9a-f]+/({ID})/store\.db)(?:-wal)?", re.ASCII)
TRANSCRIPT = re.compile(rf"[^/\n]+/agent-transcripts/(?:({ID})/)?(?:({ID})|subagents/({ID}))\.(jsonl|txt)", re.ASCII)
TURN = re.compile(r"^(user|assistant):$", re.MULTILINE)
QUERY = re.compile(r"<user_query>(.*?)</user_query>", re.DOTALL)
INJECTED = re.compile(r"\s*<(?:user_info|system_reminder|additional_data|git_status|rules|attached_files)\b")
ROLES = {1: Role.USER, 2: Role.ASSISTANT, "user": Role.USER, "assistant": Role.ASSISTANT, "ai": Role.ASSISTANT}
QUIET = frozenset(["system", "tool", "head", "turn_ended", None])


class Cursor(BaseSource):
    """Composers and chats of the editor, chats and transcripts of the command line."""

    tool: ClassVar[str] = "cursor"
    versions: ClassVar[tuple[str, ...]] = ("2 (workspace heads)", "3", "3.12", "CLI of June 2026")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch are stored",
        "the folder of a chat of the command line is kept as a hash only",
        "a transcript has no times: those of its file stand in",
        "a row that is edited in place, in a chat that is not among the newest eight, is found within a day",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the global and the workspaces' storage, and the command line's chats and projects.

        A workspace's database is small and old, and there may be thousands of them: they are left to the rescan.
        """
        for user in (f"{places.config}/Cursor/User", f"{places.home}/.cursor-server/data/User"):
            yield Root(path=f"{user}/globalStorage", watch=Watch.FLAT, depth=0)
            yield Root(path=f"{user}/workspaceStorage", watch=Watch.SCAN, depth=1)
        given = places.environ.get("CURSOR_CONFIG_DIR", "").rstrip("/")
        for home in dict.fromkeys(filter(None, [given, f"{places.home}/.cursor"])):
            yield Root(path=f"{home}/chats", depth=2)
            yield Root(path=f"{home}/projects", depth=4)

    def unit(self, relative: str) -> Unit | None:
        """Tell the databases from what changed of them, and transcripts; a `.txt` is an older one (formats.md 2.4)."""
        if found := STORE.fullmatch(relative):
            path, workspace, chat = found.groups()
            beside = (f"{workspace}/workspace.json",) if workspace else ()
            return Unit(kind=Kind.DATABASE, path=path, native_id=chat, timeless=bool(chat), beside=beside)
        if not (found := TRANSCRIPT.fullmatch(relative)) or (found[3] and not found[1]):
            return None
        folder, own, subagent, kind = found.groups()
        return Unit(
            kind=Kind.LINES if kind == "jsonl" else Kind.DOCUMENT,
            native_id=folder or own,
            stream=f"subagent-{subagent}" if subagent else "transcript",
            thread=not subagent,
            timeless=True,
        )

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Take the folder of a workspace (formats.md 2.3 working_directory)."""
        return Entry(cwd=next(filter(None, map(folder_of, beside.values())), None))

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Split a transcript of the older kind into its `user:` and `assistant:` blocks."""
        for content in files.values():
            _, *parts = TURN.split(content.decode("utf-8", "replace"))
            turns = zip(parts[::2], parts[1::2], strict=True)
            records = [encode({"role": role, "content": text.strip("\n")}) for role, text in turns]
            yield Portrait(native_id=unit.native_id or "", records=records, stream=unit.stream)

    # Databases

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List the chat of a `store.db`, or the composers and the old chats of an editor's database.

        Only these keys are asked for: the same tables hold the user's tokens (formats.md 1.8).
        """
        if database.has("blobs", "id", "data"):
            for meta in stores.meta(database):
                yield str(meta["agentId"]), stores.digest(meta)
            return
        if database.has("cursorDiskKV", "key", "value"):
            yield from stores.composers(database)
        for tab in stores.tabs(database):
            yield str(tab["tabId"]), stores.digest(tab)
        for head in stores.heads(database):
            yield head["composerId"], stores.digest(head)

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Project one chat: first what is known of it as a whole, then a message a record."""
        if database.has("blobs", "id", "data"):
            for meta in stores.meta(database):
                head = {key: value for key, value in meta.items() if key != "latestRootBlobId"}
                yield Portrait(native_id=native_id, records=[encode(head), *stores.messages(database, meta)])
            return
        if database.has("cursorDiskKV", "key", "value"):
            yield from stores.composer(database, native_id)
        for tab in stores.tabs(database):
            if tab["tabId"] == native_id and (bubbles := tab.pop("bubbles", None)):
                yield Portrait(native_id=native_id, records=map(encode, [tab, *bubbles]))
        for head in stores.heads(database):
            if head["composerId"] == native_id:
                yield Portrait(native_id=native_id, records=[encode(head)], stream="workspace")

    # Records

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a bubble, a message or the head of a chat says. Tools and thoughts are empty bubbles."""
        said = parse(OBJECT, record)
        kind = said.get("role", said.get("type"))
        if not isinstance(kind, str | int | None) or kind not in ROLES:
            if not isinstance(kind, str | None) or kind not in QUIET:
                return Entry(unknown=str(kind)[:40])
            return None if kind else self._head(said)
        role, model = ROLES[kind], inner(said, "modelInfo", "modelName") or said.get("modelType")
        time_ms = parse_time(inner(said, "timingInfo", "clientEndTime") or said.get("createdAt"))
        cwd = _str(said.get("workspaceProjectDir"))
        text = _text(said)
        if role is Role.USER:
            text = "\n".join(QUERY.findall(text)) or ("" if INJECTED.match(text) else text)
        if not text.strip():
            return Entry(time_ms=time_ms, model=_named(model), cwd=cwd)
        mark = role[0] + blake2b(text.strip().encode("utf-8", "replace"), digest_size=8).hexdigest()
        count = memory[mark] = memory.get(mark, 0) + 1
        return Entry(time_ms=time_ms, role=role, key=f"{mark}.{count}", model=_named(model), cwd=cwd)

    def _head(self, said: dict[str, Any]) -> Entry:
        uri = inner(said, "workspaceIdentifier", "uri")
        return Entry(
            time_ms=parse_time(said.get("createdAt") or said.get("timestamp")),
            cwd=_str(inner({"uri": uri}, "uri", "fsPath")),
            title=_str(said.get("name") or said.get("chatTitle")),
            model=_named(said.get("lastUsedModel") or inner(said, "modelConfig", "modelName")),
            parent=_str(said.get("parent")),
            more=(Entry(time_ms=parse_time(said.get("lastUpdatedAt"))),),
        )


def _text(said: dict[str, Any]) -> str:
    content = inner(said, "message", "content") or said.get("content") or said.get("text") or said.get("rawText")
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _named(model: Any) -> str | None:
    """Name the model; "default" is the automatic choice and says nothing (formats.md 2.3 model)."""
    return model if isinstance(model, str) and model != "default" else None


SOURCES = (Cursor(),)
