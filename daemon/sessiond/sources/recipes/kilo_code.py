"""Restores sessions of the Kilo Code CLI, a fork of OpenCode: `kilo import`. See docs/formats/kilo-code.md."""

from __future__ import annotations

from typing import ClassVar

from sessiond.sources.plan import ArchivedSession, Plan, Target, Unrestorable
from sessiond.sources.recipes.opencode import OpenCodeRecipe


class KiloCodeRecipe(OpenCodeRecipe):
    """As OpenCode's. Tasks of the VS Code extension have another format, which the CLI does not import."""

    program: ClassVar[str] = "kilo"

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        if any(stream.name == "ui" for stream in session.streams):
            raise Unrestorable("it is a task of the VS Code extension, which the CLI can't import")
        return super().plan(session, target)


RECIPE = KiloCodeRecipe()
