"""Restores sessions of Kimi Code: the logs as they were, with the name of the workspace here.

Kimi Code refuses a log that binds the session to another workspace, and finds a session by its line in
`session_index.jsonl`. See docs/formats/kimi.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import islice
from typing import Any

import msgspec

from sessiond.sources.plan import (
    ArchivedSession,
    ArchivedStream,
    Command,
    Plan,
    PlannedEdit,
    PlannedFile,
    Recipe,
    Target,
    Unrestorable,
    below,
    document,
    last_record,
    verbatim,
)

AGENT = re.compile(r"[\w-]+", re.ASCII)
WORKSPACE = re.compile(rb'"wd_[a-z0-9._-]{1,40}_[0-9a-f]{12}"')
NOT_IN_A_NAME = re.compile(r"[^a-z0-9._-]+")
INDEX = "session_index.jsonl"


class KimiRecipe(Recipe):
    """Writes the logs of the agents, the state and the side files. Kimi CLI, its predecessor, is another program."""

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        second = b"".join(list(islice(session.stream().lines(), 2))[1:])
        if b'"timestamp"' in second:
            raise Unrestorable("Kimi CLI wrote it; only sessions of its successor, Kimi Code, can be restored")
        return _code(session, target)


def _code(session: ArchivedSession, target: Target) -> Plan:
    native_id, main = f"session_{session.record.id}", session.stream()
    home = target.dirs.from_variable("KIMI_CODE_HOME") or f"{target.dirs.home}/.kimi-code"
    workspace = _workspace(target.directory)
    folder, index = f"{home}/sessions/{workspace}/{native_id}", f"{home}/{INDEX}"
    state = last_record(session.stream("state")).get("state")
    if not isinstance(state, dict):
        raise Unrestorable("its state is damaged")
    state = _moved(state, folder, target.directory)
    entry = msgspec.json.encode({"sessionId": native_id, "sessionDir": folder, "workDir": target.directory}) + b"\n"
    sides = [each for each in session.streams if not each.has_records]
    logs = [main, *(each for each in session.streams if _is_agent(each))]
    about = PlannedFile(
        path=f"{folder}/state.json", content=document(state), mtime_ms=session.active_ms, transcript=False
    )
    known = f'"{native_id}"'.encode() in target.read(index)
    return Plan(
        base=home,
        files=(
            *(verbatim(each, below(folder, each.name), session.active_ms) for each in sides),
            *(
                PlannedFile(
                    path=f"{folder}/agents/{each.name}/wire.jsonl",
                    content=_in_workspace(each, workspace),
                    mtime_ms=session.active_ms,
                )
                for each in logs
            ),
            about,
        ),
        edits=() if known else (PlannedEdit(path=index, change=lambda before: before + entry),),
        resume=Command(argv=("kimi", "--session", native_id), directory=target.directory),
        programs=("kimi",),
    )


def _is_agent(stream: ArchivedStream) -> bool:
    """Return whether a stream is the log of a subagent."""
    own = ("main", "state", "imported", "prompts")
    return stream.has_records and bool(AGENT.fullmatch(stream.name)) and not stream.name.endswith(own)


def _workspace(directory: str) -> str:
    """Return Kimi Code's name of a directory."""
    last = directory.rstrip("/").rpartition("/")[2].lower()
    slug = NOT_IN_A_NAME.sub("-", last).strip("-")[:40].strip("-")
    slug = "workspace" if slug in ("", ".", "..") else slug
    return f"wd_{slug}_{sha256(directory.rstrip('/').encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def _in_workspace(stream: ArchivedStream, workspace: str) -> Callable[[], Iterator[bytes]]:
    """Return the content of a log with the name of the workspace here in the records that bind the session to it."""

    def content() -> Iterator[bytes]:
        for line in stream.lines():
            bound = WORKSPACE.sub(f'"{workspace}"'.encode(), line) if b'"runtime.set_binding"' in line else line
            yield bound + b"\n"

    return content


def _moved(state: dict[str, Any], folder: str, directory: str) -> dict[str, Any]:
    """Return a state with the directories of this machine."""
    moved = {**state}
    for name in ("cwd", "workDir"):
        if name in moved:
            moved[name] = directory
    agents = moved.get("agents")
    if isinstance(agents, dict):
        moved["agents"] = {
            name: {**agent, "homedir": f"{folder}/agents/{name}"}
            if isinstance(agent, dict) and "homedir" in agent
            else agent
            for name, agent in agents.items()
        }
    return moved


RECIPE = KimiRecipe()
