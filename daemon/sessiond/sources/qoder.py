"""Qoder, an editor and a command line that write Claude Code's lines: docs/formats/qoder.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from msgspec.structs import replace

from sessiond.session import Entry
from sessiond.sources.base import Memory, Retention, Root, SideFiles, Unit, UserDirs
from sessiond.sources.claude_code import ClaudeCode
from sessiond.sources.objects import OBJECT, as_text
from sessiond.sources.records import UUID, parse
from sessiond.sources.side_files import in_folders, side_roots
from sessiond.sources.user_dirs import unique_paths

TYPES = "tag workspace-directories runtime-config content-replacement token-stats active-leaf agent-setting"
OWN_TYPES = frozenset(TYPES.split())
FLAT = re.compile(rf"({UUID})\.jsonl", re.ASCII)
SIDE_FOLDERS = {"file-history": "edited files", "tasks": "lists of tasks"}


class Qoder(ClaudeCode):
    """Transcripts of Qoder's command line and editor, in Claude Code's format and layout."""

    tool: ClassVar[str] = "qoder"
    variables: ClassVar[tuple[str, ...]] = ("QODER_CONFIG_DIR", "QODERCN_CONFIG_DIR")
    versions: ClassVar[tuple[str, ...]] = ("1.1.52 (CLI)", "1.0 (editor)")
    gaps: ClassVar[tuple[str, ...]] = (
        "a configuration directory with another name (QODER_CONFIG_DIR_NAME, QODER_CLI_HOME) is not found: add it to"
        " the roots in the configuration",
        "the title and the origin of a fork that the editor writes beside a transcript are captured, and read only if"
        " its lines have no folder",
        "the prompts that the input line remembers, and logs/, are not read",
    )
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        *in_folders(SIDE_FOLDERS, UUID),
        SideFiles(rf"tmp/[^/]+/(?P<id>{UUID})/(?P<name>.+)", "full outputs of tools", "tmp/"),
        SideFiles(rf"[^/]+/(?P<id>{UUID})/(?P<name>.+)", "outputs of tools, notes"),
        SideFiles(rf"(?:[^/]+/)?(?P<id>{UUID})-(?P<name>session\.json)", "titles"),
    )
    other_files: ClassVar[tuple[str, ...]] = (r"(?:tasks|tmp)/.+",)

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return `projects` of the configuration directories, and of the editor's cache."""
        named = [dirs.from_variable(variable) for variable in self.variables]
        usual = [f"{dirs.home}/{name}" for name in (".qoder", ".qoder-cn", ".qoderwork")]
        homes = unique_paths(*named, *usual)
        for home in unique_paths(*homes, f"{dirs.config}/Qoder/SharedClientCache/cli"):
            yield Root(path=f"{home}/projects")
        yield from side_roots(homes, (*SIDE_FOLDERS, "tmp"))

    def retention(self, dirs: UserDirs) -> Retention | None:
        """Return None: no cleanup of sessions by age is known."""
        return None

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a transcript, which in the editor's cache may lie beside the projects."""
        if flat := FLAT.fullmatch(relative):
            unit: Unit | None = Unit(native_id=flat[1])
        else:
            unit = super().unit(relative)
        if unit and unit.thread and unit.native_id:
            return replace(unit, beside=(f"{relative.removesuffix('.jsonl')}-session.json",))
        return unit

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Return the title, the folder and the origin, which the editor writes beside a transcript."""
        for content in beside.values():
            notes = parse(OBJECT, content)
            parent = as_text(notes.get("fork_from")) or as_text(notes.get("parent_session_id"))
            title, cwd = as_text(notes.get("title")), as_text(notes.get("working_dir"))
            return Entry(title=title or None, cwd=cwd or None, parent=parent or None)
        return None

    def decode(self, record: bytes | memoryview, memory: Memory) -> Entry | None:
        """Decode a line as Claude Code's; a few types are Qoder's own."""
        entry = super().decode(record, memory)
        if entry and entry.unknown in OWN_TYPES:
            return replace(entry, unknown=None)
        return entry


SOURCES = (Qoder(),)
