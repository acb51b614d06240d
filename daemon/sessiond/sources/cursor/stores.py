"""The databases of Cursor: how chats lie in them (formats.md 2.3 and 2.4, field-notes B.3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b, sha256
from typing import Any

import msgspec

from sessiond.session import parse_time
from sessiond.sources.base import Portrait, Rows, parse

CHAT, HEADS = "workbench.panel.aichat.view.aichat.chatdata", "composer.composerData"
RECENT = 8
"""Sessions whose rows are measured at each look, in case that a row was changed without being written anew; all the
others are once a day."""


class _Composer(msgspec.Struct, rename="camel"):
    """What composerData holds; the rest of it changes all the time (context percentages, a half-typed prompt)."""

    composer_id: str
    name: str | None = None
    created_at: float | None = None
    last_updated_at: float | None = None
    workspace_identifier: Any = None
    unified_mode: Any = None
    model_config: Any = None
    full_conversation_headers_only: list[Any] = []
    conversation: list[msgspec.Raw] = []
    subagent_composer_ids: list[str] = []


class _Bubble(msgspec.Struct):
    bubbleId: str = ""  # noqa: N815 - the tool's name
    createdAt: Any = None  # noqa: N815
    timingInfo: Any = None  # noqa: N815
    modelInfo: Any = None  # noqa: N815


class _Heads(msgspec.Struct):
    allComposers: list[dict[str, Any]] = []  # noqa: N815


class _Chat(msgspec.Struct):
    tabs: list[dict[str, Any]] = []


COMPOSER, BUBBLE = msgspec.json.Decoder(_Composer), msgspec.json.Decoder(_Bubble)
HEADS_OF, CHAT_OF = msgspec.json.Decoder(_Heads), msgspec.json.Decoder(_Chat)
OBJECT = msgspec.json.Decoder(dict[str, Any])
encode = msgspec.json.Encoder().encode


def composers(database: Rows) -> Iterator[tuple[str, str]]:
    """List composers by the index of their keys, and look at the rows of those that were written since the last look.

    A row that is written again gets a new rowid, the largest (`UNIQUE ON CONFLICT REPLACE`); so of millions of
    bubbles only the new ones are read.
    """
    past = {name: mark for name, mark in database.marks.items() if mark.startswith("row ") and not database.thorough}
    since = max((int(mark.split()[1]) for mark in past.values()), default=0)
    ((newest,),) = database.rows("SELECT max(rowid) FROM cursorDiskKV")
    if (newest or 0) < since:
        past, since = {}, 0  # a VACUUM numbers all rows anew
    written = {
        key.split(":")[1]
        for (key,) in database.rows("SELECT key FROM cursorDiskKV WHERE rowid > ?", since)
        if past and key.startswith(("composerData:", "bubbleId:"))
    }
    written |= set(sorted(past, key=lambda name: int(past[name].split()[1]))[-RECENT:])
    heads = "SELECT substr(key, 14) FROM cursorDiskKV WHERE key > 'composerData:' AND key < 'composerData;'"
    for (name,) in list(database.rows(heads)):
        if name in past and name not in written:
            yield name, past[name]
            continue
        own = "SELECT rowid, length(value) FROM cursorDiskKV WHERE key = ? AND value IS NOT NULL"
        rows = "SELECT max(rowid), count(*), sum(length(value)) FROM cursorDiskKV WHERE key > ? AND key < ?"
        for row, size in database.rows(own, f"composerData:{name}"):
            ((last, count, sizes),) = database.rows(rows, f"bubbleId:{name}:", f"bubbleId:{name};")
            yield name, f"row {max(row, last or 0)} {count} {size} {sizes} {_placed(database, name)}"


def composer(database: Rows, native_id: str) -> Iterator[Portrait]:
    """Project a composer, unless it is a draft: its bubbles, and its place as a parent of others."""
    value = "SELECT value FROM cursorDiskKV WHERE key = ? AND value IS NOT NULL"
    for (data,) in list(database.rows(value, f"composerData:{native_id}")):
        composer = parse(COMPOSER, _bytes(data))
        lines = [_line(bytes(bubble)) for bubble in composer.conversation] or _bubbles(database, composer)
        if not lines:
            continue  # a draft
        bubbles = [parse(BUBBLE, line) for line in lines]
        head = {key: getattr(composer, key) for key in ("name", "created_at", "unified_mode", "workspace_identifier")}
        head["workspace_identifier"] = head["workspace_identifier"] or _place(database, native_id)
        if not any(bubble.createdAt or bubble.timingInfo for bubble in bubbles[-1:]):
            head["last_updated_at"] = composer.last_updated_at
        if not any(bubble.modelInfo for bubble in bubbles):
            head["model_config"] = composer.model_config
        named = {re.sub("_(.)", lambda found: found[1].upper(), key): value for key, value in head.items()}
        first = encode({"composerId": native_id, **named})
        yield Portrait(native_id=native_id, records=[first, *lines])
        for child in composer.subagent_composer_ids:
            yield Portrait(native_id=child, records=[encode({"parent": native_id})], stream="parent")


def _placed(database: Rows, native_id: str) -> int:
    """Tell when it was written where a composer belongs: that is flushed later than the composer."""
    if database.has("composerHeaders", "composerId", "value"):
        found = database.rows("SELECT count(*) FROM composerHeaders WHERE composerId = ?", native_id)
    elif database.has("ItemTable", "key"):
        found = database.rows("SELECT max(rowid) FROM ItemTable WHERE key = 'composer.composerHeaders'")
    else:
        return 0
    return next((int(row[0] or 0) for row in found), 0)


def _place(database: Rows, native_id: str) -> Any:
    """Find where a composer of layout 4 belongs, if it does not say so itself: in a table, or in the list before it."""
    if database.has("composerHeaders", "composerId", "value"):
        for (value,) in list(database.rows("SELECT value FROM composerHeaders WHERE composerId = ?", native_id)):
            return parse(OBJECT, _bytes(value)).get("workspaceIdentifier")
    listed = (
        head for value in _item(database, "composer.composerHeaders") for head in parse(HEADS_OF, value).allComposers
    )
    return next((head.get("workspaceIdentifier") for head in listed if head.get("composerId") == native_id), None)


def _bubbles(database: Rows, composer: _Composer) -> list[bytes]:
    """Order a composer's bubbles as its headers do; those that it does not list yet are the newest."""
    rows = "SELECT key, value FROM cursorDiskKV WHERE key > ? AND key < ? AND value IS NOT NULL"
    name = composer.composer_id
    found = {
        key.split(":")[2]: _line(_bytes(value))
        for key, value in database.rows(rows, f"bubbleId:{name}:", f"bubbleId:{name};")
    }
    listed = [inner({"": head}, "", "bubbleId") for head in composer.full_conversation_headers_only]
    order = [found.pop(bubble) for bubble in listed if bubble in found]
    return order + sorted(found.values(), key=lambda line: parse_time(parse(BUBBLE, line).createdAt) or 0)


def _item(database: Rows, key: str) -> Iterator[bytes]:
    if database.has("ItemTable", "key", "value"):
        for (value,) in database.rows("SELECT value FROM ItemTable WHERE key = ? AND value IS NOT NULL", key):
            yield _bytes(value)


def tabs(database: Rows) -> Iterator[dict[str, Any]]:
    """Find the chats of the oldest versions, in a workspace's database (formats.md 2.3 layout 1)."""
    for value in _item(database, CHAT):
        yield from (tab for tab in parse(CHAT_OF, value).tabs if tab.get("tabId"))


def heads(database: Rows) -> Iterator[dict[str, Any]]:
    """Find which composers a workspace's database names as its own (layout 2); what changes in a head is left out."""
    for value in _item(database, HEADS):
        for head in parse(HEADS_OF, value).allComposers:
            if isinstance(name := head.get("composerId"), str):
                yield {"type": "head", "composerId": name}


def meta(database: Rows) -> Iterator[dict[str, Any]]:
    """Read what the command line knows of its chat: hex of JSON in the row 0 (formats.md 2.4)."""
    for (value,) in list(database.rows("SELECT value FROM meta WHERE key = '0'")):
        meta = parse(OBJECT, bytes.fromhex(_bytes(value).decode()))
        if meta.get("agentId"):
            yield meta


def messages(database: Rows, meta: dict[str, Any]) -> Iterator[bytes]:
    """Walk the graph of blobs from its newest root: messages are JSON, what joins them names them by their hashes."""
    pending, seen = [str(meta.get("latestRootBlobId"))], set[str]()
    while pending:
        name = pending.pop()
        for (data,) in list(database.rows("SELECT data FROM blobs WHERE id = ?", name)):
            if data[:1] in (b"{", "{"):
                yield _line(_bytes(data))
            elif name not in seen:
                seen.add(name)
                pending += reversed([part.hex() for part in _fields(_bytes(data)) if len(part) == sha256().digest_size])


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


def inner(said: dict[str, Any], key: str, inner: str) -> Any:
    """Look into a field that should be an object."""
    value = said.get(key)
    return value.get(inner) if isinstance(value, dict) else None


def digest(value: dict[str, Any]) -> str:
    """Tell one value from another."""
    return blake2b(encode(value), digest_size=12).hexdigest()


def _bytes(value: str | bytes) -> bytes:
    # Not bytes(value): of a number that would be as many zeros.
    return value.encode("utf-8", "replace") if isinstance(value, str) else bytes(memoryview(value))


def _line(value: bytes) -> bytes:
    return bytes(msgspec.json.format(value, indent=-1)) if b"\n" in value else value
