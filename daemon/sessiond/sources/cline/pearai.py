"""PearAI's agent, a fork of Roo Code 3.15 that its editor brings along (src/core/Cline.ts of PearAI-Roo-Code)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from sessiond.sources.base import Places, Root
from sessiond.sources.cline.tasks import Tasks, tasks


class PearTasks(Tasks):
    """Tasks of PearAI's agent, in Roo Code's shape; its chats are Continue's."""

    tool: ClassVar[str] = "pearai"
    versions: ClassVar[tuple[str, ...]] = ("Roo Code 3.15 (tasks)",)
    gaps: ClassVar[tuple[str, ...]] = ("tasks: no version, branch or model; what they are called is in a database",)
    extension: ClassVar[str] = "pearai.pearai-roo-cline"

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the tasks in the editor's own storage."""
        yield tasks(f"{places.config}/pearai/User/globalStorage/{self.extension}/tasks")
