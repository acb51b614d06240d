"""Goose: formats.md 2.17; its tables as `session_manager.rs` of aaif-goose/goose makes them (schemas 1 to 15)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Rows, Unit, Watch, listed, parse

FILE = re.compile(r"(sessions\.db)(?:-wal)?|([\w-]+)\.jsonl", re.ASCII)
# Row ids only ever grow: a compaction replaces all rows. What is deleted, or changes in a row (whether a message is
# shown), is looked at in sessions of the last day; of the others once a day.
HEADS = """
    SELECT id, printf('%s %s %s %s', updated_at, {title}, {used},
        (SELECT max(id) FROM messages WHERE session_id = sessions.id)),
        updated_at > (SELECT datetime(max(updated_at), '-1 day') FROM sessions) FROM sessions
"""
REST = "SELECT count(*) || ' ' || coalesce(sum(length({shown})), '') FROM messages WHERE session_id = ?"
ROW = "SELECT working_dir, created_at, {title}, {kind}, {parent}, {model} FROM sessions WHERE id = ?"
MESSAGES = """
    SELECT {id}, role, created_timestamp, content_json, {shown} FROM messages WHERE session_id = ?
    ORDER BY created_timestamp, id
"""
USAGE = """
    SELECT model FROM usage_ledger WHERE session_id = ? AND model > '' GROUP BY model ORDER BY count(*) DESC, 1 LIMIT 1
"""


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None


class _Metadata(msgspec.Struct, gc=False, rename="camel"):
    user_visible: bool = True


class _Line(msgspec.Struct, gc=False):
    """A message, or without a role what is known of the session."""

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


def _columns(database: Rows) -> dict[str, str]:
    """Tell how the columns that came with schemas 3 to 15 are asked for in this file."""
    newer = {
        "title": ("sessions", "name", "coalesce(nullif(name, ''), description)", "description"),
        "kind": ("sessions", "session_type", "session_type", "NULL"),
        "parent": ("sessions", "parent_session_id", "parent_session_id", "NULL"),
        "model": ("sessions", "model_config_json", "json_extract(model_config_json, '$.model_name')", "NULL"),
        "shown": ("messages", "metadata_json", "metadata_json", "NULL"),
        "id": ("messages", "message_id", "message_id", "NULL"),
        "used": ("usage_ledger", "model", "(SELECT max(id) FROM usage_ledger WHERE session_id = sessions.id)", "NULL"),
    }
    return {name: new if database.has(table, column) else old for name, (table, column, new, old) in newer.items()}


class Goose(BaseSource):
    """Sessions of Goose: rows since 1.10; the JSON lines from before stay where they are after their import."""

    tool: ClassVar[str] = "goose"
    versions: ClassVar[tuple[str, ...]] = ("1.0 (lines)", "1.10", "schema 15")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch is stored",
        "a message that is shown or hidden in a session of more than a day ago is found within a day",
    )
    local_ids: ClassVar[bool] = True  # every machine has a 20260822_1 (formats.md 1.1)

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `sessions` of the data directory, which is XDG's on macOS too, and of GOOSE_PATH_ROOT."""
        given = places.environ.get("GOOSE_PATH_ROOT", "").rstrip("/")
        paths = [f"{given}/data/sessions"] if given else []
        if places.platform == "win32":
            paths.append(f"{places.config}/Block/goose/data/sessions")
        else:
            paths.append(f"{places.share}/goose/sessions")
        if places.platform == "darwin":
            paths.append(f"{places.config}/Block/goose/sessions")
        for path in dict.fromkeys(paths):
            yield Root(path=path, watch=Watch.FLAT)

    def unit(self, relative: str) -> Unit | None:
        """Tell the database and the older JSON lines, which are a stream of the same session (formats.md 1.2)."""
        found = FILE.fullmatch(relative)
        if not found:
            return None
        if found[1]:
            return Unit(kind=Kind.DATABASE, path=found[1])
        return Unit(native_id=found[2], stream="jsonl")

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List sessions by the index of their messages."""
        if database.has("sessions", "updated_at", "description") and database.has("messages"):
            columns = _columns(database)
            yield from listed(database, HEADS.format(**columns), REST.format(**columns))

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Project a session's row and messages into the lines that it had before 1.10."""
        columns = _columns(database)
        for row in database.rows(ROW.format(**columns), native_id):
            folder, created, title, kind, parent, model = row
            for (used,) in database.rows(USAGE, native_id) if database.has("usage_ledger", "model") else ():
                model = used
            head = {"working_dir": folder, "created_at": created, "session_type": kind, "parent_session_id": parent}
            records = self._records(database, MESSAGES.format(**columns), native_id, msgspec.json.encode(head))
            told = Entry(title=title, model=model)
            yield Portrait(native_id=native_id, parent=parent, records=records, told=told)

    def _records(self, database: Rows, query: str, session: str, head: bytes) -> Iterator[bytes]:
        yield head
        for identity, role, created, content, metadata in database.rows(query, session):
            record = msgspec.json.encode({"id": identity, "role": role, "created": created})
            for name, text in (("content", content), ("metadata", metadata)):
                if text:
                    record = record[:-1] + f',"{name}":{text}}}'.encode("utf-8", "replace").replace(b"\n", b" ")
            yield record

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a line says. Row ids change at a compaction: a message is known by its second and its text."""
        line = parse(LINE, record)
        time_ms = parse_time(line.created)
        if line.role is None:
            return Entry(
                time_ms=parse_time(line.created_at),
                cwd=line.working_dir,
                title=line.description,
                parent=line.parent_session_id,
                model=line.model,
            )
        text = "\n".join(part.text for part in line.content if part.type == "text" and part.text)
        hidden = line.metadata is not None and not line.metadata.user_visible
        if not text or hidden or line.role not in ("user", "assistant"):
            return Entry(time_ms=time_ms, unknown=None if line.role in ("user", "assistant") else line.role)
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return Entry(time_ms=time_ms, role=Role(line.role), key=f"{line.created}.{digest}")


SOURCES = (Goose(),)
