"""Roo Code, a fork of Cline that ended in May 2026: docs/formats/roo-code.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from sessiond.sources.base import Root, UserDirs
from sessiond.sources.cline import Tasks, tasks_root


class RooCode(Tasks):
    """Tasks of Roo Code."""

    tool: ClassVar[str] = "roo-code"
    versions: ClassVar[tuple[str, ...]] = ("3.52.1",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch or (mostly) model is stored",
        "a customStoragePath is not found: add it to the roots in the configuration",
        "_index.json repeats what the tasks say of themselves; checkpoints/ is a repository of the project",
    )
    extension: ClassVar[str] = "rooveterinaryinc.roo-cline"

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the extension's tasks, and those of its command line."""
        yield from super().roots(dirs)
        yield tasks_root(f"{dirs.home}/.vscode-mock/global-storage/tasks")


SOURCES = (RooCode(),)
