"""Restores sessions of Kimi Code and of Kimi CLI, its predecessor. See docs/formats/kimi.md.

Kimi Code gets the logs as they were, with the name of the workspace here: it refuses a log that binds the session to
another one. It finds a session by its line in `session_index.jsonl`.

Kimi CLI continues from `context.jsonl`, which repeats the log. Without an entry for the directory in `kimi.json` it
would begin a new session and empty that file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from hashlib import md5, sha256
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
    joined,
    last_record,
    verbatim,
)

AGENT = re.compile(r"[\w-]+", re.ASCII)
WORKSPACE = re.compile(rb'"wd_[a-z0-9._-]{1,40}_[0-9a-f]{12}"')
NOT_IN_A_NAME = re.compile(r"[^a-z0-9._-]+")
INDEX = "session_index.jsonl"
CONTEXT = "context.jsonl"


class _Message(msgspec.Struct, gc=False):
    type: str
    payload: dict[str, Any] = {}


class _Wire(msgspec.Struct, gc=False):
    """A line of Kimi CLI's log."""

    message: _Message | None = None


WIRE = msgspec.json.Decoder(_Wire)


class KimiRecipe(Recipe):
    """Writes the logs of the agents, the state and the side files."""

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        second = b"".join(list(islice(session.stream().lines(), 2))[1:])
        if b'"timestamp"' in second:
            return _cli(session, target)
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


def _cli(session: ArchivedSession, target: Target) -> Plan:
    """Return the plan for a session of Kimi CLI. Raises: Unrestorable."""
    if any(each.name == "imported" for each in session.streams):
        # Kimi CLI's files have only the messages from before.
        raise Unrestorable(
            "it went on in Kimi Code, which had imported it: restoring it in Kimi CLI would lose messages"
        )
    native_id, main, when = str(session.record.id), session.stream(), session.active_ms
    home = target.dirs.from_variable("KIMI_SHARE_DIR") or f"{target.dirs.home}/.kimi"
    folder = md5(target.directory.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
    folder, index = f"{home}/sessions/{folder}/{native_id}", f"{home}/kimi.json"
    sides = [each for each in session.streams if not each.has_records]
    context = next((each for each in sides if each.name == CONTEXT), None)
    content = joined(lambda: context_lines(main)) if context is None else context.read
    agents = [each for each in session.streams if _is_agent(each)]
    entry = {"path": target.directory, "kaos": "local", "last_session_id": native_id}
    edit = PlannedEdit(path=index, change=lambda before: _with_work_dir(before, entry))
    return Plan(
        base=home,
        files=(
            *(verbatim(each, below(folder, each.name), when) for each in sides if each is not context),
            *(verbatim(each, f"{folder}/subagents/{each.name}/wire.jsonl", when) for each in agents),
            *_cli_state(session, folder),
            verbatim(main, f"{folder}/wire.jsonl", when),
            # A transcript too: what another machine has added must be in both.
            PlannedFile(path=f"{folder}/{CONTEXT}", content=content, mtime_ms=when),
        ),
        edits=() if _has_work_dir(target.read(index), target.directory) else (edit,),
        resume=Command(argv=("kimi", "--session", native_id), directory=target.directory),
        notes=("Kimi CLI (before 1.50) wrote it; Kimi Code reads it after `kimi migrate`",),
        programs=("kimi",),
    )


def _cli_state(session: ArchivedSession, folder: str) -> Iterator[PlannedFile]:
    """Iterate the one file with the title and the approvals of a session of Kimi CLI; nothing if it has none."""
    stream = next((each for each in session.streams if each.name == "state" and each.has_records), None)
    state = None if stream is None or not stream.length else last_record(stream).get("state")
    if isinstance(state, dict):
        path = f"{folder}/state.json"
        yield PlannedFile(path=path, content=document(state), mtime_ms=session.active_ms, transcript=False)


def context_lines(log: ArchivedStream) -> Iterator[bytes]:
    """Iterate the lines of a context, made from a log of Kimi CLI: prompts, texts, calls and their results.

    Raises: Unrestorable, a line is damaged.
    """
    step: dict[str, Any] | None = None
    for line in log.lines():
        try:
            message = WIRE.decode(line).message
        except msgspec.MsgspecError as error:
            raise Unrestorable("a line of its log is damaged") from error
        if message is None:
            continue
        payload = message.payload
        if message.type in ("TurnBegin", "SteerInput", "StepBegin", "ToolResult") and step is not None:
            yield msgspec.json.encode(step)
            step = None
        if message.type in ("TurnBegin", "SteerInput"):
            yield msgspec.json.encode({"role": "user", "content": payload.get("user_input")})
        elif message.type == "StepBegin":
            step = {"role": "assistant", "content": ""}
        elif message.type == "ContentPart" and step is not None and payload.get("type") == "text":
            step["content"] += str(payload.get("text"))
        elif message.type == "ToolCall" and step is not None:
            call = {"type": "function", "id": payload.get("id"), "function": payload.get("function")}
            step.setdefault("tool_calls", []).append(call)
        elif message.type == "ToolResult":
            returned = payload.get("return_value")
            output = returned.get("output") if isinstance(returned, dict) else returned
            text = output if isinstance(output, str) else msgspec.json.encode(output).decode()
            content = [{"type": "text", "text": text}]
            yield msgspec.json.encode({"role": "tool", "content": content, "tool_call_id": payload.get("tool_call_id")})
    if step is not None:
        yield msgspec.json.encode(step)


def _work_dirs(content: bytes) -> tuple[dict[str, Any], list[Any]]:
    """Return `kimi.json` and its list of directories. Raises: Unrestorable."""
    try:
        known = msgspec.json.decode(content or b"{}", type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Unrestorable("Kimi CLI's kimi.json is damaged, so the directory can't be added to it") from error
    listed = known.get("work_dirs", [])
    if not isinstance(listed, list):
        raise Unrestorable("Kimi CLI's kimi.json has no list of directories")
    return known, listed


def _has_work_dir(content: bytes, directory: str) -> bool:
    """Return whether `kimi.json` lists a directory of this machine."""
    listed = _work_dirs(content)[1]
    return any(
        isinstance(each, dict) and (each.get("path"), each.get("kaos")) == (directory, "local") for each in listed
    )


def _with_work_dir(content: bytes, entry: dict[str, Any]) -> bytes:
    known, listed = _work_dirs(content)
    return msgspec.json.format(msgspec.json.encode(known | {"work_dirs": [*listed, entry]}), indent=2)


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
