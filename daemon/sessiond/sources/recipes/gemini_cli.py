"""Restores chats of Gemini CLI: the log as it was. `gemini --resume ID` finds it in the folder of the project.

The folder's name is Gemini's short name of the project, from `projects.json`, or else made of the directory's name;
Gemini registers a folder that it finds. The `projectHash` in the log is not looked at. A subagent is a session of its
own, in a folder named after the one that called it. See docs/formats/gemini-cli.md.
"""

from __future__ import annotations

import re
from itertools import count
from typing import Any, ClassVar

import msgspec

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
    first_record,
    verbatim,
)

CHAT = re.compile(r"session-[\w-]+", re.ASCII)
NOT_IN_A_NAME = re.compile(r"[^a-z0-9]+")
OUTPUTS = "tool-outputs/"


class GeminiCliRecipe(Recipe):
    """Writes the chat and the outputs of its tools. A subagent is resumed with its caller, which comes along."""

    parents: ClassVar[bool] = True
    children: ClassVar[bool] = True

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        native_id, dirs = str(session.record.id), target.dirs
        called = session.parent is not None
        chats = [each for each in session.streams if each.has_records and (called or CHAT.fullmatch(each.name))]
        if not chats:
            raise Unrestorable("the archive has no log of it; versions before 0.39 wrote documents")
        base = f"{dirs.from_variable('GEMINI_CLI_HOME') or dirs.home}/.gemini"
        folder = _folder(base, target)
        files, left_out = list[PlannedFile](), list[str]()
        for stream in session.streams:
            path = _path(stream, folder, native_id)
            if path is not None:
                files.append(verbatim(stream, path, session.active_ms))
            elif stream not in chats:
                left_out.append(stream.name)
        if called:
            names = [below(f"{folder}/chats/{session.parent}", str(first_record(chats[0]).get("sessionId")))]
        else:
            names = [f"{folder}/chats/{each.name}" for each in chats]
        logs = [verbatim(each, f"{name}.jsonl", session.active_ms) for each, name in zip(chats, names, strict=True)]
        notes = ["Gemini CLI deletes sessions after 30 days, unless its settings say otherwise"]
        if left_out:
            notes.append(f"not restored, because they are not needed: {', '.join(left_out)}")
        return Plan(
            base=base,
            files=(*files, *logs),
            resume=Command(argv=("gemini", "--resume", str(session.parent or native_id)), directory=target.directory),
            notes=tuple(notes),
            programs=("gemini",),
        )


def _path(stream: ArchivedStream, folder: str, native_id: str) -> str | None:
    """Return where a side file belongs; None for a transcript."""
    if stream.has_records:
        return None
    if stream.name.startswith(OUTPUTS):
        return below(f"{folder}/{OUTPUTS}session-{native_id}", stream.name.removeprefix(OUTPUTS))
    return below(f"{folder}/{native_id}", stream.name)


def _folder(base: str, target: Target) -> str:
    """Return the project's folder with the name that Gemini gives it: with a number if another project has it."""
    folders = f"{base}/tmp"  # noqa: S108 - Gemini's own folder in the home
    try:
        known: Any = msgspec.json.decode(target.read(f"{base}/projects.json") or b"{}")
        name = known["projects"][target.directory]
        if isinstance(name, str) and below("", name).count("/") == 1:
            return f"{folders}/{name}"
    except (msgspec.MsgspecError, KeyError, TypeError, Unrestorable):
        pass  # there is no entry
    last = target.directory.rstrip("/").rpartition("/")[2].lower()
    name = NOT_IN_A_NAME.sub("-", last).strip("-") or "project"
    for number in count():
        folder = f"{folders}/{name}-{number}" if number else f"{folders}/{name}"
        owner = target.read(f"{folder}/.project_root").decode(errors="replace").strip()
        if owner == target.directory or not (owner or target.exists(folder)):
            return folder
    raise AssertionError


RECIPE = GeminiCliRecipe()
