"""Which session of Claude Code a line was copied from: formats.md 1.2, field-notes A.2 Fork."""

from __future__ import annotations

from sessiond.sources.base import Memory
from sessiond.sources.claude_code.lines import Line


def origin_of(line: Line, memory: Memory) -> tuple[str | None, bool]:
    """Tell which session a line was copied from

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
