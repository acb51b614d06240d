"""Command Code, which writes Pi's tree of entries: docs/formats/command-code.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import Memory, Root, SideFiles, Unit, UserDirs
from sessiond.sources.objects import OBJECT, as_text
from sessiond.sources.pi import KNOWN, Pi
from sessiond.sources.records import ABSENT, UUID, message_role, parse
from sessiond.sources.side_files import in_folders, side_roots

SILENT = ("thinking", "redacted_thinking", "reasoning", "tool_result", "tool-result")
SIDE_FOLDERS = {"file-history": "edited files"}
BESIDE = r"(?:checkpoints|prompts)\.jsonl|(?:meta|scheduled-tasks)\.json"


class _Meta(msgspec.Struct, gc=False, rename="camel"):
    is_meta: bool | None = None


class _Message(msgspec.Struct, gc=False):
    meta: _Meta | None = None


class _Line(msgspec.Struct, gc=False, rename="camel"):
    """An entry of the tree, or (with a role of its own) a message of version 2."""

    type: str | None = None
    id: str | None = None
    timestamp: str | None = None
    model: str | None = None
    message: _Message | None = None
    role: str | None = None
    content: msgspec.Raw = ABSENT
    git_branch: str | None = None
    metadata: _Meta | None = None


LINE = msgspec.json.Decoder(_Line)


class CommandCode(Pi):
    """Sessions of Command Code: Pi's entries since version 3 of its format, and a message a line before."""

    tool: ClassVar[str] = "command-code"
    variables: ClassVar[tuple[str, ...]] = ()
    versions: ClassVar[tuple[str, ...]] = ("1.64.0 (version 3)", "0.52.5 (version 2)")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version is stored, and a branch in version 2 only",
        "a branch that is continued after another one was begun is not counted",
        "generated titles (*.meta.json) are captured, and read only if the lines have no folder",
        "links to shared sessions (*.share.json) may hold a key, and *.v2.bak is a session before its conversion",
    )
    files: ClassVar[re.Pattern[str]] = re.compile(rf"[^/]+/(?P<id>{UUID})\.jsonl", re.ASCII)
    known: ClassVar[frozenset[str]] = KNOWN | {"effort_change"}
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        *in_folders(SIDE_FOLDERS, UUID),
        SideFiles(rf"[^/]+/(?P<id>{UUID})\.(?P<name>{BESIDE})", "checkpoints, prompts, notes"),
    )
    other_files: ClassVar[tuple[str, ...]] = (r"[^/]+/mcp\.json", r"[^/]+/[\w-]+\.share\.json")

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return `projects` of ~/.commandcode, and the copies of edited files beside it."""
        base = f"{dirs.home}/.commandcode"
        yield Root(path=f"{base}/projects", depth=1)
        yield from side_roots([base], SIDE_FOLDERS)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a session, with the notes beside it."""
        unit = super().unit(relative)
        return replace(unit, beside=(f"{relative.removesuffix('.jsonl')}.meta.json",)) if unit else None

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Return the title and the folder that the notes have."""
        for content in beside.values():
            notes = parse(OBJECT, content)
            cwd = as_text(notes.get("projectPath")) or as_text(notes.get("cwd"))
            return Entry(title=as_text(notes.get("title")), cwd=cwd, parent=as_text(notes.get("parentSessionId")))
        return None

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode an entry as Pi's, or a message of version 2."""
        line = parse(LINE, record)
        if line.type is None and line.role is not None:
            branch = None if line.git_branch == "-" else line.git_branch
            role = self.role(line.role, line.content, record)
            return Entry(time_ms=parse_time(line.timestamp), role=role, key=line.id, branch=branch)
        entry = super().decode(record, memory)
        return replace(entry, model=line.model or entry.model) if entry else None

    def role(self, name: str, content: msgspec.Raw, record: bytes) -> Role | None:
        """Return the role of a message, whose results of tools are the user's, unless the program wrote it."""
        line = parse(LINE, record)
        meta = (line.message.meta if line.message else None) or line.metadata
        return None if meta and meta.is_meta else message_role(name, content, silent=SILENT)


SOURCES = (CommandCode(),)
