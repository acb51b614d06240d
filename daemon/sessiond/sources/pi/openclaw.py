"""OpenClaw, whose agents are Pi's: formats.md 3; docs.openclaw.ai, reference/session-management-compaction."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from sessiond.sources.base import Places, Root
from sessiond.sources.pi.tool import Pi
from sessiond.sources.records import UUID


class OpenClaw(Pi):
    """Transcripts of OpenClaw's agents, in Pi's format."""

    tool: ClassVar[str] = "openclaw"
    versions: ClassVar[tuple[str, ...]] = ("April 2026",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch or parent is kept; titles are in sessions.json, which is not read",
        "transcripts that were reset or deleted (renamed) before they were seen",
    )
    # Each topic of a chat has its own. Not *.trajectory.jsonl, nor sessions.json.
    files: ClassVar[re.Pattern[str]] = re.compile(rf"[^/]+/sessions/(?P<id>{UUID}(?:-topic-[\w-]+)?)\.jsonl", re.ASCII)

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the agents of OPENCLAW_STATE_DIR and of ~/.openclaw, and of the names that it had before."""
        usual = [f"{places.home}/{name}" for name in (".openclaw", ".clawdbot", ".qclaw")]
        for base in places.homes("OPENCLAW_STATE_DIR", *usual):
            yield Root(path=f"{base}/agents", depth=2, skip=frozenset(["agent", "qmd"]))
