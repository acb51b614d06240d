"""PearAI: chats of its fork of Continue, and tasks of its fork of Roo Code: docs/formats/pearai.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from sessiond.sources.base import Projection, Root, Unit, UserDirs
from sessiond.sources.cline import Tasks, tasks_root
from sessiond.sources.continue_dev import Continue
from sessiond.sources.editors import PEARAI, user_data_dirs
from sessiond.sources.records import compact, parse


class _Search(msgspec.Struct, rename="camel"):
    """The search chat of a session."""

    perplexity_history: list[msgspec.Raw] = []


SEARCH = msgspec.json.Decoder(_Search)


class PearTasks(Tasks):
    """Tasks of PearAI's agent, in Roo Code's shape, in its own editor only."""

    tool: ClassVar[str] = "pearai"
    versions: ClassVar[tuple[str, ...]] = ("Roo Code 3.15 (tasks)",)
    gaps: ClassVar[tuple[str, ...]] = (
        "tasks: no version, branch or model is stored, and titles are in a database that is not read",
    )
    extension: ClassVar[str] = "pearai.pearai-roo-cline"

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the tasks in PearAI's storage."""
        for user in user_data_dirs(dirs, [PEARAI]):
            yield tasks_root(f"{user}/globalStorage/{self.extension}/tasks")


class PearAI(Continue):
    """Chats of PearAI, in the shape that Continue had before its models could call tools."""

    tool: ClassVar[str] = "pearai"
    variables: ClassVar[tuple[str, ...]] = ()
    versions: ClassVar[tuple[str, ...]] = ("2025 (chats)",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch, parent or times are stored: the times of the index and the file are used",
        "chats in CONTINUE_GLOBAL_DIR, which PearAI follows too, are taken for Continue's",
        "sessions.json repeats what the chats say of themselves, and has the times that are used",
    )
    folder: ClassVar[str] = ".pearai"

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project a chat. A search chat has the same items in another list, and an empty history."""
        yield from super().project(files, unit)
        for content in files.values():
            items = [compact(item) for item in parse(SEARCH, content).perplexity_history]
            yield Projection(native_id=unit.native_id or "", stream="search", records=items)


SOURCES = (PearTasks(), PearAI())
