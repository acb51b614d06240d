"""Pi, the coding agent of pi-mono: docs/formats/pi.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Memory, Root, UserDirs
from sessiond.sources.records import ABSENT, ROLES, UUID, message_role, parse, unknown_type
from sessiond.sources.user_dirs import unique_paths

TYPES = (
    "session message model_change thinking_level_change session_info compaction branch_summary custom custom_message"
    " label"
)
KNOWN = frozenset(TYPES.split())
OTHER_ROLES = frozenset(
    ["system", "toolResult", "bashExecution", "custom", "hookMessage", "branchSummary", "compactionSummary"]
)
"""Roles of messages that are neither the user's nor the model's."""
PARENT = re.compile(rf"({UUID})(?:\.jsonl)?$")  # a path; in oh-my-pi, an id


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: msgspec.Raw = ABSENT
    model: str | None = None


class _Line(msgspec.Struct, gc=False, rename="camel"):
    """An entry of the tree, or the header."""

    type: str = "?"
    id: str | None = None
    parent_id: str | None = None
    timestamp: str | None = None
    cwd: str | None = None
    parent_session: str | None = None
    model_id: str | None = None
    name: str | None = None
    title: str | None = None
    message: _Message | None = None


LINE = msgspec.json.Decoder(_Line)


class Pi(BaseSource):
    """Session files of Pi: a tree of entries. The path from the root to the last entry is what counts."""

    tool: ClassVar[str] = "pi"
    variables: ClassVar[tuple[str, ...]] = ("PI_CODING_AGENT_SESSION_DIR", "PI_CODING_AGENT_DIR")
    versions: ClassVar[tuple[str, ...]] = ("format 1", "format 2", "0.73.1")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or branch is stored",
        "a branch that is continued after another one was begun is not counted",
        "subagent-artifacts/, which an extension writes, is not read",
    )
    # `--<cwd>--/<time>_<uuid>.jsonl`, or without a directory in a session directory chosen by the user. Extensions
    # write other JSON lines deeper down and under other names.
    files: ClassVar[re.Pattern[str]] = re.compile(rf"(?:[^/]+/)?[^/]+_(?P<id>{UUID})\.jsonl", re.ASCII)
    known: ClassVar[frozenset[str]] = KNOWN

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return PI_CODING_AGENT_SESSION_DIR, and the sessions of PI_CODING_AGENT_DIR and ~/.pi/agent."""
        own = dirs.from_variable("PI_CODING_AGENT_SESSION_DIR")
        agent = dirs.from_variable("PI_CODING_AGENT_DIR", "/sessions")
        for path in unique_paths(own, agent, f"{dirs.home}/.pi/agent/sessions"):
            yield Root(path=path, depth=1)

    def role(self, name: str, content: msgspec.Raw, record: bytes) -> Role | None:
        """Return the role of a message; None if it does not count. Forks of Pi have further signs in the record."""
        return message_role(name, content, silent=("thinking",))

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode an entry. One whose parent is not the last entry begins a branch and takes back the old one."""
        line = parse(LINE, record)
        time_ms = parse_time(line.timestamp)
        if line.type == "session":
            parent = PARENT.search(line.parent_session or "")
            copied = bool(line.parent_session)
            if copied and time_ms is not None:
                memory["forked"] = time_ms
            return Entry(time_ms=time_ms, cwd=line.cwd, parent=parent[1] if parent else None, copied=copied)
        message, role, unknown = line.message, None, unknown_type(line.type, self.known)
        if message and line.type == "message":
            role = self.role(message.role, message.content, record)
        if message and message.role not in ROLES and message.role not in OTHER_ROLES:
            unknown = f"message/{message.role}"
        # Ids have 8 hex digits and are unique in one file only; id and time together are equal in a fork only.
        key = f"{line.id}.{time_ms}" if line.id else None
        return Entry(
            # A fork copies its parent's entries with their times. It began when it was forked.
            time_ms=max(time_ms, memory.get("forked", 0)) if time_ms is not None else None,
            role=role,
            key=key,
            model=line.model_id or (message.model if message and role else None),
            title=line.name if line.type == "session_info" else line.title,
            rewind=_advance_path(line, key if role else "", memory),
            unknown=unknown,
        )


def _advance_path(line: _Line, key: str | None, memory: Memory) -> str | None:
    """Add an entry to the active path. Return the key of the first message that is no longer on it, if any.

    A branch that was left is forgotten: an entry that continues one takes nothing back.
    """
    if not line.id:
        return None  # format 1 is linear
    path: dict[str, str] = memory.setdefault("path", {})
    removed: list[str] = []
    if line.parent_id in path:
        while next(reversed(path)) != line.parent_id:
            removed.append(path.popitem()[1])
    elif line.parent_id is None:
        removed = [*reversed(path.values())]
        path.clear()
    path[line.id] = key or ""
    return next((message for message in reversed(removed) if message), None)


SOURCES = (Pi(),)
