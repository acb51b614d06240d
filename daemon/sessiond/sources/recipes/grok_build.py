"""Restores sessions of Grok Build: the log and other files unchanged, and the summary with this machine's directory.

`grok --resume ID` finds a session in the folder of its project, which has the percent-encoded path as its name. See
docs/formats/grok-build.md.
"""

from __future__ import annotations

import urllib.parse
from typing import ClassVar

from sessiond.sources.plan import (
    ArchivedSession,
    Command,
    Plan,
    PlannedFile,
    Recipe,
    Target,
    below,
    document,
    last_record,
    verbatim,
)


class GrokBuildRecipe(Recipe):
    """Writes the folder of the session. A subagent is a session of its own."""

    children: ClassVar[bool] = True

    def is_subagent(self, session: ArchivedSession) -> bool:
        """Return whether the summary has no `forked_at`, which that of a fork has."""
        return not last_record(session.stream("summary")).get("forked_at")

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        native_id, main = str(session.record.id), session.stream()
        home = target.dirs.from_variable("GROK_HOME") or f"{target.dirs.home}/.grok"
        folder = f"{home}/sessions/{urllib.parse.quote(target.directory, safe='')}/{native_id}"
        summary = last_record(session.stream("summary"))
        info = summary.get("info")
        summary["info"] = {**(info if isinstance(info, dict) else {}), "id": native_id, "cwd": target.directory}
        sides = [each for each in session.streams if not each.has_records]
        about = PlannedFile(
            path=f"{folder}/summary.json",
            content=document(summary),
            mtime_ms=session.active_ms,
            transcript=False,
        )
        argv = ("grok", "--resume", native_id)
        return Plan(
            base=home,
            files=(
                *(verbatim(stream, below(folder, stream.name), session.active_ms) for stream in sides),
                verbatim(main, f"{folder}/updates.jsonl", session.active_ms),
                about,
            ),
            resume=Command(argv=argv, directory=target.directory),
            fork=Command(argv=(*argv, "--fork-session"), directory=target.directory),
            notes=("older paths in the session still name the directory of the other machine",),
            programs=("grok",),
        )


RECIPE = GrokBuildRecipe()
