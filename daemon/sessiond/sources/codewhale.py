"""CodeWhale, which was DeepSeek TUI: docs/formats/codewhale.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec

from sessiond.session import Entry, Item, Speaker, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Unit, UserDirs
from sessiond.sources.content import note, summary, template
from sessiond.sources.messages import message_items
from sessiond.sources.objects import OBJECT, as_text, encode, get_in
from sessiond.sources.projection import SESSION, session_projection
from sessiond.sources.records import ROLES, message_role, parse, unknown_type
from sessiond.sources.side_files import SideFiles

KNOWN = frozenset(["message", "user", "assistant", "compaction", "branch_summary", "system"])
SILENT = ("thinking", "tool_result", "tool_search_tool_result", "code_execution_tool_result")
ROLES_OF_MESSAGES = {**ROLES, "assistant_interrupted": ROLES["assistant"]}
HEAD = "head"
STATE = ("updated_at", "message_count", "total_tokens", "mode", "cost", "cumulative_turn_secs", "archived")


class CodeWhale(BaseSource):
    """Sessions of CodeWhale: documents with a journal of entries (since 0.9.5) or a list of messages."""

    tool: ClassVar[str] = "codewhale"
    variables: ClassVar[tuple[str, ...]] = ("CODEWHALE_HOME",)
    versions: ClassVar[tuple[str, ...]] = ("0.9.10", "schema 1 without a journal")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or branch is stored; before 0.9.5 messages have no times",
        "a fork may count the messages that it copied",
        "all branches of a journal are counted",
        "receipts of approvals, plans and goals are not read; checkpoints repeat a session",
        "session_boot_owners.json names the processes that use a session",
    )
    other_files: ClassVar[tuple[str, ...]] = (r"session_boot_owners\.json",)
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?!session_boot_owners)(?P<id>[\w-]+)\.json", re.ASCII)
    kind: ClassVar[Kind] = Kind.DOCUMENT
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        SideFiles(r"(?P<id>[\w-]+)/(?P<name>artifacts/.+)", "large outputs of tools"),
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the sessions of CODEWHALE_HOME and ~/.codewhale, and those of DeepSeek TUI, which are moved there."""
        homes = dirs.with_override("CODEWHALE_HOME", f"{dirs.home}/.codewhale", f"{dirs.home}/.deepseek")
        for home in homes:
            yield Root(path=f"{home}/sessions", depth=3, skip=frozenset(["checkpoints"]))

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project a head and the entries of the journal, else the messages; and apart what changes with each."""
        for content in files.values():
            document = parse(OBJECT, content)
            metadata, native_id = document.get("metadata"), unit.native_id or ""
            entries = get_in(document, "journal", "entries")
            messages = document.get("messages")
            if not isinstance(metadata, dict) or not isinstance(messages, list):
                raise msgspec.DecodeError("no session: it has no metadata or messages")
            records = [encode(each) for each in (entries if isinstance(entries, list) and entries else messages)]
            started, cwd = as_text(metadata.get("created_at")), as_text(metadata.get("workspace"))
            head = {"type": HEAD, "created_at": started, "workspace": cwd}
            parent, title = as_text(metadata.get("parent_session_id")), as_text(metadata.get("title"))
            known = Entry(title=title, model=as_text(metadata.get("model")))
            records = [encode(head), *records] if records else []
            yield Projection(native_id=native_id, records=records, parent=parent, metadata=known)
            if records:
                yield session_projection(native_id, {name: metadata.get(name) for name in STATE})

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode an entry of the journal, a message without one, the head, or the state."""
        line = parse(OBJECT, record)
        time_ms = parse_time(as_text(line.get("created_at")) or as_text(line.get("updated_at")))
        kind, key = as_text(line.get("kind")), as_text(line.get("id"))
        if kind is None and line.get("type") in (HEAD, SESSION):
            return Entry(time_ms=time_ms, cwd=as_text(line.get("workspace")))
        role, content = _said(line)
        counted = message_role(role, msgspec.Raw(encode(content)), silent=SILENT, roles=ROLES_OF_MESSAGES)
        unknown = unknown_type(kind, KNOWN) if kind or role is None else None
        return Entry(time_ms=time_ms, role=counted, key=key if counted else None, unknown=unknown)

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of an entry: a message, a summary, or a line of the tool."""
        if not isinstance(record, dict):
            return
        base = template(entry, Speaker.ASSISTANT)
        if record.get("kind") in ("compaction", "branch_summary"):
            yield summary(as_text(record.get("summary")) or "", base)
        elif record.get("kind") == "system":
            if text := as_text(record.get("content")):
                yield note(text, base)
        else:
            role, content = _said(record)
            yield from message_items({"role": role, "content": content}, entry)


def _said(line: dict[str, Any]) -> tuple[str | None, Any]:
    """Return the role and the content of an entry or a message; None for the role of anything else."""
    kind = line.get("kind")
    if kind in ("user", "assistant"):
        return str(kind), line.get("text")
    message = line.get("message") if kind == "message" else line if kind is None else None
    return as_text(get_in(message, "role")), get_in(message, "content")


SOURCES = (CodeWhale(),)
