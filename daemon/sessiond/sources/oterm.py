"""oterm, a chat program for terminals: docs/formats/oterm.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import msgspec

from sessiond.session import Entry, Item, Speaker
from sessiond.sources.base import DATABASES, BaseSource, Memory, Projection, Root, Rows, UserDirs, Watch
from sessiond.sources.content import blocks, template
from sessiond.sources.messages import message_items
from sessiond.sources.objects import encode, get_in, without_nulls
from sessiond.sources.projection import SESSION, session_projection
from sessiond.sources.records import ABSENT, ROLES, message_role, parse, unknown_type
from sessiond.sources.rows import as_json, column_or, columns, list_with_watermarks, select
from sessiond.sources.user_dirs import unique_paths

# An answer that is generated again replaces the text of its row, and nothing shows that but the text: its length and a
# few characters. Watermarks are not masked, so they must not contain the text.
HEADS = """
    SELECT id, coalesce(name, '') || ' ' || model || ' ' || {provider} || ' '
        || coalesce((SELECT max(id) || ' ' || count(*) FROM message WHERE chat_id = chat.id), ''), 1 FROM chat
"""
REST = """
    SELECT (
        SELECT printf('%s %s %s', total(length(text)), total(unicode(substr(text, length(text) / 2))),
            total(unicode(substr(text, -1))))
        FROM message WHERE chat_id = chat.id
    ) || printf(' %s %s %s', length(system), unicode(substr(system, length(system) / 2)), unicode(substr(system, -1)))
    FROM chat WHERE id = ?
"""
STATE = columns("model provider thinking")
JSON = columns("parameters tools")
MESSAGE = columns("id author text images")


class _Line(msgspec.Struct, gc=False):
    """A message, or (with a type) what is known of the chat."""

    type: str | None = None
    id: int | None = None
    role: str | None = None
    content: msgspec.Raw = ABSENT
    images: list[Any] = []
    model: str | None = None


LINE = msgspec.json.Decoder(_Line)


class Oterm(BaseSource):
    """Chats of oterm: rows of a database, without times."""

    tool: ClassVar[str] = "oterm"
    variables: ClassVar[tuple[str, ...]] = ("OTERM_DATA_DIR",)
    versions: ClassVar[tuple[str, ...]] = ("0.26.1",)
    id_columns: ClassVar[tuple[tuple[str, str], ...]] = (("chat", "id"),)
    local_ids: ClassVar[bool] = True  # a number
    own_keys: ClassVar[bool] = True
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, folder, branch, parent or tokens are stored, and no times: those of the file are used",
        "thoughts and calls of tools are not stored",
    )
    session_like: ClassVar[str] = DATABASES
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>store\.db)(?:-wal)?")

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return OTERM_DATA_DIR and the data directory of the platform."""
        own, xdg = dirs.from_variable("OTERM_DATA_DIR"), dirs.from_variable("XDG_DATA_HOME", "/oterm")
        default = dirs.config if dirs.platform in ("darwin", "win32") else dirs.share
        for path in unique_paths(own, xdg, f"{default}/oterm"):
            yield Root(path=path, watch=Watch.FLAT, depth=0)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List chats by their fields, their last message and the length of all texts."""
        if database.has("chat", "name", "model", "system") and database.has("message", "chat_id", "text"):
            provider = column_or(database, "chat", "provider", "coalesce(provider, '')", "''")
            for native_id, mark in list_with_watermarks(database, HEADS.format(provider=provider), REST):
                yield str(native_id), mark

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project the system prompt and the messages of a chat, and apart its settings, which change."""
        for row in list(select(database, "chat", ("name", "system", *STATE, *JSON), "WHERE id = ?", native_id)):
            messages = list(select(database, "message", MESSAGE, "WHERE chat_id = ? ORDER BY id", native_id))
            records = [encode({"role": "system", "content": row["system"]})] if row["system"] and messages else []
            for each in messages:
                said = {"id": each["id"], "role": each["author"], "content": each["text"]}
                records.append(encode({**said, "images": as_json(each["images"])}))
            known = Entry(title=row["name"] or None, model=row["model"])
            yield Projection(native_id=native_id, records=records, metadata=known, timeless=True)
            if records:
                state = {name: row[name] for name in STATE} | {name: as_json(row[name]) for name in JSON}
                yield session_projection(native_id, without_nulls(state))

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a message or the settings. A prompt may be an image."""
        line = parse(LINE, record)
        if line.type == SESSION:
            return Entry(model=line.model)
        role = message_role(line.role, line.content) or (ROLES.get(line.role or "") if line.images else None)
        key = None if line.id is None else str(line.id)
        return Entry(role=role, key=key, unknown=unknown_type(line.role, {*ROLES, "system"}))

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a message, and the images beside its text, which are base64."""
        yield from message_items(record, entry)
        images = get_in(record, "images")
        for each in images if isinstance(images, list) else ():
            yield from blocks({"type": "image", "data": each}, template(entry, Speaker.USER))


SOURCES = (Oterm(),)
