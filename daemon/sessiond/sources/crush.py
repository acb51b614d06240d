"""Crush: docs/formats/crush.md."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, parse_time
from sessiond.sources.base import DATABASES, BaseSource, Memory, Projection, Root, Rows, UserDirs, Watch
from sessiond.sources.content import blocks, speaker_of, summary, template
from sessiond.sources.objects import encode
from sessiond.sources.projection import SESSION, session_projection
from sessiond.sources.records import ABSENT, ROLES, parse, unknown_type
from sessiond.sources.rows import as_json, column_or, columns, list_with_watermarks, select
from sessiond.sources.user_dirs import read_small_file

REGISTRY = "projects.json"
KNOWN = frozenset(["session", "user", "assistant", "tool", "system"])
# Times are in seconds, although the schema says milliseconds. In sessions of the last day the length of the text tells
# two updates of one second apart; older sessions are checked once a day. `title-<parent>` is the generation of a title.
HEADS = """
    SELECT id, printf('%s %s %s', updated_at, {tokens}, {cost}),
        updated_at > (SELECT max(updated_at) FROM sessions) - 86400
    FROM sessions WHERE id NOT LIKE 'title-%'
"""
REST = """
    SELECT printf('%s %s %s', count(*), sum(length(parts)), max(updated_at)) FROM messages WHERE session_id = ?
"""
START = ("parent_session_id", "created_at")
STATE = columns(
    "updated_at message_count prompt_tokens completion_tokens last_prompt_tokens last_completion_tokens cost"
    " summary_message_id todos"
)
MESSAGE = columns("id role model provider created_at updated_at finished_at is_summary_message parts")
MESSAGE_CLAUSES = "WHERE session_id = ? ORDER BY created_at, rowid"


class _Text(msgspec.Struct, gc=False):
    text: str | None = None


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    data: msgspec.Raw = ABSENT


class _Line(msgspec.Struct, gc=False):
    """A message, or (without a role) the session's own fields, or (with a type) those that change."""

    type: str | None = None
    id: str | None = None
    role: str | None = None
    model: str | None = None
    created_at: int | None = None
    finished_at: int | None = None
    is_summary_message: int | None = None
    parts: list[_Part] = []
    parent_session_id: str | None = None


class _Project(msgspec.Struct):
    path: str
    data_dir: str


class _Projects(msgspec.Struct):
    projects: list[_Project] = []


LINE, TEXT = msgspec.json.Decoder(_Line), msgspec.json.Decoder(_Text)
PROJECTS = msgspec.json.Decoder(_Projects)


BLOCK_TYPES = {"binary": "file"}


class Crush(BaseSource):
    """Sessions of Crush: a database in each project, and a list of projects in the data directory."""

    tool: ClassVar[str] = "crush"
    variables: ClassVar[tuple[str, ...]] = ("CRUSH_GLOBAL_DATA",)
    versions: ClassVar[tuple[str, ...]] = ("0.90",)
    id_columns: ClassVar[tuple[tuple[str, str], ...]] = (("sessions", "id"),)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or branch is stored",
        "the database of a project that is no longer listed is not found",
        "the files that the model read and wrote (tables `files`, `read_files`): they are copies of the project's",
        "projects.json lists the projects, which is where their databases are found",
    )
    session_like: ClassVar[str] = DATABASES
    projection_version: ClassVar[int] = 2
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>crush\.db)(?:-wal)?")

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the directory of the list of projects, and each project's data directory."""
        base = dirs.from_variable("CRUSH_GLOBAL_DATA")
        base = base or f"{dirs.data if dirs.platform == 'win32' else dirs.share}/crush"
        yield Root(path=base, watch=Watch.FLAT, registry=REGISTRY)
        known = {base}
        for project in _projects(f"{base}/{REGISTRY}"):
            path = os.path.normpath(os.path.join(project.path, project.data_dir))
            if dirs.absolute(path) and path not in known:
                known.add(path)
                yield Root(path=path, watch=Watch.FLAT, cwd=project.path)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List sessions, including those of subagents."""
        if database.has("sessions", "parent_session_id") and database.has("messages", "is_summary_message"):
            tokens = column_or(database, "sessions", "completion_tokens", "prompt_tokens || ' ' || completion_tokens")
            heads = HEADS.format(tokens=tokens, cost=column_or(database, "sessions", "cost"))
            yield from list_with_watermarks(database, heads, REST)

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project a session's row and messages, and apart what changes: its title, tokens and cost."""
        for row in list(select(database, "sessions", [*START, *STATE, "title"], "WHERE id = ?", native_id)):
            parent, title = row["parent_session_id"], row["title"]
            head = {"id": native_id, **{name: row[name] for name in START}}
            records = [encode(record) for record in _records(database, head)]
            yield Projection(native_id=native_id, parent=parent, records=records, metadata=Entry(title=title))
            if len(records) > 1:
                yield session_projection(native_id, {name: row[name] for name in STATE})

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a row. A message counts if it has a text part and is no summary."""
        line = parse(LINE, record)
        if line.type == SESSION:
            return None
        texts = (parse(TEXT, bytes(part.data)).text for part in line.parts if part.type == "text")
        finished = Entry(time_ms=parse_time(line.finished_at))
        return Entry(
            time_ms=parse_time(line.created_at),
            role=ROLES.get(line.role or "") if not line.is_summary_message and any(texts) else None,
            key=line.id,
            model=line.model if line.role == Role.ASSISTANT else None,
            parent=line.parent_session_id,
            unknown=unknown_type(line.role or "session", KNOWN),
            more=(finished,) if line.finished_at else (),
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a row: a block of the usual vocabulary is a type, and data beside it."""
        base = template(entry, speaker_of(record.get("role")))
        for part in record.get("parts") or ():
            data = part.get("data") if isinstance(part.get("data"), dict) else {}
            kind = BLOCK_TYPES.get(part.get("type"), part.get("type"))
            block = {**data, "type": kind, "mimeType": data.get("MIMEType"), "data": data.get("Data")}
            if kind != "finish":
                for item in blocks([block], replace(base, key=entry.key)):
                    yield summary(item.text, item) if record.get("is_summary_message") else item


def _projects(path: str) -> list[_Project]:
    """Return the listed projects; none if the list is damaged."""
    try:
        return parse(PROJECTS, read_small_file(path)).projects
    except ValueError:
        return []


def _records(database: Rows, head: dict[str, object]) -> Iterator[dict[str, object]]:
    yield head
    for row in select(database, "messages", MESSAGE, MESSAGE_CLAUSES, head["id"]):
        yield row | {"parts": as_json(row["parts"])}


SOURCES = (Crush(),)
