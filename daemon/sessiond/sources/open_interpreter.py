"""Open Interpreter since 1.0, a fork of Codex: docs/formats/open-interpreter.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from sessiond.sources.base import Root, UserDirs
from sessiond.sources.codex import Codex, rollout_roots
from sessiond.sources.prompts import history_root
from sessiond.sources.titles import TITLES


class OpenInterpreter(Codex):
    """Rollouts of Open Interpreter since 1.0 (Rust), in Codex's format. It ignores CODEX_HOME."""

    tool: ClassVar[str] = "open-interpreter"
    variables: ClassVar[tuple[str, ...]] = ("INTERPRETER_HOME",)
    versions: ClassVar[tuple[str, ...]] = ("1.0",)
    gaps: ClassVar[tuple[str, ...]] = (
        "a title, a parent and prompts of deleted sessions are known only where Codex's files of them are written",
        "versions before 1.0 (Python) are not read",
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the rollouts of INTERPRETER_HOME and ~/.openinterpreter, and what Codex keeps beside its own ones."""
        homes = dirs.with_override("INTERPRETER_HOME", f"{dirs.home}/.openinterpreter")
        yield from rollout_roots(homes)
        yield from (history_root(home, TITLES) for home in homes)


SOURCES = (OpenInterpreter(),)
