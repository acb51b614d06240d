"""What a message of a thread of Zed says (formats.md 2.15 Layout history; `crates/agent` of zed-industries/zed)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import Memory
from sessiond.sources.objects import OBJECT, inner, text
from sessiond.sources.records import parse


def entry_of(record: bytes, memory: Memory) -> Entry:
    """Tell what a record says: 0.3 names a message's kind around it, before it had a role. Messages have no times."""
    match parse(OBJECT, record):
        case {"updated_at": str() as updated}:
            return Entry(time=updated)
        case {"id": str(), "version": _} as head:
            return _opened(head, memory)
        case {"User": dict() as said} | {"role": "user", **said}:
            # In 0.1 the results of tools were a user's message (thread_store.rs, SerializedThreadV0_1_0).
            results = said.get("tool_results") and not any(map(_says, _parts(said)))
            return Entry() if results else Entry(role=Role.USER, key=_key(said, memory))
        case {"Agent": dict() as said} | {"role": "assistant", **said}:
            spoken = said.get("tool_uses") or any(map(_says, _parts(said)))
            key, model = _key(said, memory), memory.get("model")
            return Entry(role=Role.ASSISTANT, key=key, model=model) if spoken else Entry()
        case {"Compaction": _} | {"Resume": _} | {"role": "system"}:
            return Entry()
        case other:
            return Entry(unknown=str(next(iter(other), ""))[:40])


def trees_of(snapshot: Any) -> Iterator[dict[str, Any]]:
    """Name the projects that a thread was begun in, as they were then."""
    yield from (tree for tree in inner(snapshot, "worktree_snapshots") or () if isinstance(tree, dict))


def _opened(head: dict[str, Any], memory: Memory) -> Entry:
    memory.update(id=head["id"], model=text(inner(head, "model", "model")))
    branches = (inner(tree, "git_state", "current_branch") for tree in trees_of(head.get("initial_project_snapshot")))
    return Entry(
        time_ms=parse_time(text(head.get("created_at"))),
        title=text(head.get("summary")),
        cwd=text(head.get("cwd")),
        parent=text(head.get("parent_id")),
        branch=next(filter(None, map(text, branches)), None),
    )


def _parts(said: dict[str, Any]) -> list[Any]:
    """List what a message is made of: `content` since 0.3, before that `segments`, and at first a text."""
    content = said.get("content", said.get("segments", said.get("text")))
    return content if isinstance(content, list) else [content]


def _says(part: Any) -> bool:
    """Tell whether a part is more than a thought, or nothing; 0.3 names a part's kind around it."""
    match part:
        case str(said) | {"Text": str(said)} | {"type": "text", "text": str(said)}:
            return bool(said.strip())
        case None | {"Thinking": _} | {"RedactedThinking": _} | {"type": "thinking" | "redacted_thinking"}:
            return False
    return True


def _key(said: dict[str, Any], memory: Memory) -> str:
    """Name a message: before 0.3 ids were numbers that each thread begins anew, and answers have none since."""
    memory["count"] = memory.get("count", 0) + 1
    return text(said.get("id")) or f"{memory.get('id')}.{memory['count']}"
