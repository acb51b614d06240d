"""Cline, and what was forked from it: formats.md 2.9 to 2.11, field-notes B.2 "Cline CLI 3.0.65".

The extensions keep a directory of JSON documents per task. Cline's CLI (and its extension, by and by) keeps
sessions of a manifest and a document of messages instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from sessiond.session import Entry
from sessiond.sources.base import Kind, Places, Root, Unit
from sessiond.sources.cline.pearai import PearTasks
from sessiond.sources.cline.records import Record
from sessiond.sources.cline.tasks import Tasks, tasks

SESSION = re.compile(r"(\d+(?:_\w+)?)/(?:\1(\.messages)?|(agent_\w+)\.messages)\.json", re.ASCII)


class Cline(Tasks):
    """Tasks of Cline's extension, and sessions of its CLI."""

    tool: ClassVar[str] = "cline"
    versions: ClassVar[tuple[str, ...]] = ("3.8 and 4.0 (extension)", "3.0.65 (CLI)")
    gaps: ClassVar[tuple[str, ...]] = (
        "a prompt that was killed in its first turn is the title, but no message yet",
        "taskHistory.json is not read: the folder of a task comes from its first message",
        "no parent: what subagents said are streams of their session",
    )
    extension: ClassVar[str] = "saoudrizwan.claude-dev"

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the extension's tasks, and tasks and sessions of ~/.cline, CLINE_DIR and the data directories."""
        yield from super().roots(places)
        bases = places.homes("CLINE_DATA_DIR", places.given("CLINE_DIR", "/data"), f"{places.home}/.cline/data")
        for base in bases:
            yield tasks(f"{base}/tasks")
        for path in places.homes("CLINE_SESSION_DATA_DIR", *(f"{base}/sessions" for base in bases)):
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

    def _note(self, said: Record) -> Entry:
        """Leave out the parent: ids of tasks are this machine's and those of sessions are not, under one tool."""
        return msgspec.structs.replace(super()._note(said), parent=None)


SOURCES = (Cline(), RooCode(), KiloTasks(), PearTasks())
