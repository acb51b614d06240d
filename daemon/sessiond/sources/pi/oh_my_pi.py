"""oh-my-pi, a fork of Pi: formats.md 2.21; session-entries.ts of its package, and what runs of 18.2.3 left."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from sessiond.sources.base import Places, Root, Unit
from sessiond.sources.pi.lines import MORE
from sessiond.sources.pi.tool import Pi
from sessiond.sources.places import distinct
from sessiond.sources.records import UUID

FILE = re.compile(rf"[^/]+/[^/]+_({UUID})(?:/([\w-]+))?\.jsonl", re.ASCII)


class OhMyPi(Pi):
    """Session files of oh-my-pi: Pi's, behind a first line whose title is written over in place."""

    tool: ClassVar[str] = "oh-my-pi"
    versions: ClassVar[tuple[str, ...]] = ("18.2.3",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch is kept",
        "a branch that is taken up again after another one was begun is not counted",
    )
    known: ClassVar[frozenset[str]] = MORE

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the sessions of ~/.omp/agent, and of XDG's data directory; PI_CODING_AGENT_DIR may as well be Pi's."""
        for path in distinct(places.given("XDG_DATA_HOME", "/omp/sessions"), f"{places.home}/.omp/agent/sessions"):
            yield Root(path=path, depth=2)

    def unit(self, relative: str) -> Unit | None:
        """Tell sessions, and what their subagents wrote below them."""
        if not (found := FILE.fullmatch(relative)):
            return None
        return Unit(native_id=found[1], stream=found[2] or "main", thread=not found[2])
