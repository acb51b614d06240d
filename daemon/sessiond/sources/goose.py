"""Goose: docs/formats/goose.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.base import BaseSource, Memory, Projection, Root, Rows, Unit, UserDirs, Watch
from sessiond.sources.records import ROLES, digest, parse, unknown_type
from sessiond.sources.rows import as_json, column_or, list_with_watermarks
from sessiond.sources.user_dirs import unique_paths

# Row ids only grow: compaction replaces all rows of a session. Deletions, and changes inside a row (whether a message
# is visible), are looked for in sessions of the last day, and in the others once a day.
HEADS = """
    SELECT id, printf('%s %s %s %s', updated_at, {title}, {used},
        (SELECT max(id) FROM messages WHERE session_id = sessions.id)),
        updated_at > (SELECT datetime(max(updated_at), '-1 day') FROM sessions) FROM sessions
"""
REST = "SELECT count(*) || ' ' || coalesce(sum(length({shown})), '') FROM messages WHERE session_id = ?"
SESSION = "SELECT {title}, {model}, working_dir, created_at, {kind}, {parent} FROM sessions WHERE id = ?"
HEAD = ("working_dir", "created_at", "session_type", "parent_session_id")
MESSAGES = """
    SELECT {id}, role, created_timestamp, content_json, {shown} FROM messages WHERE session_id = ?
    ORDER BY created_timestamp, id
"""
MODEL = """
    SELECT model FROM usage_ledger WHERE session_id = ? AND model > '' GROUP BY model ORDER BY count(*) DESC, 1 LIMIT 1
"""


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None


class _Metadata(msgspec.Struct, gc=False, rename="camel"):
    user_visible: bool = True


class _Line(msgspec.Struct, gc=False):
    """A message, or (without a role) the session's own fields."""

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
    versions: ClassVar[tuple[str, ...]] = ("1.0 (lines)", "1.10", "schema 15")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or branch is stored",
        "in sessions older than a day, a message that is hidden or shown again is found within a day",
    )
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
            columns = _columns(database)
            yield from list_with_watermarks(database, HEADS.format(**columns), REST.format(**columns))

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project a session's row and messages to the lines of the older files; title and model are kept apart."""
        columns = _columns(database)
        for title, model, *values in database.rows(SESSION.format(**columns), native_id):
            head = dict(zip(HEAD, values, strict=True))
            records = _records(database, MESSAGES.format(**columns), native_id, head)
            metadata = Entry(title=title, model=_most_used_model(database, native_id) or model)
            yield Projection(native_id=native_id, parent=head["parent_session_id"], records=records, metadata=metadata)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a line. Compaction changes row ids, so the key of a message is its time and its text."""
        line = parse(LINE, record)
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
    """Return the SQL for the columns that were added with schemas 3 to 15."""
    used = "(SELECT max(id) FROM usage_ledger WHERE session_id = sessions.id)"
    name, model = "coalesce(nullif(name, ''), description)", "json_extract(model_config_json, '$.model_name')"
    return {
        "title": column_or(database, "sessions", "name", name, "description"),
        "kind": column_or(database, "sessions", "session_type"),
        "parent": column_or(database, "sessions", "parent_session_id"),
        "model": column_or(database, "sessions", "model_config_json", model),
        "shown": column_or(database, "messages", "metadata_json"),
        "id": column_or(database, "messages", "message_id"),
        "used": column_or(database, "usage_ledger", "model", used),
    }


def _most_used_model(database: Rows, native_id: str) -> str | None:
    rows = database.rows(MODEL, native_id) if database.has("usage_ledger", "model") else iter(())
    return next((model for (model,) in rows), None)


def _records(database: Rows, query: str, session: str, head: dict[str, object]) -> Iterator[bytes]:
    yield msgspec.json.encode(head)
    for identity, role, created, content, metadata in database.rows(query, session):
        fields = {name: as_json(text) for name, text in (("content", content), ("metadata", metadata)) if text}
        yield msgspec.json.encode({"id": identity, "role": role, "created": created} | fields)


SOURCES = (Goose(),)
