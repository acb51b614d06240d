"""TraeX, TRAE's command line, a fork of Codex: docs/formats/traex.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from sessiond.sources.base import Root, UserDirs
from sessiond.sources.codex import Codex, rollout_roots
from sessiond.sources.prompts import history_root
from sessiond.sources.titles import TITLES


class TraeX(Codex):
    """Rollouts of TRAE's command line, in Codex's format."""

    tool: ClassVar[str] = "traex"
    variables: ClassVar[tuple[str, ...]] = ()
    versions: ClassVar[tuple[str, ...]] = ("2026",)
    gaps: ClassVar[tuple[str, ...]] = (
        "a title, a parent and prompts of deleted sessions are known only where Codex's files of them are written",
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the rollouts of ~/.trae/cli, and of ~/.trae, where the first versions kept them.

        Codex keeps titles and prompts beside its own ones.
        """
        homes = [f"{dirs.home}/.trae/cli", f"{dirs.home}/.trae"]
        yield from rollout_roots(homes)
        yield from (history_root(home, TITLES) for home in homes)


SOURCES = (TraeX(),)
