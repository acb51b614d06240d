"""The `store.db` of a chat of Cursor's command line: a graph of blobs (formats.md 2.4, field-notes B.3)."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from sessiond.sources.base import Portrait, Rows
from sessiond.sources.objects import OBJECT, encode
from sessiond.sources.records import digest_of, parse
from sessiond.sources.rows import as_bytes, as_line


def is_chat(database: Rows) -> bool:
    """Tell such a store from the databases of the editor."""
    return database.has("blobs", "id", "data")


def list_chats(database: Rows) -> Iterator[tuple[str, str]]:
    """List the one chat of a store."""
    for meta in _meta(database):
        yield str(meta["agentId"]), digest_of(encode(meta).decode())


def lay_out_chat(database: Rows, native_id: str) -> Iterator[Portrait]:
    """Lay out what is known of the chat as a whole, then a message a record."""
    for meta in _meta(database):
        head = {key: value for key, value in meta.items() if key != "latestRootBlobId"}
        yield Portrait(native_id=native_id, records=[encode(head), *_messages(database, meta)])


def _meta(database: Rows) -> Iterator[dict[str, Any]]:
    """Read what the command line knows of its chat: hex of JSON in the row 0 (formats.md 2.4)."""
    for (value,) in list(database.rows("SELECT value FROM meta WHERE key = '0'")):
        meta = parse(OBJECT, bytes.fromhex(as_bytes(value).decode()))
        if meta.get("agentId"):
            yield meta


def _messages(database: Rows, meta: dict[str, Any]) -> Iterator[bytes]:
    """Walk the graph from its newest root: messages are JSON, what joins them names them by their hashes."""
    pending, seen = [str(meta.get("latestRootBlobId"))], set[str]()
    while pending:
        name = pending.pop()
        for (data,) in list(database.rows("SELECT data FROM blobs WHERE id = ?", name)):
            if data[:1] in (b"{", "{"):
                yield as_line(data)
            elif name not in seen:
                seen.add(name)
                pending += reversed(
                    [part.hex() for part in _fields(as_bytes(data)) if len(part) == sha256().digest_size]
                )


def _fields(data: bytes) -> Iterator[bytes]:
    """Yield the fields of a protobuf message that have a length."""
    position = 0

    def number() -> int:
        nonlocal position
        value = shift = 0
        while position < len(data):
            byte = data[position]
            value, shift, position = value | (byte & 127) << shift, shift + 7, position + 1
            if byte < 128:
                break
        return value

    while position < len(data):
        match number() & 7:
            case 0:
                number()
            case 2:
                size = number()
                yield data[position : position + size]
                position += size
            case 1 | 5 as wire:
                position += 8 if wire == 1 else 4
            case _:
                return
