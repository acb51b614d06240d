"""The composers of Cursor's editor, which are its chats: keys and JSON values of one table (formats.md 2.3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from sessiond.session import parse_time
from sessiond.sources.base import Portrait, Rows
from sessiond.sources.cursor.items import place_of
from sessiond.sources.objects import encode, inner
from sessiond.sources.records import parse
from sessiond.sources.rows import as_bytes, as_line


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


class _Bubble(msgspec.Struct, rename="camel"):
    created_at: Any = None
    timing_info: Any = None
    model_info: Any = None


COMPOSER, BUBBLE = msgspec.json.Decoder(_Composer), msgspec.json.Decoder(_Bubble)


def lay_out_composer(database: Rows, native_id: str) -> Iterator[Portrait]:
    """Lay out a composer, unless it is a draft: its bubbles, and its place as a parent of others."""
    value = "SELECT value FROM cursorDiskKV WHERE key = ? AND value IS NOT NULL"
    for (data,) in list(database.rows(value, f"composerData:{native_id}")):
        composer = parse(COMPOSER, as_bytes(data))
        lines = [as_line(bytes(bubble)) for bubble in composer.conversation] or _bubbles(database, composer)
        if not lines:
            continue  # a draft
        yield Portrait(native_id=native_id, records=[encode(_head(database, native_id, composer, lines)), *lines])
        for child in composer.subagent_composer_ids:
            yield Portrait(native_id=child, records=[encode({"parent": native_id})], stream="parent")


def _head(database: Rows, native_id: str, composer: _Composer, lines: list[bytes]) -> dict[str, Any]:
    """Take what is known of a composer as a whole; of what changes, only what its bubbles do not say."""
    bubbles = [_bubble(line) for line in lines]
    head = {
        "composerId": native_id,
        "name": composer.name,
        "createdAt": composer.created_at,
        "unifiedMode": composer.unified_mode,
        "workspaceIdentifier": composer.workspace_identifier or place_of(database, native_id),
    }
    if not (bubbles[-1].created_at or bubbles[-1].timing_info):
        head["lastUpdatedAt"] = composer.last_updated_at
    if not any(bubble.model_info for bubble in bubbles):
        head["modelConfig"] = composer.model_config
    return head


def _bubbles(database: Rows, composer: _Composer) -> list[bytes]:
    """Order a composer's bubbles as its headers do; those that it does not list yet are the newest."""
    rows = "SELECT key, value FROM cursorDiskKV WHERE key > ? AND key < ? AND value IS NOT NULL"
    name = composer.composer_id
    cells = database.rows(rows, f"bubbleId:{name}:", f"bubbleId:{name};")
    found = {key.split(":")[2]: as_line(value) for key, value in cells}
    listed = [inner(head, "bubbleId") for head in composer.full_conversation_headers_only]
    order = [found.pop(bubble) for bubble in listed if bubble in found]
    return order + sorted(found.values(), key=lambda line: parse_time(_bubble(line).created_at) or 0)


def _bubble(line: bytes) -> _Bubble:
    """Look into a bubble. A malformed one (formats.md 2.3 Storage) is carried, and says nothing."""
    with suppress(ValueError):
        return parse(BUBBLE, line)
    return _Bubble()
