"""Claude Code, in a terminal, an editor or the desktop application: docs/formats/claude-code.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import ASSISTANT, USER, Entry, Item, ItemKind, Role, Speaker
from sessiond.sources.base import STORE, BaseSource, Memory, Retention, Root, SideFiles, Unit, UserDirs
from sessiond.sources.content import blocks, find, name_of, note, speaker_of, summary, template, text_of
from sessiond.sources.processes import running_sessions
from sessiond.sources.prompts import decode_prompt, history_root, history_unit, prompt_items
from sessiond.sources.records import ABSENT, UUID, parse
from sessiond.sources.side_files import in_folders, side_roots
from sessiond.sources.tokens import usage
from sessiond.sources.user_dirs import read_settings, unique_paths

AGENT = r"(?:workflows/)?((?:[\w-]+/)*agent-[\w-]+)"
FILE = re.compile(rf"[^/]+/(?:({UUID})|({UUID})/subagents/{AGENT}|(agent-[\w-]+))\.jsonl", re.ASCII)
"""Below `projects`: a transcript, a subagent's transcript below its session, or a flat one from 1.x."""
RETENTION_DAYS = 30
"""The default of `cleanupPeriodDays`."""
SIDE_FOLDERS = {"file-history": "edited files", "image-cache": "pasted images", "tasks": "lists of tasks"}
"""Directories beside `projects` with one for each session."""
COWORK_SKIPPED = frozenset(["node_modules", ".git"])
TYPES = (
    "user assistant system attachment summary file-history-snapshot progress queue-operation custom-title ai-title"
    " agent-name last-prompt mode permission-mode pr-link frame-link worktree-state relocated bridge-session started"
    " result atis-latch file-history-delta tools-used cost-state api-request api-request-shape api-request-blob"
)
KNOWN = frozenset(TYPES.split())
# Text that Claude Code writes in the user's name without isMeta. An envelope (group 1) counts if a prompt follows it.
INJECTED = re.compile(
    rb'"(?:\s|\\[nrt])*(?:"$|<(?:command-|local-command-|bash-(?:input|stdout|stderr)>|task-notification>)'
    rb"|\[Request interrupted by user|Unknown slash command: |<(system-reminder|ide_opened_file|ide_selection)>)"
)
TOOL_RESULT = re.compile(rb'\[\{"(?:tool_use_id":|type":"tool_result")')
THINKING = re.compile(rb'\[\{"type":"(?:thinking"|redacted_)')
THOUGHTS = ("thinking", "redacted_thinking")
EMPTY = re.compile(rb'(?:\[\]|"")?\Z')


class _Part(msgspec.Struct, gc=False):
    """A message, a content block, or an attachment. Fields that are seldom needed stay raw."""

    type: str | None = None
    id: str | None = None
    model: str | None = None
    content: msgspec.Raw = ABSENT
    text: msgspec.Raw = ABSENT
    prompt: msgspec.Raw = ABSENT


class _Line(msgspec.Struct, gc=False, rename="camel"):
    """The fields of a line that are read."""

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


LINE = msgspec.json.Decoder(_Line)
BLOCKS = msgspec.json.Decoder(list[_Part | str])


class ClaudeCode(BaseSource):
    """Transcripts of Claude Code."""

    tool: ClassVar[str] = "claude-code"
    variables: ClassVar[tuple[str, ...]] = ("CLAUDE_CONFIG_DIR",)
    versions: ClassVar[tuple[str, ...]] = ("1.0.60", "2.0.14", "2.1.330")
    gaps: ClassVar[tuple[str, ...]] = (
        "side calls for titles and web searches are in no transcript; memory/ belongs to a project, not to a session",
        "of sessions deleted before they were captured only the prompts are known, before 2.0.49 not even these",
        "lists in tasks/ that are named after a team instead of a session are not read",
        "history.jsonl is captured of sessions without a transcript only: a transcript has its own prompts",
        "of Cowork, local_*.json and audit.jsonl, which are of the desktop application, and a session's working files",
    )
    views: ClassVar[bool] = True
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        *in_folders(SIDE_FOLDERS, UUID),
        # Everything below a session's own directory: tool-results/, subagents/*.meta.json, workflows/.
        SideFiles(rf"(?:[^/]+|.*/\.claude/projects/[^/]+)/(?P<id>{UUID})/(?P<name>.+)", "outputs of tools, notes"),
    )
    session_like: ClassVar[str] = rf"(?!cowork/).+{STORE}|cowork/.*/\.claude/projects/.+{STORE}"
    other_files: ClassVar[tuple[str, ...]] = (r"[^/]+/sessions-index\.json", r"tasks/.+")

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return `projects` of CLAUDE_CONFIG_DIR, ~/.claude and ~/.config/claude (older), and Cowork's sessions."""
        older = f"{dirs.from_variable('XDG_CONFIG_HOME') or f'{dirs.home}/.config'}/claude"
        homes = _homes(dirs)
        yield from (Root(path=f"{path}/projects") for path in unique_paths(*homes, older))
        yield from side_roots(unique_paths(*homes, older), SIDE_FOLDERS)
        yield from map(history_root, homes)
        desktop = [f"{dirs.config}/Claude"]
        if dirs.platform == "win32":
            desktop.append(f"{dirs.data}/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude")
        for base in desktop:  # with the prefix, the directories above .claude/projects look like no session's
            yield Root(path=f"{base}/local-agent-mode-sessions", prefix="cowork/-/", depth=12, skip=COWORK_SKIPPED)

    def retention(self, dirs: UserDirs) -> Retention | None:
        """Return `cleanupPeriodDays` of the settings; the shortest one if there are several directories."""
        days = []
        for folder in _config_dirs(dirs) or [f"{dirs.home}/.claude"]:
            value = read_settings(f"{folder}/settings.json").get("cleanupPeriodDays", RETENTION_DAYS)
            days.append(min(value, 36_500) if isinstance(value, int) and value > 0 else RETENTION_DAYS)
        hint = 'to have it keep them itself: "cleanupPeriodDays": 3650 in ~/.claude/settings.json'
        return Retention(days=min(days), hint=hint)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a transcript, a subagent's transcript, or the history of prompts.

        `<id>/subagents/**/agent-*.jsonl` is a stream of session <id>. The session of a flat `agent-*.jsonl` (1.x) is
        named in its lines only. All else below <id>/ are side files; memory/ belongs to the project.
        """
        found = FILE.fullmatch(relative.rpartition("/.claude/projects/")[2])
        if not found:
            return history_unit(relative)
        main, parent, agent, flat = found.groups()
        if main:
            return Unit(native_id=main)
        return Unit(native_id=parent, stream=agent or flat, thread=False)

    def decode(self, record: bytes | memoryview, memory: Memory) -> Entry | None:
        """Decode a line. The key is `message.id` or a prompt's `uuid`, which copies keep.

        An answer is split over one line per content block; its lines have the same `message.id`, so they count once.
        """
        line = parse(LINE, record)
        kind, message, key = line.type, line.message, line.uuid
        if kind == "?":
            return decode_prompt(record, memory)
        role: Role | None = None
        model: str | None = None
        if line.is_sidechain:
            pass  # A subagent's line: 1.x and 2.0 wrote them into the main transcript.
        elif kind == "assistant" and isinstance(message, _Part):
            if message.model != "<synthetic>" and not line.is_api_error_message and _is_answer(message.content):
                role, key, model = ASSISTANT, message.id or key, message.model
        elif kind == "user" and isinstance(message, _Part):
            silent = line.is_meta or line.is_compact_summary or line.prompt_source == "system"
            role = None if silent or not _is_prompt(message.content) else USER
        elif isinstance(line.attachment, _Part) and line.attachment.type == "queued_command":
            # A prompt typed while a tool ran. If it lacks a uuid, its time identifies it, which copies of 2.1 keep.
            role, key = USER if _is_prompt(line.attachment.prompt) else None, key or f"queued {line.timestamp}"
        parent: str | None = None
        copied = False
        if line.session_id != memory.get("session") or line.forked_from or line.request_session_id or line.session_kind:
            parent, copied = _origin(line, memory)
        title: str | None = None
        if line.uuid:
            memory["leaf"] = line.uuid
        elif line.custom_title or line.ai_title or line.summary:
            title = _title(line, memory)
        time, version, cwd, branch = line.timestamp, line.version, line.cwd, line.git_branch
        if not (role or title or parent or copied) and kind in KNOWN:
            # The common case: most lines have no more, and each keyword argument costs time.
            return Entry(time=time, version=version, cwd=cwd, branch=branch, native_id=line.session_id)
        return Entry(
            time=time,
            role=role,
            key=key,
            model=model,
            version=version,
            cwd=cwd,
            branch=branch,
            title=title,
            parent=parent,
            native_id=line.session_id,
            copied=copied,
            unknown=None if kind in KNOWN else kind,
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a line. Its usage is that of the whole message: the last line's wins."""
        kind, message, attachment = record.get("type"), record.get("message"), record.get("attachment")
        base = template(entry, speaker_of(kind))
        if kind in ("user", "assistant") and isinstance(message, dict):
            base = replace(base, key=name_of(message.get("id")) or base.key or name_of(record.get("uuid")))
            silent = entry.role is None and kind == "user" and not record.get("isSidechain")
            for item in blocks(message.get("content"), replace(base, injected=silent)):
                yield _marked(item, record)
            yield from usage(message.get("usage"), base)
        elif isinstance(attachment, dict) and attachment.get("type") == "queued_command":
            yield from blocks(attachment.get("prompt"), replace(base, speaker=Speaker.USER, injected=not base.counts))
        elif kind == "system" and record.get("content"):
            yield note(text_of(record["content"]), base)
        elif kind is None:
            yield from prompt_items(record, entry)

    def live(self, dirs: UserDirs) -> Iterable[str]:
        """Return the sessions whose process is running; a killed process leaves its file behind."""
        for root in self.roots(dirs):
            if root.path.endswith("/projects"):
                yield from running_sessions(root.path.removesuffix("projects") + "sessions")


def _marked(item: Item, record: dict[str, Any]) -> Item:
    """Return an item with facts from the rest of its line: a summary, an error of the API, a subagent's result."""
    if item.kind is ItemKind.RESULT:
        agent = find(record, "toolUseResult.agentId")
        return replace(item, stream=f"agent-{agent}") if isinstance(agent, str) else item
    if item.kind is not ItemKind.MESSAGE:
        return item
    if record.get("isCompactSummary"):
        return summary(item.text, item)
    if item.speaker is Speaker.ASSISTANT and find(record, "message.model") == "<synthetic>":
        return note(item.text, item)
    typed = item.speaker is not Speaker.USER or _is_typed(msgspec.Raw(msgspec.json.encode(item.text)))
    return item if typed or item.media else replace(item, injected=True)


def _config_dirs(dirs: UserDirs) -> list[str]:
    """Return the directories in CLAUDE_CONFIG_DIR, which may be a comma-separated list."""
    return [part.strip() for part in dirs.environ.get("CLAUDE_CONFIG_DIR", "").split(",") if part.strip()]


def _homes(dirs: UserDirs) -> list[str]:
    """Return the directories that contain `projects`. People also name `projects` itself in the variable."""
    named = [dirs.absolute(folder).removesuffix("/projects") for folder in _config_dirs(dirs)]
    return unique_paths(*named, f"{dirs.home}/.claude")


def _origin(line: _Line, memory: Memory) -> tuple[str | None, bool]:
    """Return the session that a line was copied from, and whether the line is a copy.

    /branch names the origin on each line, --fork-session on answers only, and backgrounding marks lines as copied
    without naming it. Resuming in old versions kept the first session's id on the lines that it copied.
    """
    own = line.session_id
    origin = line.forked_from.session_id if line.forked_from else line.request_session_id
    if own and not origin and not line.is_sidechain:
        origin = memory.setdefault("session", own)
    if origin and origin != own:
        return origin, True
    return None, line.session_kind == "bg"


def _title(line: _Line, memory: Memory) -> str | None:
    """Return the title. The user's own wins; a `summary` counts only after its leaf, else it is another session's."""
    if line.custom_title:
        memory["named"] = True
        return line.custom_title
    if memory.get("named"):
        return None
    return line.ai_title or (line.summary if line.leaf_uuid == memory.get("leaf", "") else None)


def _is_typed(text: msgspec.Raw) -> bool:
    """Return whether a human typed a JSON string: it is not injected, or a prompt follows the injected envelope."""
    found = INJECTED.match(text, 0, 128)
    return not found or (bool(found[1]) and not bytes(memoryview(text)[-64:]).endswith(b"</" + found[1] + b'>"'))


def _is_prompt(content: msgspec.Raw) -> bool:
    """Return whether a user's message contains something that a human said, not only tool results."""
    if TOOL_RESULT.match(content):
        return False  # most of a transcript's bytes, so it is recognised without parsing it
    head = bytes(memoryview(content)[:1])
    if head != b"[":
        return head == b'"' and _is_typed(content)
    blocks = [
        _Part(type="text", text=msgspec.Raw(msgspec.json.encode(block))) if isinstance(block, str) else block
        for block in BLOCKS.decode(content)
    ]
    if any(block.type == "tool_result" for block in blocks):
        return False
    return any(block.type != "text" or _is_typed(block.text) for block in blocks)


def _is_answer(content: msgspec.Raw) -> bool:
    """Return whether a line has more than thinking; a message of thinking alone does not count."""
    if THINKING.match(content):
        return any(isinstance(block, str) or block.type not in THOUGHTS for block in BLOCKS.decode(content))
    return not EMPTY.match(content)


SOURCES = (ClaudeCode(),)
