"""Claude Code (closed source): formats.md 2.1, field-notes A.2 and A.8."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from glob import escape, glob
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role
from sessiond.sources.base import BaseSource, Memory, Places, Root, Unit, parse, peek

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
AGENT = r"(?:workflows/)?((?:[\w-]+/)*agent-[\w-]+)"
FILE = re.compile(rf"[^/]+/(?:({UUID})|({UUID})/subagents/{AGENT}|(agent-[\w-]+))\.jsonl", re.ASCII)
# Record types seen in 1.0.60, 2.0.14 and 2.1.330 (field-notes A.2) or by peers to 2.1.239 (formats.md 2.1).
TYPES = (
    "user assistant system attachment summary file-history-snapshot progress queue-operation custom-title ai-title"
    " agent-name last-prompt mode permission-mode pr-link frame-link worktree-state relocated bridge-session started"
    " result atis-latch tools-used cost-state api-request api-request-shape api-request-blob"
)
KNOWN = frozenset(TYPES.split())
# What Claude Code says in the user's name without isMeta; an envelope counts when a prompt follows it.
INJECTED = re.compile(
    rb'"(?:\s|\\[nrt])*(?:"$|<(?:command-|local-command-|bash-(?:input|stdout|stderr)>|task-notification>)'
    rb"|\[Request interrupted by user|Unknown slash command: |<(system-reminder|ide_opened_file|ide_selection)>)"
)
NONE = msgspec.Raw(b"")


class _Part(msgspec.Struct, gc=False):
    """A message, a block of one, or an attachment; raw what is looked at only sometimes, and then at its head."""

    type: str | None = None
    id: str | None = None
    model: str | None = None
    content: msgspec.Raw = NONE
    text: msgspec.Raw = NONE
    prompt: msgspec.Raw = NONE


class _Line(msgspec.Struct, gc=False, rename="camel"):
    type: str = "?"
    timestamp: str | None = None
    uuid: str | None = None
    session_id: str | None = None
    version: str | None = None
    cwd: str | None = None
    git_branch: str | None = None
    message: _Part | str | None = None
    attachment: _Part | str | None = None
    is_sidechain: bool | None = None
    is_meta: bool | None = None
    is_compact_summary: bool | None = None
    is_api_error_message: bool | None = None
    prompt_source: str | None = None
    session_kind: str | None = None
    request_session_id: str | None = None
    forked_from: _Line | None = None
    custom_title: str | None = None
    ai_title: str | None = None
    summary: str | None = None
    leaf_uuid: str | None = None


class _Owner(msgspec.Struct, rename="camel"):
    pid: int
    session_id: str
    proc_start: str | None = None


OWNER = msgspec.json.Decoder(_Owner)
LINE = msgspec.json.Decoder(_Line)
BLOCKS = msgspec.json.Decoder(list[_Part])


def _typed(text: msgspec.Raw) -> bool:
    """Tell whether a human typed this JSON string (formats.md 2.1 message_count, field-notes A.2 Count)."""
    view = memoryview(text)
    found = INJECTED.match(bytes(view[:128]))
    return not found or (bool(found[1]) and not bytes(view[-64:]).endswith(b"</" + found[1] + b'>"'))


def _prompt(content: msgspec.Raw) -> bool:
    head = bytes(memoryview(content)[:22])
    if not head.startswith(b"["):
        return head.startswith(b'"') and _typed(content)
    if head.startswith((b'[{"tool_use_id":', b'[{"type":"tool_result"')):
        return False  # most of a transcript's bytes; not parsed twice
    blocks = BLOCKS.decode(content)
    if any(block.type == "tool_result" for block in blocks):
        return False
    return any(block.type != "text" or _typed(block.text) for block in blocks)


def _answer(content: msgspec.Raw) -> bool:
    """Tell whether a line has more than thinking; a message that is nothing else does not count (formats.md 1.4)."""
    head = bytes(memoryview(content)[:20])
    if head.startswith((b'[{"type":"thinking"', b'[{"type":"redacted_')):
        return any(block.type not in ("thinking", "redacted_thinking") for block in BLOCKS.decode(content))
    return head not in (b"", b"[]", b'""')


def _runs(pid: int, start: str | None) -> bool:
    """Tell whether it is still that process: `procStart` is field 22 of Linux's /proc/<pid>/stat."""
    if pid < 1:
        return False  # kill would ask for whole groups
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return start in (None, stream.read().rpartition(b")")[2].split()[19].decode())
    except OSError:
        return True


class ClaudeCode(BaseSource):
    """Transcripts of Claude Code, in a terminal, an editor or the desktop application."""

    tool: ClassVar[str] = "claude-code"
    versions: ClassVar[tuple[str, ...]] = ("1.0.60", "2.0.14", "2.1.330")
    gaps: ClassVar[tuple[str, ...]] = ("side calls for titles and web searches are in no transcript",)
    views: ClassVar[bool] = True

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `projects` in the home, in ~/.config (older versions), where CLAUDE_CONFIG_DIR says, and of Cowork."""
        xdg = places.environ.get("XDG_CONFIG_HOME") or f"{places.home}/.config"
        given = [part.strip().rstrip("/") for part in places.environ.get("CLAUDE_CONFIG_DIR", "").split(",")]
        for base in dict.fromkeys([*filter(None, given), f"{places.home}/.claude", f"{xdg}/claude"]):
            yield Root(path=base if base.endswith("/projects") else f"{base}/projects")
        desktop = [f"{places.config}/Claude"]
        if places.platform == "win32" and (local := places.environ.get("LOCALAPPDATA")):
            desktop.append(f"{local}/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude")
        for base in desktop:
            yield Root(path=f"{base}/local-agent-mode-sessions", depth=12, skip=frozenset(["node_modules", ".git"]))

    def unit(self, relative: str) -> Unit | None:
        """Tell transcripts and subagents' transcripts from what lies beside them.

        `<id>/subagents/**/agent-*.jsonl` is a stream of session <id>. A flat `agent-*.jsonl` (1.x) names its session in
        its lines alone. None: journal.jsonl (a workflow's bookkeeping), *.meta.json, tool-results/, memory/.
        """
        found = FILE.fullmatch(relative.rpartition("/.claude/projects/")[2])
        if not found:
            return None
        main, parent, agent, flat = found.groups()
        if main:
            return Unit(native_id=main)
        return Unit(native_id=parent, stream=agent or flat, thread=False)

    def decode(self, record: bytes | memoryview, memory: Memory) -> Entry | None:
        """Tell what a line says. Its key is `message.id` or a prompt's `uuid`: copies keep them (field-notes A.1.8)."""
        line = parse(LINE, record)
        kind, message, role, key, model = line.type, line.message, None, line.uuid, None
        if line.is_sidechain:
            pass  # A subagent's: 1.x and 2.0 wrote them into the main transcript.
        elif kind == "assistant" and isinstance(message, _Part):
            if message.model != "<synthetic>" and not line.is_api_error_message and _answer(message.content):
                role, key, model = Role.ASSISTANT, message.id or key, message.model
        elif kind == "user" and isinstance(message, _Part):
            silent = line.is_meta or line.is_compact_summary or line.prompt_source == "system"
            role = None if silent or not _prompt(message.content) else Role.USER
        elif isinstance(line.attachment, _Part) and line.attachment.type == "queued_command":
            # Typed while a tool ran. Without a uuid (formats.md 2.1) its time names it: copies of 2.1 keep that, too.
            role, key = Role.USER if _prompt(line.attachment.prompt) else None, key or f"queued {line.timestamp}"
        parent, copied, title = None, False, None
        if line.session_id != memory.get("session") or line.forked_from or line.request_session_id or line.session_kind:
            parent, copied = self._origin(line, memory)
        if line.uuid:
            memory["leaf"] = line.uuid
        elif line.custom_title or line.ai_title or line.summary:
            title = self._title(line, memory)
        return Entry(
            time=line.timestamp,
            role=role,
            key=key,
            model=model,
            version=line.version,
            cwd=line.cwd,
            branch=line.git_branch,
            title=title,
            parent=parent,
            native_id=line.session_id,
            copied=copied,
            unknown=None if kind in KNOWN else kind,
        )

    def _origin(self, line: _Line, memory: Memory) -> tuple[str | None, bool]:
        """Tell which session a line was copied from (formats.md 1.2, field-notes A.2 Fork).

        /branch says so on each line, --fork-session on answers only, backgrounding only that it happened; an
        old resume left the first session's id on the lines it copied.
        """
        own = line.session_id
        origin = line.forked_from.session_id if line.forked_from else line.request_session_id
        if own and not origin and not line.is_sidechain:
            origin = memory.setdefault("session", own)
        if origin and origin != own:
            return origin, True
        return None, line.session_kind == "bg"

    def _title(self, line: _Line, memory: Memory) -> str | None:
        """Tell the title. The user's own wins; a `summary` counts behind its leaf, elsewhere it is another file's."""
        if line.custom_title:
            memory["named"] = True
            return line.custom_title
        if memory.get("named"):
            return None
        return line.ai_title or (line.summary if line.leaf_uuid == memory.get("leaf", "") else None)

    def live(self, places: Places) -> Iterable[str]:
        """Name the sessions in `sessions/<pid>.json` whose process runs; a killed one leaves it (field-notes A.8)."""
        for root in self.roots(places):
            for file in glob(escape(root.path.removesuffix("projects")) + "sessions/[0-9]*.json"):
                try:
                    owner = OWNER.decode(peek(file))
                except ValueError:
                    continue
                if owner.session_id and _runs(owner.pid, owner.proc_start):
                    yield owner.session_id


class OpenClaude(ClaudeCode):
    """Transcripts of OpenClaude, in Claude Code's format and layout (formats.md 3)."""

    tool: ClassVar[str] = "openclaude"
    versions: ClassVar[tuple[str, ...]] = ("0.7.0",)
    gaps: ClassVar[tuple[str, ...]] = ("a title or a parent, where Claude Code's records of them are not written",)

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `projects` of ~/.openclaude, and of OPENCLAUDE_CONFIG_DIR."""
        given = places.environ.get("OPENCLAUDE_CONFIG_DIR", "").rstrip("/")
        for base in dict.fromkeys(filter(None, [given, f"{places.home}/.openclaude"])):
            yield Root(path=f"{base}/projects")


class IFlow(ClaudeCode):
    """Transcripts of iFlow, which writes Claude Code's lines with Gemini's tool results in them (formats.md 3)."""

    tool: ClassVar[str] = "iflow"
    versions: ClassVar[tuple[str, ...]] = ("0.5.8",)
    gaps: ClassVar[tuple[str, ...]] = ("no title or parent is stored",)

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `projects` of ~/.iflow; no override is known."""
        yield Root(path=f"{places.home}/.iflow/projects", depth=1)

    def unit(self, relative: str) -> Unit | None:
        """Tell transcripts, whose names are their ids: a prefix and a UUID."""
        found = re.fullmatch(rf"[^/]+/session-({UUID})\.jsonl", relative, re.ASCII)
        return Unit(native_id=found[1]) if found else None

    def decode(self, record: bytes | memoryview, memory: Memory) -> Entry | None:
        """Tell what a line says; it names its session as the file does."""
        entry = super().decode(record, memory)
        if entry is None or entry.native_id is None:
            return entry
        return msgspec.structs.replace(entry, native_id=entry.native_id.removeprefix("session-"))


SOURCES = (ClaudeCode(), OpenClaude(), IFlow())
