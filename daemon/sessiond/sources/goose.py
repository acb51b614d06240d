"""Goose: docs/formats/goose.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.base import BaseSource, Memory, Projection, Root, Rows, Unit, UserDirs, Watch
from sessiond.sources.objects import encode, without_nulls
from sessiond.sources.projection import SESSION, session_projection
from sessiond.sources.records import ROLES, digest, parse, unknown_type
from sessiond.sources.rows import as_json, column_or, columns, list_with_watermarks, select
from sessiond.sources.user_dirs import unique_paths

# Row ids only grow: compaction replaces all rows of a session. Deletions, and changes inside a row (whether a message
# is visible), are looked for in sessions of the last day, and in the others once a day.
HEADS = """
    SELECT id, printf('%s %s %s %s %s %s', updated_at, {title}, {used}, {tokens}, {delegated},
        (SELECT max(id) FROM messages WHERE session_id = sessions.id)),
        updated_at > (SELECT datetime(max(updated_at), '-1 day') FROM sessions) FROM sessions
"""
REST = "SELECT count(*) || ' ' || coalesce(sum(length({shown})), '') FROM messages WHERE session_id = ?"
SESSION_ROW = "SELECT {title}, {model}, working_dir, created_at, {kind}, {parent} FROM sessions WHERE id = ?"
HEAD = ("working_dir", "created_at", "session_type", "parent_session_id")
MESSAGES = """
    SELECT {id}, role, created_timestamp, content_json, {shown}, {count} FROM messages WHERE session_id = ?
    ORDER BY created_timestamp, id
"""
# Without recipes and the data of extensions, whose settings may hold a key.
STATE = columns(
    "updated_at user_set_name provider_name total_tokens input_tokens output_tokens"
    " cache_read_tokens cache_write_tokens accumulated_total_tokens accumulated_input_tokens accumulated_output_tokens"
    " accumulated_cache_read_tokens accumulated_cache_write_tokens accumulated_cost schedule_id goose_mode archived_at"
    " project_id thread_id parent_delegation"
)
USED = columns(
    "created_timestamp model input_tokens output_tokens total_tokens cache_read_tokens cache_write_tokens cost"
    " cost_source is_compaction"
)
MODEL = """
    SELECT model FROM usage_ledger WHERE session_id = ? AND model > '' GROUP BY model ORDER BY count(*) DESC, 1 LIMIT 1
"""


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None


class _Metadata(msgspec.Struct, gc=False, rename="camel"):
    user_visible: bool = True


class _Line(msgspec.Struct, gc=False):
    """A message, or (without a role) the session's own fields; with a type, what changes or what an answer used."""

    type: str | None = None
    role: str | None = None
    created: float | None = None
    content: list[_Part] = []
    metadata: _Metadata | None = None
    working_dir: str | None = None
    created_at: str | None = None
    description: str | None = None
    parent_session_id: str | None = None
    model: str | None = None


LINE = msgspec.json.Decoder(_Line)


class Goose(BaseSource):
    """Sessions of Goose: a database since 1.10. The JSON lines from before stay after they were imported."""

    tool: ClassVar[str] = "goose"
    variables: ClassVar[tuple[str, ...]] = ("GOOSE_PATH_ROOT",)
    versions: ClassVar[tuple[str, ...]] = ("1.0 (lines)", "1.10", "schema 15", "schema 17")
    id_columns: ClassVar[tuple[tuple[str, str], ...]] = (("sessions", "id"),)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or branch is stored",
        "in sessions older than a day, a message that is hidden or shown again is found within a day",
        "recipes, the data of extensions and the settings of a model except its name: they may hold keys",
    )
    projection_version: ClassVar[int] = 3
    local_ids: ClassVar[bool] = True  # a date and a number: every machine has a 20260822_1
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>sessions\.db)(?:-wal)?|(?P<id>[\w-]+)\.jsonl", re.ASCII)

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the sessions of GOOSE_PATH_ROOT and of the data directory, which is XDG's on macOS too."""
        windows = dirs.platform == "win32"
        default = f"{dirs.config}/Block/goose/data/sessions" if windows else f"{dirs.share}/goose/sessions"
        older = f"{dirs.config}/Block/goose/sessions" if dirs.platform == "darwin" else ""
        for path in unique_paths(dirs.from_variable("GOOSE_PATH_ROOT", "/data/sessions"), default, older):
            yield Root(path=path, watch=Watch.FLAT)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of the database, or of an older file, which is a stream of the same session."""
        unit = super().unit(relative)
        return msgspec.structs.replace(unit, stream="jsonl") if unit and unit.native_id else unit

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List sessions by the index of their messages."""
        if database.has("sessions", "updated_at", "description") and database.has("messages"):
            names = _columns(database)
            yield from list_with_watermarks(database, HEADS.format(**names), REST.format(**names))

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project a session's row and messages to the lines of the older files, and apart what changes."""
        names = _columns(database)
        for title, model, *values in database.rows(SESSION_ROW.format(**names), native_id):
            head = dict(zip(HEAD, values, strict=True))
            records = list(_records(database, MESSAGES.format(**names), native_id, head))
            metadata = Entry(title=title, model=_most_used_model(database, native_id) or model)
            yield Projection(native_id=native_id, parent=head["parent_session_id"], records=records, metadata=metadata)
            if len(records) > 1:
                yield from _usage(database, native_id, model)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a line. Compaction changes row ids, so the key of a message is its time and its text."""
        line = parse(LINE, record)
        if line.type in (SESSION, "usage"):
            return None
        if line.role is None:
            return Entry(
                time_ms=parse_time(line.created_at),
                cwd=line.working_dir,
                title=line.description,
                parent=line.parent_session_id,
                model=line.model,
            )
        text = "\n".join(part.text for part in line.content if part.type == "text" and part.text)
        visible = line.metadata is None or line.metadata.user_visible
        counts = bool(text) and visible and line.role in ROLES
        return Entry(
            time_ms=parse_time(line.created),
            role=ROLES[line.role] if counts else None,
            key=f"{line.created}.{digest(text)}" if counts else None,
            unknown=unknown_type(line.role, ROLES),
        )


def _columns(database: Rows) -> dict[str, str]:
    """Return the SQL for the columns that were added with schemas 3 to 17."""
    used = "(SELECT max(id) FROM usage_ledger WHERE session_id = sessions.id)"
    name, model = "coalesce(nullif(name, ''), description)", "json_extract(model_config_json, '$.model_name')"
    return {
        "title": column_or(database, "sessions", "name", name, "description"),
        "kind": column_or(database, "sessions", "session_type"),
        "parent": column_or(database, "sessions", "parent_session_id"),
        "model": column_or(database, "sessions", "model_config_json", model),
        "shown": column_or(database, "messages", "metadata_json"),
        "count": column_or(database, "messages", "tokens"),
        "tokens": column_or(database, "sessions", "accumulated_total_tokens"),
        "delegated": column_or(database, "sessions", "parent_delegation", "length(parent_delegation)"),
        "id": column_or(database, "messages", "message_id"),
        "used": column_or(database, "usage_ledger", "model", used),
    }


def _most_used_model(database: Rows, native_id: str) -> str | None:
    rows = database.rows(MODEL, native_id) if database.has("usage_ledger", "model") else iter(())
    return next((model for (model,) in rows), None)


def _usage(database: Rows, native_id: str, model: str | None) -> Iterator[Projection]:
    """Project the state of a session, and what each answer used, which is only added to."""
    for state in select(database, "sessions", STATE, "WHERE id = ?", native_id):
        delegation = as_json(state["parent_delegation"])
        yield session_projection(native_id, {**state, "model": model, "parent_delegation": delegation})
    used = select(database, "usage_ledger", USED, "WHERE session_id = ? ORDER BY id", native_id)
    records = [encode({"type": "usage", **without_nulls(row)}) for row in used]
    yield Projection(native_id=native_id, stream="usage", records=records)


def _records(database: Rows, query: str, session: str, head: dict[str, object]) -> Iterator[bytes]:
    yield msgspec.json.encode(head)
    for identity, role, created, content, metadata, tokens in database.rows(query, session):
        fields: dict[str, object] = {} if tokens is None else {"tokens": tokens}
        fields |= {name: as_json(text) for name, text in (("content", content), ("metadata", metadata)) if text}
        yield msgspec.json.encode({"id": identity, "role": role, "created": created} | fields)


SOURCES = (Goose(),)
