"""Tasks of an extension of Cline's family: formats.md 2.9 to 2.11."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit, Watch
from sessiond.sources.cline.documents import records_of
from sessiond.sources.cline.records import RECORD, SILENT, TAKEN_OVER, Record, is_prompt
from sessiond.sources.editors import user_data
from sessiond.sources.records import parse, speaks, unheard

TASK = re.compile(r"([\w-]{8,64})/(api_conversation_history|ui_messages|task_metadata|history_item)\.json", re.ASCII)
STREAMS = {"api_conversation_history": "main", "ui_messages": "ui", "task_metadata": "metadata"}
CWD = re.compile(rb"# Current (?:Working|Workspace) Directory \((.+?)\) Files\b")


class Tasks(BaseSource):
    """Tasks of an extension of Cline's family: `tasks/<id>/` with a document for each thing.

    They are left to the rescan: there are thousands, and Roo Code keeps a shadow repository in each.
    """

    local_ids: ClassVar[bool] = True
    extension: ClassVar[str]

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the tasks in every editor's storage, local and on a server (formats.md 2.9 Directory)."""
        for user in user_data(places):
            yield tasks(f"{user}/globalStorage/{self.extension}/tasks")

    def unit(self, relative: str) -> Unit | None:
        """Tell a task's documents: what went to the model, what the user saw, and what was noted of it."""
        found = TASK.fullmatch(relative)
        if not found:
            return None
        return Unit(kind=Kind.DOCUMENT, native_id=found[1], stream=STREAMS.get(found[2], "history"))

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out a list of messages, one a line; of the rest, take the few fields that are looked at."""
        for content in files.values():
            records = list(records_of(content, unit.stream))
            yield Portrait(native_id=unit.native_id or "", stream=unit.stream, thread=unit.thread, records=records)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a message says."""
        said = parse(RECORD, record)
        if said.role is None:
            return self._note(said)
        role, cwd = None, None
        if said.role == "assistant" and not said.isSummary and speaks(said.content, silent=SILENT):
            role = Role.ASSISTANT
        elif said.role == "user" and not said.isSummary:
            role = Role.USER if is_prompt(said.content) else None
            if not memory.get("cwd") and (found := CWD.search(bytes(said.content))):
                memory["cwd"] = True
                cwd = found[1].decode(errors="replace").replace("\\\\", "\\")
        taken = said.role == "user" and TAKEN_OVER in bytes(said.content)
        model = said.modelInfo.model or said.modelInfo.id if said.modelInfo else None
        key = said.id or (None if said.ts is None else str(said.ts))
        unknown = unheard(said.role, ("user", "assistant", "system"))
        rewind = "taken over" if taken else None  # all of them: the task itself has them, with its own keys
        return Entry(
            time_ms=parse_time(said.ts), role=role, key=key, model=model, cwd=cwd, unknown=unknown, rewind=rewind
        )

    def _note(self, said: Record) -> Entry:
        return Entry(
            time_ms=parse_time(said.ts) or parse_time(said.at),
            model=said.model,
            version=said.version,
            cwd=said.cwd,
            branch=said.branch,
            title=said.title,
            parent=said.parent,
            ended=said.type == "end",
            unknown=unheard(said.type, ("say", "ask", "session", "task", "used", "end")),
        )


def tasks(path: str) -> Root:
    """Make the root for a directory of tasks."""
    return Root(path=path, watch=Watch.SCAN, depth=1, skip=frozenset(["checkpoints"]))
