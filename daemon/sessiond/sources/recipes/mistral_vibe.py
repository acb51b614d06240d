"""Restores sessions of Mistral Vibe, in the layout of 2.x: `messages.jsonl` and `meta.json`.

3.x keeps sessions in content-addressed chunks that refer to one another and to the plugins of one machine, so it would
refuse them elsewhere. It reads sessions of 2.x, and continues them under new ids. See docs/formats/mistral-vibe.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

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
    document,
    verbatim,
)

RECORD = msgspec.json.Decoder(dict[str, Any])
MESSAGES = "messages.jsonl"
THOUGHTS = ("reasoning", "thinking")


class MistralVibeRecipe(Recipe):
    """Writes the messages as they were, if 2.x wrote them; else the same messages in its layout."""

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        main, native_id = session.stream(), str(session.record.id)
        home = target.dirs.from_variable("VIBE_HOME") or f"{target.dirs.home}/.vibe"
        base = f"{home}/logs/session"
        resume = Command(argv=("vibe", "--resume", native_id), directory=target.directory)
        if target.exists(f"{base}/unified/{native_id}"):
            return Plan(base=base, resume=resume, notes=("the session is here already, as Vibe 3 keeps it",))
        started = session.record.started_at
        folder = f"{base}/session_{started:%Y%m%d_%H%M%S}_{native_id[:8]}"
        about = document(_meta(session, target.directory))
        when = session.active_ms
        agents = [each for each in session.streams if each.has_records and each.name not in ("main", "meta")]
        files = [
            *(verbatim(each, below(f"{folder}/agents", f"{each.name}/{MESSAGES}"), when) for each in agents),
            PlannedFile(path=f"{folder}/{MESSAGES}", content=_content(main), mtime_ms=when),
            PlannedFile(path=f"{folder}/meta.json", content=about, mtime_ms=when, transcript=False),
        ]
        notes = ("Vibe 3 continues it under a new id",)
        return Plan(base=base, files=tuple(files), resume=resume, notes=notes, programs=("vibe",))


def _meta(session: ArchivedSession, directory: str) -> dict[str, Any]:
    """Return the description, with the directory of this machine. Raises: Unrestorable, a record is damaged."""
    record = session.record
    ended = record.ended_at or record.started_at
    known: dict[str, Any] = {}
    for stream in session.streams:
        if stream.name == "meta" and stream.has_records:
            for line in stream.lines():
                known |= _decode(line)
    return {
        "session_id": str(record.id),
        "parent_session_id": None,
        "start_time": record.started_at.isoformat(),
        "end_time": ended.isoformat(),
        "git_commit": known.get("git_commit"),
        "git_branch": record.git_branch,
        "environment": {"working_directory": directory},
        "origin_directory": directory,
        "username": "",
        "child_sessions": known.get("child_sessions") or [],
        "loops": [],
        "title": session.title,
        "title_source": "auto",
        "config": {"model_name": record.model},  # with `active_model`, Vibe would insist on a model of that name
        "total_messages": sum(1 for _ in _content(session.stream())()),
        "stats": {},
        "tools_available": [],
        "agent_profile": {},
    }


def _content(stream: ArchivedStream) -> Callable[[], Iterator[bytes]]:
    """Return the lines of a transcript in the layout of 2.x. Raises: Unrestorable, a record is damaged."""

    def content() -> Iterator[bytes]:
        for message in _messages(map(_decode, stream.lines())):
            yield message + b"\n"

    first = next(stream.lines(), b"")
    if "type" in _decode(first):
        return content
    return lambda: (line + b"\n" for line in stream.lines())


def _decode(line: bytes) -> dict[str, Any]:
    try:
        return RECORD.decode(line)
    except msgspec.MsgspecError as error:
        raise Unrestorable("one of its records is damaged") from error


def _messages(entries: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Iterate the messages of 2.x that entries of 3.x stand for. An answer has the calls that follow it."""
    answer: dict[str, Any] | None = None
    results: list[dict[str, Any]] = []
    for entry in entries:
        if entry.get("type") == "effect":
            call, result = _call(entry)
            answer = {"role": "assistant", "content": "", "injected": False} if answer is None else answer
            answer.setdefault("tool_calls", []).append(call)
            results.append(result)
            continue
        yield from _encoded(answer, results)
        answer, results = None, []
        role = entry.get("role")
        if role not in ("user", "assistant"):
            continue
        message = {
            "role": role,
            "content": _text(entry.get("content")),
            "injected": bool(entry.get("injected")),
            "message_id": str(entry.get("id")),
        }
        if thoughts := _text(entry.get("content"), THOUGHTS):
            message["reasoning_content"] = thoughts
        if role == "assistant":
            answer = message
        else:
            yield msgspec.json.encode(message)
    yield from _encoded(answer, results)


def _encoded(answer: dict[str, Any] | None, results: list[dict[str, Any]]) -> Iterator[bytes]:
    """Iterate an answer and the results of its calls."""
    if answer is not None:
        yield from map(msgspec.json.encode, [answer, *results])


def _call(effect: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a call and its result. 3.x puts the name of a group before that of a tool."""
    detail, state = _object(effect.get("detail")), _object(effect.get("state"))
    name, number = str(detail.get("toolName")).rpartition(".")[2], str(effect.get("id"))
    arguments = msgspec.json.encode(detail.get("input") or {}).decode()
    call = {"id": number, "index": 0, "type": "function", "function": {"name": name, "arguments": arguments}}
    output = _object(state.get("output"))
    structured = output.get("structured_content")
    text = msgspec.json.encode(structured).decode() if structured else _text(output.get("content"))
    text = text or str(state.get("outputText") or output.get("error") or "")
    return call, {"role": "tool", "content": text, "injected": False, "name": name, "tool_call_id": number}


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(content: Any, kinds: Sequence[str] = ("text",)) -> str:
    """Return the text of a message's blocks of some types."""
    if isinstance(content, str):
        return content if "text" in kinds else ""
    blocks = [each for each in content if isinstance(each, dict)] if isinstance(content, list) else []
    return "\n".join(str(each.get("text", "")) for each in blocks if str(each.get("type")) in kinds)


RECIPE = MistralVibeRecipe()
