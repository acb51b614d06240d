"""Kilo Code: tasks like Roo Code's before 7, since then a fork of OpenCode: docs/formats/kilo-code.md."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from sessiond.session import Entry
from sessiond.sources.cline import Record, Tasks
from sessiond.sources.opencode import OpenCode


class KiloTasks(Tasks):
    """Tasks of Kilo Code before 7, in Roo Code's shape."""

    tool: ClassVar[str] = "kilo-code"
    versions: ClassVar[tuple[str, ...]] = ("5.0",)
    gaps: ClassVar[tuple[str, ...]] = ("tasks of before 7: no version, branch or (mostly) model is stored",)
    extension: ClassVar[str] = "kilocode.kilo-code"

    def _decode_note(self, note: Record) -> Entry:
        """Omit the parent. Task ids are local to a machine and those of OpenCode's sessions are not.

        A parent is looked up by the tool's name, so it could match a session of another machine.
        """
        return msgspec.structs.replace(super()._decode_note(note), parent=None)


class KiloCode(OpenCode):
    """Sessions of Kilo Code since 7, in OpenCode's schema."""

    tool: ClassVar[str] = "kilo-code"
    variables: ClassVar[tuple[str, ...]] = ("KILO_DB",)
    versions: ClassVar[tuple[str, ...]] = ("7.7.7",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no branch is stored; the parent of a subagent is in OpenCode's column, and in no sample",
        "the board of subagents (`kilo_board_message`), whose notes are calls of a tool",
        "left out: snapshot/, log/, telemetry-*, auth.json (keys), storage/migration",
    )
    folder: ClassVar[str] = "kilo"


SOURCES = (KiloTasks(), KiloCode())
