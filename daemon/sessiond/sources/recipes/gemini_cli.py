"""Restores chats of Gemini CLI: the log as it was. `gemini --resume ID` finds it in the folder of the project.

The folder's name is Gemini's short name of the project, from `projects.json`, or else made of the directory's name. A
file in the folder names the project, so that Gemini finds the folder and gives it to no other project. The
`projectHash` in the log is ignored. A subagent is a session of its own, in a folder named after the session that called
it. See docs/formats/gemini-cli.md.
"""

from __future__ import annotations

import re
from itertools import chain, count
from typing import ClassVar

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
NAME, NOT_IN_A_NAME = re.compile(r"[a-z0-9-]+"), re.compile(r"[^a-z0-9]+")
OUTPUTS = "tool-outputs/"
OWNER = ".project_root"
"""The file in which Gemini writes whose folder it is."""


class _Projects(msgspec.Struct):
    """`projects.json`."""

    projects: dict[str, str] = {}


PROJECTS = msgspec.json.Decoder(_Projects)


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
        owner = PlannedFile(
            path=f"{folder}/{OWNER}",
            content=lambda: iter([target.directory.encode()]),
            mtime_ms=session.active_ms,
            transcript=False,
        )
        files, left_out = [owner], list[str]()
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
    """Return the project's folder, as Gemini finds or names it: with a number if another project has the name."""
    folders, registered = f"{base}/tmp", _registered(base, target)  # noqa: S108 - Gemini's own folder in the home

    def may_be_ours(name: str) -> bool:
        return _owner(f"{folders}/{name}", target) in ("", target.directory)

    known = registered.pop(target.directory, None)
    if known is not None and may_be_ours(known):
        return f"{folders}/{known}"
    for name in sorted(target.names(folders)):
        if _owner(f"{folders}/{name}", target) == target.directory:
            return f"{folders}/{name}"
    last = target.directory.rstrip("/").rpartition("/")[2].lower()
    plain = NOT_IN_A_NAME.sub("-", last).strip("-") or "project"
    names = chain([plain], (f"{plain}-{number}" for number in count(1)))
    return next(f"{folders}/{name}" for name in names if name not in registered.values() and may_be_ours(name))


def _registered(base: str, target: Target) -> dict[str, str]:
    """Return the folder of each project in `projects.json`; nothing if Gemini would refuse the file and replace it."""
    try:
        projects = PROJECTS.decode(target.read_linked(f"{base}/projects.json") or b"{}").projects
    except msgspec.MsgspecError:
        return {}
    return projects if all(map(NAME.fullmatch, projects.values())) else {}


def _owner(folder: str, target: Target) -> str:
    """Return the directory of the project that a folder belongs to; "" if that is not written in it."""
    return target.read_linked(f"{folder}/{OWNER}").decode(errors="replace").strip()


RECIPE = GeminiCliRecipe()
