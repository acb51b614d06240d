"""TraeX, TRAE's command line, a fork of Codex: docs/formats/traex.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from sessiond.sources.base import Root, UserDirs
from sessiond.sources.codex import Codex, rollout_roots


class TraeX(Codex):
    """Rollouts of TRAE's command line, in Codex's format."""

    tool: ClassVar[str] = "traex"
    variables: ClassVar[tuple[str, ...]] = ()
    versions: ClassVar[tuple[str, ...]] = ("2026",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no title is stored; a parent is known only where Codex's records of it are written",
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the rollouts of ~/.trae/cli, and of ~/.trae, where the first versions kept them."""
        return rollout_roots([f"{dirs.home}/.trae/cli", f"{dirs.home}/.trae"])


SOURCES = (TraeX(),)
