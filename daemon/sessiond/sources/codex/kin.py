"""What was made of Codex and writes its rollouts (formats.md 2.2 Traps)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from sessiond.sources.base import Places, Root
from sessiond.sources.codex.tool import Codex, rollouts_below

LIKE_CODEX = "no title; a parent, where Codex's records of it are not written"


class OpenInterpreter(Codex):
    """Rollouts of Open Interpreter since 1.0 (Rust), byte for byte as Codex's; it does not look at CODEX_HOME.

    So three of its readers say, history-viewer among them (formats.md 2.2).
    """

    tool: ClassVar[str] = "open-interpreter"
    versions: ClassVar[tuple[str, ...]] = ("1.0",)
    gaps: ClassVar[tuple[str, ...]] = (LIKE_CODEX, "versions before 1.0 (Python)")
    variable: ClassVar[str] = "INTERPRETER_HOME"
    home: ClassVar[str] = ".openinterpreter"


class TraeX(Codex):
    """Rollouts of TRAE's command line, as agentsview reads them (formats.md 2.2); at first not below `cli`."""

    tool: ClassVar[str] = "traex"
    versions: ClassVar[tuple[str, ...]] = ("2026",)
    gaps: ClassVar[tuple[str, ...]] = (LIKE_CODEX,)

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the rollouts of ~/.trae/cli, and of ~/.trae from before."""
        return rollouts_below([f"{places.home}/.trae/cli", f"{places.home}/.trae"])
