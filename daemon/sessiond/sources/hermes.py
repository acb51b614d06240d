"""Hermes Agent: docs/formats/hermes.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Rows, UserDirs, Watch
from sessiond.sources.objects import encode, without_nulls
from sessiond.sources.projection import SESSION, session_projection
from sessiond.sources.records import ROLES, digest, parse, unknown_type
from sessiond.sources.rows import as_json, column_or, columns, list_with_watermarks, select

# Text that Hermes writes in the user's name. It puts a line of its own before what it adds to a prompt.
INJECTED = re.compile(
    r"\[(?:ASYNC DELEGATION |(?:IMPORTANT: )?Background process |CONTEXT COMPACTION |CONTEXT SUMMARY\]:)"
)
KNOWN = frozenset(["user", "assistant", "tool", "system", "session_meta"])
# The index on (session_id, timestamp) has the last message's time. Rows are counted where it changed, and in the
# sessions of the last day, where a rewind may hide messages.
HEADS = """
    SELECT id, printf('%s %s %s %s', ended_at, {title}, {used},
        (SELECT max(timestamp) FROM messages WHERE session_id = s.id)),
    coalesce(ended_at, started_at) > (SELECT max(coalesce(ended_at, started_at)) FROM sessions) - 86400
    FROM sessions s
"""
REST = """
    SELECT printf('%s %s %s %s', count(*), sum(length(content)), {shown}, {counted}) FROM messages WHERE session_id = ?
"""
START = columns("source parent_session_id started_at cwd git_branch git_repo_root")
# What changes while a session goes on. Without the system prompt, which Hermes builds again, the settings of the model,
# which may hold a key, who takes part in a chat, and what changes each minute of a turn (`last_activity_at`).
STATE = columns(
    "model ended_at end_reason message_count tool_call_count input_tokens output_tokens cache_read_tokens"
    " cache_write_tokens reasoning_tokens api_call_count estimated_cost_usd actual_cost_usd cost_status cost_source"
    " pricing_version billing_provider billing_mode rewind_count archived profile_name display_name chat_type"
    " title_source handoff_state handoff_platform handoff_error compression_failure_error"
)
# The use of each model, also by the work beside the session (`task`).
USED = columns(
    "model billing_provider billing_mode task api_call_count input_tokens output_tokens cache_read_tokens"
    " cache_write_tokens reasoning_tokens estimated_cost_usd actual_cost_usd cost_status cost_source"
    " first_seen last_seen"
)
MESSAGE = columns(
    "id role content tool_call_id tool_calls tool_name effect_disposition timestamp token_count finish_reason reasoning"
    " reasoning_content reasoning_details codex_reasoning_items codex_message_items platform_message_id observed"
    " _compressed_summary active compacted api_content display_kind display_metadata"
)
MESSAGE_CLAUSES = "WHERE session_id = ? ORDER BY timestamp, id"
HIDDEN = "hidden"
"""The `display_kind` of what Hermes writes to the model and never shows."""
BLOCKS = "\0json:"
"""Begins the content of a message that is JSON instead of text: blocks of text and images."""


class _Line(msgspec.Struct, gc=False):
    """A message, or (without a role) the session's own fields, or (with a type) those that change."""

    type: str | None = None
    role: str | None = None
    content: str | list[Any] | dict[str, Any] | None = None
    display_kind: str | None = None
    timestamp: float | None = None
    origin: float | None = None
    active: int | None = None
    compacted: int | None = None
    started_at: float | None = None
    cwd: str | None = None
    git_branch: str | None = None
    parent_session_id: str | None = None


LINE = msgspec.json.Decoder(_Line)


class Hermes(BaseSource):
    """Sessions of Hermes Agent, from the command line or a chat."""

    tool: ClassVar[str] = "hermes"
    variables: ClassVar[tuple[str, ...]] = ("HERMES_HOME",)
    versions: ClassVar[tuple[str, ...]] = ("2026", "0.19.0", "schema 30")
    id_columns: ClassVar[tuple[tuple[str, str], ...]] = (("sessions", "id"),)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version is stored, and a folder or branch only if the table has a column for it",
        "a session's system prompt, the settings of its model, which may hold a key, and the ids of a chat's members",
        "messages that a session begun by compression copied from its parent are counted again",
        "the files in ~/.hermes/sessions from before the database are not read",
        "checks of a project (verification_evidence.db), and the live copies of subagents' sessions (cache/)",
        "the prompts of all sessions once more (.hermes_history), logs/, skills/, SOUL.*, config.yaml",
        "what is computed again (*_cache.json, .skills_prompt_snapshot.json, .update_check, .tirith-install-failed)",
    )
    session_like: ClassVar[str] = r"(?:[^/]+/)?state[^/]*\.db(?:\.[\w.-]+)?"
    projection_version: ClassVar[int] = 3
    local_ids: ClassVar[bool] = True  # a time and a few random digits
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>(?:[^/]+/)?state\.db)(?:-wal)?")
    kind: ClassVar[Kind] = Kind.DATABASE

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the home of Hermes and of its profiles, watched flat: caches, logs and keys are in the same place."""
        for base in dirs.with_override("HERMES_HOME", f"{dirs.home}/.hermes"):
            yield Root(path=base, watch=Watch.FLAT, depth=0)
            yield Root(path=f"{base}/profiles", watch=Watch.SCAN, depth=1)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List sessions by the index of their messages."""
        if database.has("sessions", "parent_session_id", "ended_at") and database.has("messages", "timestamp"):
            title = column_or(database, "sessions", "title")
            used = column_or(database, "sessions", "output_tokens", "input_tokens || ' ' || output_tokens")
            shown = column_or(database, "messages", "active", "sum(active)")
            counted = column_or(database, "messages", "token_count", "sum(token_count)")
            heads, rest = HEADS.format(title=title, used=used), REST.format(shown=shown, counted=counted)
            yield from list_with_watermarks(database, heads, rest)

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project a session's row and messages. A session without messages has not begun yet."""
        for row in list(select(database, "sessions", [*START, *STATE, "title"], "WHERE id = ?", native_id)):
            messages = select(database, "messages", MESSAGE, MESSAGE_CLAUSES, native_id)
            model, title, ended = (row[name] for name in ("model", "title", "ended_at"))
            head, state = ({name: row[name] for name in names} for names in (START, STATE))
            parent, cwd = head["parent_session_id"], None
            if parent:
                # Branches and subagents have no folder of their own: they begin in their parent's.
                cwd = next((row["cwd"] for row in select(database, "sessions", ("cwd",), "WHERE id = ?", parent)), None)
            if parent and head["source"] != "subagent":
                original = select(database, "messages", MESSAGE, MESSAGE_CLAUSES, parent)
                messages = _with_origin(list(messages), [row for row in original if row["active"] != 0])
            records = [_record(message) for message in messages]
            metadata = Entry(time_ms=parse_time(ended), ended=ended is not None, title=title, model=model, cwd=cwd)
            records = [encode(without_nulls(head)), *records] if records else []
            yield Projection(native_id=native_id, parent=parent, records=records, metadata=metadata)
            if records:
                used = select(
                    database, "session_model_usage", USED, "WHERE session_id = ? ORDER BY 1, 2, 3, 4", native_id
                )
                models = [without_nulls(each) for each in used]
                yield session_projection(native_id, {**state, "models": models or None})

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a row. A message counts if it has text and no rewind removed it."""
        line = parse(LINE, record)
        if line.type == SESSION:
            return None
        if line.role is None:
            began, branch = parse_time(line.started_at), line.git_branch
            return Entry(time_ms=began, cwd=line.cwd, branch=branch, parent=line.parent_session_id)
        # Messages that compaction archived are no longer active, but they were said.
        visible = (line.active != 0 or line.compacted) and line.display_kind != HIDDEN
        said = line.content if isinstance(line.content, str | None) else encode(line.content).decode()
        text = (said or "").strip()
        role = ROLES.get(line.role) if visible and text and not INJECTED.match(text) else None
        key = f"{line.origin or line.timestamp}.{digest(said or '')}"
        return Entry(time_ms=parse_time(line.timestamp), role=role, key=key, unknown=unknown_type(line.role, KNOWN))


def _record(message: dict[str, Any]) -> bytes:
    """Return a message as a record: its calls, and content that is more than text, as the JSON that they are."""
    content = message["content"]
    if isinstance(content, str) and content.startswith(BLOCKS):
        message = message | {"content": as_json(content.removeprefix(BLOCKS))}
    return encode(without_nulls(message | {"tool_calls": as_json(message["tool_calls"])}))


def _with_origin(messages: list[dict[str, Any]], original: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Add to each message that a branch copied the time of its original, because copies get new times."""
    for index, message in enumerate(messages):
        source = original[index] if index < len(original) else {}
        if source.get("role") != message["role"] or source.get("content") != message["content"]:
            original = []  # the copied prefix ends here
            yield message
        else:
            yield message | {"origin": source["timestamp"]}


SOURCES = (Hermes(),)
