"""Open Interpreter since 1.0, a fork of Codex: docs/formats/open-interpreter.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from sessiond.sources.base import Root, UserDirs
from sessiond.sources.codex import Codex, rollout_roots


class OpenInterpreter(Codex):
    """Rollouts of Open Interpreter since 1.0 (Rust), in Codex's format. It ignores CODEX_HOME."""

    tool: ClassVar[str] = "open-interpreter"
    variables: ClassVar[tuple[str, ...]] = ("INTERPRETER_HOME",)
    versions: ClassVar[tuple[str, ...]] = ("1.0",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no title is stored; a parent is known only where Codex's records of it are written",
        "versions before 1.0 (Python) are not read",
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the rollouts of INTERPRETER_HOME and ~/.openinterpreter."""
        return rollout_roots(dirs.with_override("INTERPRETER_HOME", f"{dirs.home}/.openinterpreter"))


SOURCES = (OpenInterpreter(),)
