"""Pi (pi-mono's coding agent): formats.md 2.21, field-notes B.2 "pi 0.73.1"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from sessiond.session import Entry, parse_time
from sessiond.sources.base import BaseSource, Memory, Places, Root
from sessiond.sources.pi.lines import KNOWN, LINE, OTHER_ROLES, Line
from sessiond.sources.places import distinct
from sessiond.sources.records import ROLES, UUID, parse, speaker, unheard

PARENT = re.compile(rf"({UUID})(?:\.jsonl)?$")  # a path; of oh-my-pi, an id


class Pi(BaseSource):
    """Session files of Pi: a tree of entries whose last one is the leaf of the path that counts."""

    tool: ClassVar[str] = "pi"
    versions: ClassVar[tuple[str, ...]] = ("format 1", "format 2", "0.73.1")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch is kept",
        "a branch that is taken up again after another one was begun is not counted",
        "Prime Agent, its kin, is not read",
    )
    # `--<cwd>--/<time>_<uuid>.jsonl`, or without a directory below a session dir of one's own. Extensions drop JSON
    # lines of theirs deeper down and under other names (formats.md 2.21 Same tree, not sessions).
    files: ClassVar[re.Pattern[str]] = re.compile(rf"(?:[^/]+/)?[^/]+_(?P<id>{UUID})\.jsonl", re.ASCII)
    known: ClassVar[frozenset[str]] = KNOWN

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the sessions of ~/.pi/agent, and of where PI_CODING_AGENT_DIR or _SESSION_DIR say."""
        own = places.given("PI_CODING_AGENT_SESSION_DIR")
        agent = places.given("PI_CODING_AGENT_DIR", "/sessions")
        for path in distinct(own, agent, f"{places.home}/.pi/agent/sessions"):
            yield Root(path=path, depth=1)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an entry says, and what it takes back: an entry that hangs on an earlier one begins a branch."""
        line = parse(LINE, record)
        time_ms = parse_time(line.timestamp)
        if line.type == "session":
            parent = PARENT.search(line.parent_session or "")
            copied = bool(line.parent_session)
            return Entry(time_ms=time_ms, cwd=line.cwd, parent=parent[1] if parent else None, copied=copied)
        message, role, unknown = line.message, None, unheard(line.type, self.known)
        if message and line.type == "message":
            role = speaker(message.role, message.content, silent=("thinking",))
        if message and message.role not in ROLES and message.role not in OTHER_ROLES:
            unknown = f"message/{message.role}"
        # Ids are 8 hex digits, unique in a file (formats.md 2.21 Traps); with its time one is the same in a fork only.
        key = f"{line.id}.{time_ms}" if line.id else None
        return Entry(
            time_ms=time_ms,
            role=role,
            key=key,
            model=line.model_id or (message.model if message and role else None),
            title=line.name if line.type == "session_info" else line.title,
            rewind=_branch(line, key if role else "", memory),
            unknown=unknown,
        )


def _branch(line: Line, key: str | None, memory: Memory) -> str | None:
    """Walk on to an entry; name the first message that is off the path now, if it hangs on an earlier entry.

    A branch that is taken up again after another was begun is not known any more: nothing is taken back then.
    """
    if not line.id:
        return None  # version 1: a line, not a tree
    path: dict[str, str] = memory.setdefault("path", {})
    off: list[str] = []
    if line.parent_id in path:
        while next(reversed(path)) != line.parent_id:
            off.append(path.popitem()[1])
    elif line.parent_id is None:
        off = [*reversed(path.values())]
        path.clear()
    path[line.id] = key or ""
    return next((message for message in reversed(off) if message), None)
