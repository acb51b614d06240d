"""Pi (pi-mono's coding agent): formats.md 2.21, field-notes B.2 "pi 0.73.1"; and OpenClaw, which is built on it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Memory, Places, Root, Unit, parse, speaks

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# Extensions drop JSON lines of their own deeper down and under other names (formats.md 2.21 Same tree, not sessions).
FILE = re.compile(rf"(?:[^/]+/)?[^/]+_({UUID})\.jsonl", re.ASCII)
CLAW = re.compile(rf"[^/]+/sessions/({UUID}(?:-topic-[\w-]+)?)\.jsonl", re.ASCII)
PARENT = re.compile(rf"({UUID})\.jsonl$")
# Entry types of version 3 (field-notes B.2, from session-manager.ts).
TYPES = (
    "session message model_change thinking_level_change session_info compaction branch_summary custom custom_message"
    " label"
)
KNOWN = frozenset(TYPES.split())
ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
OTHER_ROLES = frozenset(["toolResult", "bashExecution", "custom", "hookMessage", "branchSummary", "compactionSummary"])
NONE = msgspec.Raw(b"")


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: msgspec.Raw = NONE
    model: str | None = None


class _Line(msgspec.Struct, gc=False, rename="camel"):
    type: str = "?"
    id: str | None = None
    parent_id: str | None = None
    timestamp: str | None = None
    cwd: str | None = None
    parent_session: str | None = None
    model_id: str | None = None
    name: str | None = None
    message: _Message | None = None


LINE = msgspec.json.Decoder(_Line)


class Pi(BaseSource):
    """Session files of Pi: a tree of entries whose last one is the leaf of the path that counts."""

    tool: ClassVar[str] = "pi"
    versions: ClassVar[tuple[str, ...]] = ("format 1", "format 2", "0.73.1")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch is kept",
        "a branch that is taken up again after another one was begun is not counted",
        "oh-my-pi and Prime Agent, its kin, are not read",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the sessions of ~/.pi/agent, and of where PI_CODING_AGENT_DIR or _SESSION_DIR say."""
        agent = places.environ.get("PI_CODING_AGENT_DIR", "").rstrip("/")
        given = places.environ.get("PI_CODING_AGENT_SESSION_DIR", "").rstrip("/")
        homes = [given, f"{agent}/sessions" if agent else "", f"{places.home}/.pi/agent/sessions"]
        for path in dict.fromkeys(filter(None, homes)):
            yield Root(path=path, depth=1)

    def unit(self, relative: str) -> Unit | None:
        """Tell sessions, `--<cwd>--/<time>_<uuid>.jsonl`, or without a directory below a session dir of one's own."""
        found = FILE.fullmatch(relative)
        return Unit(native_id=found[1]) if found else None

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an entry says, and what it takes back: an entry that hangs on an earlier one begins a branch."""
        line = parse(LINE, record)
        time_ms = parse_time(line.timestamp)
        if line.type == "session":
            parent = PARENT.search(line.parent_session or "")
            return Entry(
                time_ms=time_ms, cwd=line.cwd, parent=parent[1] if parent else None, copied=bool(line.parent_session)
            )
        message = line.message
        role = ROLES.get(message.role) if message and line.type == "message" else None
        if role and message and not speaks(message.content, silent=("thinking",)):
            role = None
        unknown = None if line.type in KNOWN else line.type
        if message and message.role not in ROLES and message.role not in OTHER_ROLES:
            unknown = f"message/{message.role}"
        # Ids are 8 hex digits, unique in a file (formats.md 2.21 Traps); with its time one is the same in a fork only.
        key = f"{line.id}.{time_ms}" if line.id else None
        return Entry(
            time_ms=time_ms,
            role=role,
            key=key,
            model=line.model_id or (message.model if message and role else None),
            title=line.name if line.type == "session_info" else None,
            rewind=self._branch(line, key if role else "", memory),
            unknown=unknown,
        )

    def _branch(self, line: _Line, key: str | None, memory: Memory) -> str | None:
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


class OpenClaw(Pi):
    """Transcripts of OpenClaw's agents, in Pi's format (docs.openclaw.ai, reference/session-management-compaction)."""

    tool: ClassVar[str] = "openclaw"
    versions: ClassVar[tuple[str, ...]] = ("April 2026",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch or parent is kept; titles are in sessions.json, which is not read",
        "transcripts that were reset or deleted (renamed) before they were seen",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the agents of OPENCLAW_STATE_DIR and of ~/.openclaw, and of the names that it had before."""
        given = places.environ.get("OPENCLAW_STATE_DIR", "").rstrip("/")
        homes = [given, *(f"{places.home}/{name}" for name in (".openclaw", ".clawdbot", ".qclaw"))]
        for base in dict.fromkeys(filter(None, homes)):
            yield Root(path=f"{base}/agents", depth=2, skip=frozenset(["agent", "qmd"]))

    def unit(self, relative: str) -> Unit | None:
        """Tell transcripts; each topic of a chat has its own. Not *.trajectory.jsonl, nor sessions.json."""
        found = CLAW.fullmatch(relative)
        return Unit(native_id=found[1]) if found else None


SOURCES = (Pi(), OpenClaw())
