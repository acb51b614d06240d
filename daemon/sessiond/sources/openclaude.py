"""OpenClaude, which writes Claude Code's format: docs/formats/openclaude.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from sessiond.sources.base import Retention, Root, UserDirs
from sessiond.sources.claude_code import SIDE_FOLDERS, ClaudeCode
from sessiond.sources.prompts import history_root
from sessiond.sources.side_files import side_roots


class OpenClaude(ClaudeCode):
    """Transcripts of OpenClaude, in Claude Code's format and layout."""

    tool: ClassVar[str] = "openclaude"
    variables: ClassVar[tuple[str, ...]] = ("OPENCLAUDE_CONFIG_DIR",)
    versions: ClassVar[tuple[str, ...]] = ("0.7.0",)
    gaps: ClassVar[tuple[str, ...]] = (
        "a title or parent is known only where Claude Code's records of them are written",
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return `projects` and the history of prompts of OPENCLAUDE_CONFIG_DIR and ~/.openclaude."""
        for base in dirs.with_override("OPENCLAUDE_CONFIG_DIR", f"{dirs.home}/.openclaude"):
            yield Root(path=f"{base}/projects")
            yield from side_roots([base], SIDE_FOLDERS)
            yield history_root(base)

    def retention(self, dirs: UserDirs) -> Retention | None:
        """Return None: whether OpenClaude deletes sessions is not known."""
        return None


SOURCES = (OpenClaude(),)
