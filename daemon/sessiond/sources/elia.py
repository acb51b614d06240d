"""Elia, a chat program for terminals: docs/formats/elia.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.base import BaseSource, Memory, Projection, Root, Rows, UserDirs, Watch
from sessiond.sources.objects import encode, without_nulls
from sessiond.sources.projection import SESSION, session_projection
from sessiond.sources.records import ABSENT, ROLES, message_role, parse, unknown_type
from sessiond.sources.rows import as_json, columns, select
from sessiond.sources.user_dirs import unique_paths

# Messages are only ever added, and chats are hidden instead of deleted.
HEADS = """
    SELECT chat.id, max(message.id) || ' ' || count(*) || ' ' || chat.model || ' ' || coalesce(title, '') || ' '
        || archived FROM chat JOIN message ON chat_id = chat.id GROUP BY chat.id
"""
CHAT = columns("model title started_at archived")
MESSAGE = columns("id role content timestamp model parent_id")
KNOWN = frozenset([*ROLES, "system"])


class _Line(msgspec.Struct, gc=False):
    """A message, or (with a type) what is known of the chat."""

    type: str | None = None
    id: int | None = None
    role: str | None = None
    content: msgspec.Raw = ABSENT
    timestamp: str | None = None
    started_at: str | None = None
    model: str | None = None


LINE = msgspec.json.Decoder(_Line)


class Elia(BaseSource):
    """Chats of Elia: rows of a database."""

    tool: ClassVar[str] = "elia"
    versions: ClassVar[tuple[str, ...]] = ("1.10.0",)
    id_columns: ClassVar[tuple[tuple[str, str], ...]] = (("chat", "id"),)
    local_ids: ClassVar[bool] = True  # a number
    own_keys: ClassVar[bool] = True
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, folder, branch or parent is stored, and no tokens",
        "the texts of the user's own system prompts (table `system_prompt`), which are in the messages",
    )
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>elia\.sqlite)(?:-wal)?")

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the directory in XDG's data directory, on every platform."""
        for path in unique_paths(f"{dirs.share}/elia", f"{dirs.home}/.local/share/elia"):
            yield Root(path=path, watch=Watch.FLAT, depth=0)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List chats with messages by the number of these and the last of them."""
        if database.has("chat", "title", "archived") and database.has("message", "chat_id"):
            for native_id, mark in database.rows(HEADS):
                yield str(native_id), mark

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project the messages of a chat, and apart when it began and whether it is hidden."""
        for row in list(select(database, "chat", CHAT, "WHERE id = ?", native_id)):
            found = select(database, "message", (*MESSAGE, "meta"), "WHERE chat_id = ? ORDER BY id", native_id)
            records = [encode(without_nulls({**each, "meta": as_json(each["meta"])})) for each in found]
            known = Entry(title=row["title"] or None, model=row["model"])
            yield Projection(native_id=native_id, records=records, metadata=known)
            if records:
                state = {"started_at": row["started_at"], "model": row["model"], "archived": row["archived"]}
                yield session_projection(native_id, state)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a message or the chat's state. Times are in UTC."""
        line = parse(LINE, record)
        if line.type == SESSION:
            return Entry(time_ms=parse_time(line.started_at), model=line.model)
        role = message_role(line.role, line.content)
        return Entry(
            time_ms=parse_time(line.timestamp),
            role=role,
            key=None if line.id is None else str(line.id),
            model=line.model if line.role == "assistant" else None,
            unknown=unknown_type(line.role, KNOWN),
        )


SOURCES = (Elia(),)
