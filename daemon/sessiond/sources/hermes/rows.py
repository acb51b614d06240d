"""The tables of Hermes, as hermes_state.py of NousResearch/hermes-agent makes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sessiond.session import Entry, parse_time
from sessiond.sources.base import Portrait, Rows
from sessiond.sources.objects import encode
from sessiond.sources.rows import column, listed, select

# The time of the last message is found by the index on (session_id, timestamp); rows are counted where it moved, and
# in the sessions of the last day, in which a rewind hides messages.
HEADS = """
    SELECT id, printf('%s %s %s', ended_at, {title}, (SELECT max(timestamp) FROM messages WHERE session_id = s.id)),
    coalesce(ended_at, started_at) > (SELECT max(coalesce(ended_at, started_at)) FROM sessions) - 86400
    FROM sessions s
"""
REST = "SELECT printf('%s %s %s', count(*), sum(length(content)), {shown}) FROM messages WHERE session_id = ?"
SESSION = ("source", "parent_session_id", "started_at", "cwd", "model", "ended_at", "title")
# Neither the system's prompt nor what the model was given beside the talk.
MESSAGE = ("id", "role", "content", "tool_calls", "tool_name", "timestamp", "active", "compacted")


def sessions_of(database: Rows) -> Iterator[tuple[str, str]]:
    """List sessions by the index of their messages."""
    if database.has("sessions", "parent_session_id", "ended_at") and database.has("messages", "timestamp"):
        title = column(database, "sessions", "title")
        shown = column(database, "messages", "active", "sum(active)")
        yield from listed(database, HEADS.format(title=title), REST.format(shown=shown))


def portraits_of(database: Rows, native_id: str) -> Iterator[Portrait]:
    """Project a session's row and messages; one that nobody has said anything in is none yet."""
    for head in list(select(database, "sessions", SESSION, "WHERE id = ?", native_id)):
        messages = select(database, "messages", MESSAGE, "WHERE session_id = ? ORDER BY timestamp, id", native_id)
        model, title, ended = (head.pop(name) for name in ("model", "title", "ended_at"))
        parent, cwd = head["parent_session_id"], None
        if parent:
            # Neither a branch nor a subagent has a folder of its own: both begin in their parent's.
            cwd = next((row["cwd"] for row in select(database, "sessions", ("cwd",), "WHERE id = ?", parent)), None)
        if parent and head["source"] != "subagent":
            elder = select(database, "messages", MESSAGE, "WHERE session_id = ? ORDER BY timestamp, id", parent)
            messages = _traced(list(messages), [row for row in elder if row["active"] != 0])
        records = list(map(encode, messages))
        told = Entry(time_ms=parse_time(ended), ended=ended is not None, title=title, model=model, cwd=cwd)
        records = [encode(head), *records] if records else []
        yield Portrait(native_id=native_id, parent=parent, records=records, told=told)


def _traced(messages: list[dict[str, Any]], elder: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give each message that a branch copied, and stamped anew, the time of the one that it copies."""
    for at, message in enumerate(messages):
        told = elder[at] if at < len(elder) else {}
        if told.get("role") != message["role"] or told.get("content") != message["content"]:
            elder = []
            yield message
        else:
            yield message | {"origin": told["timestamp"]}
