"""What was forked from OpenCode and keeps its tables: formats.md 2.8 Traps and 2.11."""

from __future__ import annotations

from typing import ClassVar

from sessiond.sources.opencode.tool import OpenCode


class KiloCode(OpenCode):
    """Sessions of Kilo Code since 7, a fork of OpenCode with the same tables (formats.md 2.11)."""

    tool: ClassVar[str] = "kilo-code"
    versions: ClassVar[tuple[str, ...]] = ("7.7.7",)
    gaps: ClassVar[tuple[str, ...]] = ("no branch is stored; a parent is that of OpenCode's schema, none was seen",)
    folder: ClassVar[str] = "kilo"
    variable: ClassVar[str] = "KILO_DB"


class MiMoCode(OpenCode):
    """Sessions of MiMoCode, whose schema agentsview found to be OpenCode's (formats.md 2.8 Traps)."""

    tool: ClassVar[str] = "mimocode"
    versions: ClassVar[tuple[str, ...]] = ("OpenCode's schema",)
    gaps: ClassVar[tuple[str, ...]] = ("no branch is stored; a parent is that of OpenCode's schema, none was seen",)
    folder: ClassVar[str] = "mimocode"
    variable: ClassVar[str] = ""


class ICodeMate(MiMoCode):
    """Sessions of ICodeMate, likewise."""

    tool: ClassVar[str] = "icodemate"
    folder: ClassVar[str] = "icodemate"
