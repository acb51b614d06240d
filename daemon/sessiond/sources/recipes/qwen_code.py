"""Restores chats of Qwen Code: the records as they were, with the project's directory of this machine in the first one.

`qwen --resume ID` finds a chat only if the `cwd` of its first record is the directory that it runs in. See
docs/formats/qwen-code.md.
"""

from __future__ import annotations

import re

from sessiond.sources.plan import (
    ArchivedSession,
    ArchivedStream,
    Command,
    Plan,
    PlannedFile,
    Recipe,
    Target,
    Unrestorable,
    below,
    verbatim,
    with_field,
)

FOLDED = re.compile(r"[^A-Za-z0-9]")
"""Each such character of a project's path is a dash in the name of its directory."""
AGENT = re.compile(r"agent-[\w.-]+", re.ASCII)
SUBAGENTS = "subagents/"


class QwenCodeRecipe(Recipe):
    """Writes the chat, and the transcripts and notes of its subagents."""

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        dirs, native_id, main = target.dirs, str(session.record.id), session.stream()
        if b'"uuid"' not in next(iter(main.lines()), b""):
            raise Unrestorable("an early version of Qwen Code wrote it, in the format of Gemini CLI")
        home = dirs.from_variable("QWEN_RUNTIME_DIR") or dirs.from_variable("QWEN_HOME") or f"{dirs.home}/.qwen"
        project = f"{home}/projects/{FOLDED.sub('-', target.directory)}"
        chat = PlannedFile(
            path=f"{project}/chats/{native_id}.jsonl",
            content=with_field(main, "cwd", target.directory),
            mtime_ms=session.active_ms,
        )
        files, left_out = list[PlannedFile](), list[str]()
        for stream in session.streams:
            path = _path(stream, f"{project}/subagents/{native_id}")
            if path is not None:
                files.append(verbatim(stream, path, session.active_ms))
            elif stream is not main:
                left_out.append(stream.name)
        argv = ("qwen", "--resume", native_id)
        return Plan(
            base=home,
            files=(*files, chat),
            resume=Command(argv=argv, directory=target.directory),
            fork=Command(argv=(*argv, "--fork-session"), directory=target.directory),
            notes=(f"not restored, because they are not needed: {', '.join(left_out)}",) if left_out else (),
            programs=("qwen",),
        )


def _path(stream: ArchivedStream, folder: str) -> str | None:
    """Return where a subagent's transcript or its notes belong; None for other streams."""
    if stream.has_records:
        return below(folder, f"{stream.name}.jsonl") if AGENT.fullmatch(stream.name) else None
    name = stream.name.removeprefix(SUBAGENTS)
    return below(folder, name) if stream.name.startswith(SUBAGENTS) else None


RECIPE = QwenCodeRecipe()
