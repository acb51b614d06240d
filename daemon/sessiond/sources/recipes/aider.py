"""Restores sessions of Aider: the part of `.aider.chat.history.md` that it is, after what the project's file has.

Aider continues with the whole history of the project: it has no command for one session. See docs/formats/aider.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sessiond.sources.aider import HISTORY, find_sessions
from sessiond.sources.documents import agrees
from sessiond.sources.plan import ArchivedSession, Command, Plan, PlannedFile, Recipe, Target, Unrestorable


class AiderRecipe(Recipe):
    """Appends the session to the history of the project."""

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        path = target.dirs.from_variable("AIDER_CHAT_HISTORY_FILE") or f"{_project(target)}/{HISTORY}"
        content, start = _with_session(target.read(path), b"".join(_lines(session)), path)
        file = PlannedFile(path=path, content=lambda: iter([content]), mtime_ms=session.active_ms, mode=0o644)
        return Plan(
            base=path.rpartition("/")[0],
            files=(file,),
            resume=Command(argv=("aider", "--restore-chat-history"), directory=target.directory),
            notes=("Aider continues with all of the project's history, the latest sessions first",),
            native_id=next((each.native_id for each in find_sessions(content) if each.start == start), None),
            programs=("aider",),
        )


def _project(target: Target) -> str:
    """Return the root of the repository, where Aider keeps its history; without a repository, the directory."""
    folder = target.directory
    while folder:
        if target.exists(f"{folder}/.git"):
            return folder
        folder = folder.rpartition("/")[0]
    return target.directory


def _lines(session: ArchivedSession) -> Iterator[bytes]:
    """Iterate the lines as Aider wrote them: the header, then the Markdown. Raises: Unrestorable."""
    for number, record in enumerate(session.stream().lines()):
        try:
            if number == 0:
                start = msgspec.json.decode(record, type=dict[str, str])["started"]
                yield f"# aider chat started at {start}\n".encode()
            else:
                yield msgspec.json.decode(record, type=str).encode() + b"\n"
        except (msgspec.MsgspecError, KeyError) as error:
            raise Unrestorable("one of its records is damaged") from error


def _with_session(before: bytes, session: bytes, path: str) -> tuple[bytes, int]:
    """Return the history with the session, of which it may have the first lines or all, and where the session begins.

    Raises: Unrestorable.
    """
    header = session[: session.index(b"\n") + 1]
    at = before.find(header)
    while at >= 0:
        shared = min(len(before) - at, len(session))
        # On the machine that wrote it, the history has secrets that are masked in the archive.
        if agrees(before[at : at + shared], session[:shared]):
            return before + session[shared:], at
        at = before.find(header, at + 1)
    if header in before:
        raise Unrestorable(f"{path} has a session with the same start and other content")
    before += b"" if before.endswith(b"\n\n") else b"\n"
    return before + session, len(before)


RECIPE = AiderRecipe()
