"""Claude Code (closed source): formats.md 2.1, field-notes A.2 and A.8."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from sessiond.session import ASSISTANT, USER, Entry
from sessiond.sources.base import BaseSource, Memory, Places, Root, Unit
from sessiond.sources.claude_code.homes import FILE, roots_of
from sessiond.sources.claude_code.lines import KNOWN, LINE, Line, Part, is_answer, is_prompt
from sessiond.sources.claude_code.live import live_below
from sessiond.sources.claude_code.origin import origin_of
from sessiond.sources.records import parse


class ClaudeCode(BaseSource):
    """Transcripts of Claude Code, in a terminal, an editor or the desktop application."""

    tool: ClassVar[str] = "claude-code"
    versions: ClassVar[tuple[str, ...]] = ("1.0.60", "2.0.14", "2.1.330")
    gaps: ClassVar[tuple[str, ...]] = ("side calls for titles and web searches are in no transcript",)
    views: ClassVar[bool] = True

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `projects` in the home, in ~/.config (older versions), where CLAUDE_CONFIG_DIR says, and of Cowork."""
        return roots_of(places)

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
        elif kind == "assistant" and isinstance(message, Part):
            if message.model != "<synthetic>" and not line.is_api_error_message and is_answer(message.content):
                role, key, model = ASSISTANT, message.id or key, message.model
        elif kind == "user" and isinstance(message, Part):
            silent = line.is_meta or line.is_compact_summary or line.prompt_source == "system"
            role = None if silent or not is_prompt(message.content) else USER
        elif isinstance(line.attachment, Part) and line.attachment.type == "queued_command":
            # Typed while a tool ran. Without a uuid (formats.md 2.1) its time names it: copies of 2.1 keep that, too.
            role, key = USER if is_prompt(line.attachment.prompt) else None, key or f"queued {line.timestamp}"
        parent, copied, title = None, False, None
        if line.session_id != memory.get("session") or line.forked_from or line.request_session_id or line.session_kind:
            parent, copied = origin_of(line, memory)
        if line.uuid:
            memory["leaf"] = line.uuid
        elif line.custom_title or line.ai_title or line.summary:
            title = self._title(line, memory)
        time, own, version, cwd, branch = line.timestamp, line.session_id, line.version, line.cwd, line.git_branch
        if not (role or title or parent or copied) and kind in KNOWN:
            # Most lines say no more, and each field that is named costs.
            return Entry(time=time, version=version, cwd=cwd, branch=branch, native_id=own)
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
            native_id=own,
            copied=copied,
            unknown=None if kind in KNOWN else kind,
        )

    def _title(self, line: Line, memory: Memory) -> str | None:
        """Tell the title. The user's own wins; a `summary` counts behind its leaf, elsewhere it is another file's."""
        if line.custom_title:
            memory["named"] = True
            return line.custom_title
        if memory.get("named"):
            return None
        return line.ai_title or (line.summary if line.leaf_uuid == memory.get("leaf", "") else None)

    def live(self, places: Places) -> Iterable[str]:
        """Name the sessions whose process runs."""
        for root in self.roots(places):
            yield from live_below(root.path.removesuffix("projects"))
