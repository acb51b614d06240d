"""What a bubble, a message or the head of a chat of Cursor says: formats.md 2.3 and 2.4.

One session may lie in several stores, which share its id and no id of a message: so a message is named by its role, its
text and how often that was said.
"""

from __future__ import annotations

import re
from typing import Any

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import Memory
from sessiond.sources.objects import OBJECT, inner, text
from sessiond.sources.records import digest_of, parse

QUERY = re.compile(r"<user_query>(.*?)</user_query>", re.DOTALL)
INJECTED = re.compile(r"\s*<(?:user_info|system_reminder|additional_data|git_status|rules|attached_files)\b")
SPEAKERS = {1: Role.USER, 2: Role.ASSISTANT, "user": Role.USER, "assistant": Role.ASSISTANT, "ai": Role.ASSISTANT}
QUIET = frozenset(["system", "tool", "head", "turn_ended", None])


def entry_of(record: bytes, memory: Memory) -> Entry | None:
    """Tell what a bubble, a message or the head of a chat says. Tools and thoughts are empty bubbles."""
    said = parse(OBJECT, record)
    kind = said.get("role", said.get("type"))
    if not isinstance(kind, str | int | None) or kind not in SPEAKERS:
        if not isinstance(kind, str | None) or kind not in QUIET:
            return Entry(unknown=str(kind)[:40])
        return None if kind else _head(said)
    role, model = SPEAKERS[kind], _named(inner(said, "modelInfo", "modelName") or said.get("modelType"))
    time_ms = parse_time(inner(said, "timingInfo", "clientEndTime") or said.get("createdAt"))
    cwd, words = text(said.get("workspaceProjectDir")), _words(said).strip()
    if role is Role.USER:
        words = "\n".join(QUERY.findall(words)).strip() or ("" if INJECTED.match(words) else words)
    if not words:
        return Entry(time_ms=time_ms, model=model, cwd=cwd)
    mark = role[0] + digest_of(words)
    count = memory[mark] = memory.get(mark, 0) + 1
    return Entry(time_ms=time_ms, role=role, key=f"{mark}.{count}", model=model, cwd=cwd)


def _head(said: dict[str, Any]) -> Entry:
    return Entry(
        time_ms=parse_time(said.get("createdAt") or said.get("timestamp")),
        cwd=text(inner(said, "workspaceIdentifier", "uri", "fsPath")),
        title=text(said.get("name") or said.get("chatTitle")),
        model=_named(said.get("lastUsedModel") or inner(said, "modelConfig", "modelName")),
        parent=text(said.get("parent")),
        more=(Entry(time_ms=parse_time(said.get("lastUpdatedAt"))),),
    )


def _words(said: dict[str, Any]) -> str:
    content = inner(said, "message", "content") or said.get("content") or said.get("text") or said.get("rawText")
    if isinstance(content, list):
        return "\n".join(filter(None, (text(inner(part, "text")) for part in content if inner(part, "type") == "text")))
    return text(content) or ""


def _named(model: Any) -> str | None:
    """Name the model; "default" is the automatic choice and says nothing (formats.md 2.3 model)."""
    return None if model == "default" else text(model)
