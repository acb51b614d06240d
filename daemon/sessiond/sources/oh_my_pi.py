"""oh-my-pi, a fork of Pi: docs/formats/oh-my-pi.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from sessiond.sources.base import Root, SideFiles, Unit, UserDirs
from sessiond.sources.pi import KNOWN, Pi
from sessiond.sources.records import UUID
from sessiond.sources.user_dirs import unique_paths

FILE = re.compile(rf"[^/]+/[^/]+_({UUID})(?:/([\w-]+))?\.jsonl", re.ASCII)
OWN_TYPES = (
    "title title_change mode_change service_tier_change session_init ttsr_injection credential_pin model_usage"
    " reset_boundary"
)


class OhMyPi(Pi):
    """Session files of oh-my-pi: Pi's format after a first line with the title, which is overwritten in place."""

    tool: ClassVar[str] = "oh-my-pi"
    variables: ClassVar[tuple[str, ...]] = ()  # PI_CODING_AGENT_DIR is Pi's too: the sessions in it are taken for Pi's
    versions: ClassVar[tuple[str, ...]] = ("18.2.3",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or branch is stored",
        "a branch that is continued after another one was begun is not counted",
    )
    known: ClassVar[frozenset[str]] = KNOWN.union(OWN_TYPES.split())
    side_files: ClassVar[tuple[SideFiles, ...]] = (SideFiles(rf"[^/]+/[^/]+_(?P<id>{UUID})/(?P<name>.+)", "artifacts"),)

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the sessions in the XDG data directory and in ~/.omp/agent."""
        xdg = dirs.from_variable("XDG_DATA_HOME", "/omp/sessions")
        for path in unique_paths(xdg, f"{dirs.home}/.omp/agent/sessions"):
            yield Root(path=path, depth=2)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a session, or of a subagent's file below it."""
        if not (found := FILE.fullmatch(relative)):
            return None
        return Unit(native_id=found[1], stream=found[2] or "main", thread=not found[2])


SOURCES = (OhMyPi(),)
