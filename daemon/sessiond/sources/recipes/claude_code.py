"""Restores sessions of Claude Code: the files as they were. `claude --resume ID` finds the id in every project.

Claude Code 2.1 tells the model itself that the directory has changed, so no path in the transcript is rewritten. The
picker does not list sessions of `claude -p`; the id resumes them all the same. See docs/formats/claude-code.md.
"""

from __future__ import annotations

import re

from sessiond.sources.claude_code import SIDE_FOLDERS
from sessiond.sources.plan import ArchivedSession, ArchivedStream, Command, Plan, PlannedFile, Recipe, Target, below
from sessiond.sources.plan import verbatim as _verbatim

FOLDED = re.compile(r"[^A-Za-z0-9]")
"""Each such character of a project's path is a dash in the name of its directory."""
AGENT = re.compile(r"(?:[\w-]+/)*agent-[\w-]+", re.ASCII)


class ClaudeCodeRecipe(Recipe):
    """Writes the transcript, the transcripts of subagents and the side files."""

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        home = target.dirs.from_variable("CLAUDE_CONFIG_DIR").removesuffix("/projects")
        home = home or f"{target.dirs.home}/.claude"
        native_id = str(session.record.id)
        project = f"{home}/projects/{FOLDED.sub('-', target.directory)}"
        main, left_out = session.stream(), list[str]()
        files = list[PlannedFile]()
        for stream in session.streams:
            if stream is main:
                continue
            path = _path(stream, home, f"{project}/{native_id}", native_id)
            if path is None:
                left_out.append(stream.name)
            else:
                files.append(_verbatim(stream, path, session.active_ms))
        notes = ["older paths in the transcript still name the directory of the other machine"]
        if left_out:
            notes.append(f"not restored, because their place is not known: {', '.join(left_out)}")
        argv = ("claude", "--resume", native_id)
        return Plan(
            base=home,
            files=(*files, _verbatim(main, f"{project}/{native_id}.jsonl", session.active_ms)),
            resume=Command(argv=argv, directory=target.directory),
            fork=Command(argv=(*argv, "--fork-session"), directory=target.directory),
            notes=tuple(notes),
            programs=("claude",),
        )


def _path(stream: ArchivedStream, home: str, own: str, native_id: str) -> str | None:
    """Return where a subagent's transcript or a side file belongs; None for a second file of the main thread."""
    if stream.has_records:
        if not AGENT.fullmatch(stream.name):
            return None
        folder = "subagents/workflows" if "/" in stream.name else "subagents"
        return below(f"{own}/{folder}", f"{stream.name}.jsonl")
    folder, _, name = stream.name.partition("/")
    return below(f"{home}/{folder}/{native_id}", name) if folder in SIDE_FOLDERS and name else below(own, stream.name)


RECIPE = ClaudeCodeRecipe()
