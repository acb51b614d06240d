"""Where Claude Code keeps its transcripts: formats.md 2.1 Directory and Env overrides, field-notes A.2 Where."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sessiond.sources.base import Places, Root
from sessiond.sources.places import distinct
from sessiond.sources.records import UUID

AGENT = r"(?:workflows/)?((?:[\w-]+/)*agent-[\w-]+)"
FILE = re.compile(rf"[^/]+/(?:({UUID})|({UUID})/subagents/{AGENT}|(agent-[\w-]+))\.jsonl", re.ASCII)
"""Below `projects`: a transcript, a subagent's below its session's directory, or one from 1.x beside it."""


def roots_of(places: Places) -> Iterator[Root]:
    """Name `projects` in the home, in ~/.config (older versions), where CLAUDE_CONFIG_DIR says, and of Cowork."""
    given = [places.whole(part.strip()) for part in places.environ.get("CLAUDE_CONFIG_DIR", "").split(",")]
    older = f"{places.given('XDG_CONFIG_HOME') or f'{places.home}/.config'}/claude"
    homes = distinct(*given, f"{places.home}/.claude", older)
    for path in distinct(*(home if home.endswith("/projects") else f"{home}/projects" for home in homes)):
        yield Root(path=path)
    desktop = [f"{places.config}/Claude"]
    if places.platform == "win32":
        desktop.append(f"{places.data}/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude")
    for base in desktop:
        yield Root(path=f"{base}/local-agent-mode-sessions", depth=12, skip=frozenset(["node_modules", ".git"]))
