"""Crush: formats.md 2.22, field-notes B.2."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import (
    BaseSource,
    Kind,
    Memory,
    Places,
    Portrait,
    Root,
    Rows,
    Unit,
    Watch,
    listed,
    parse,
    peek,
)

STORE = re.compile(r"(crush\.db)(?:-wal)?", re.ASCII)
REGISTRY = "projects.json"
# Times are seconds, whatever the schema says: in sessions of the last day the text's length tells two updates of one
# second apart; older ones are looked at once a day. `title-<parent>` is the naming of a session, not one.
HEADS = """
    SELECT id, updated_at, updated_at > (SELECT max(updated_at) FROM sessions) - 86400
    FROM sessions WHERE id NOT LIKE 'title-%'
"""
REST = """
    SELECT printf('%s %s %s', count(*), sum(length(parts)), max(updated_at)) FROM messages WHERE session_id = ?
"""
SESSION = "SELECT id, parent_session_id, created_at, title FROM sessions WHERE id = ?"
MESSAGES = """
    SELECT id, role, model, provider, created_at, finished_at, is_summary_message, parts
    FROM messages WHERE session_id = ? ORDER BY created_at, rowid
"""
COLUMNS = ("id", "role", "model", "provider", "created_at", "finished_at", "is_summary_message")


class _Text(msgspec.Struct, gc=False):
    text: str | None = None


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")


class _Line(msgspec.Struct, gc=False):
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


LINE = msgspec.json.Decoder(_Line)
TEXT = msgspec.json.Decoder(_Text)
PROJECTS = msgspec.json.Decoder(_Projects)


def _projects(path: str) -> list[_Project]:
    try:
        return PROJECTS.decode(peek(path)).projects
    except ValueError:
        return []


class Crush(BaseSource):
    """Sessions of Crush, a database in each project that Crush knows of."""

    tool: ClassVar[str] = "crush"
    versions: ClassVar[tuple[str, ...]] = ("0.90",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch is stored",
        "a store of a project that the list of projects has lost is not found",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the directory of the registry, and the data directories of the projects in it."""
        base = places.environ.get("CRUSH_GLOBAL_DATA", "").rstrip("/") or f"{places.share}/crush"
        if places.platform == "win32" and "LOCALAPPDATA" in places.environ:
            base = f"{places.environ['LOCALAPPDATA']}/crush"
        yield Root(path=base, watch=Watch.FLAT, registry=REGISTRY)
        known = {base}
        for project in _projects(f"{base}/{REGISTRY}"):
            path = os.path.normpath(os.path.join(project.path, project.data_dir))
            if os.path.isabs(path) and path not in known:
                known.add(path)
                yield Root(path=path, watch=Watch.FLAT, cwd=project.path)

    def unit(self, relative: str) -> Unit | None:
        """Tell the database."""
        found = STORE.fullmatch(relative)
        return Unit(kind=Kind.DATABASE, path=found[1]) if found else None

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List sessions, agents' own ones included."""
        if database.has("sessions", "parent_session_id") and database.has("messages", "is_summary_message"):
            yield from listed(database, HEADS, REST)

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Project a session's row and messages; what it read and wrote (`files`) is no part of the talk."""
        for _, parent, created, title in database.rows(SESSION, native_id):
            head = {"id": native_id, "parent_session_id": parent, "created_at": created}
            yield Portrait(
                native_id=native_id,
                parent=parent,
                records=self._records(database, native_id, msgspec.json.encode(head)),
                told=Entry(title=title),
            )

    def _records(self, database: Rows, session: str, head: bytes) -> Iterator[bytes]:
        yield head
        for *values, parts in database.rows(MESSAGES, session):
            record = msgspec.json.encode(dict(zip(COLUMNS, values, strict=True)))
            yield record[:-1] + f',"parts":{parts}}}'.encode("utf-8", "replace").replace(b"\n", b" ")

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a row says: a prompt or an answer has a text part and is no summary (formats.md 2.22)."""
        line = parse(LINE, record)
        texts = (parse(TEXT, bytes(part.data)).text for part in line.parts if part.type == "text")
        says = line.role in ("user", "assistant") and not line.is_summary_message and any(texts)
        known = line.role in (None, "user", "assistant", "tool", "system")
        finished = Entry(time_ms=parse_time(line.finished_at))
        return Entry(
            time_ms=parse_time(line.created_at),
            role=Role(line.role) if says and line.role else None,
            key=line.id,
            model=line.model if line.role == "assistant" else None,
            parent=line.parent_session_id,
            unknown=None if known else line.role,
            more=(finished,) if line.finished_at else (),
        )


SOURCES = (Crush(),)
