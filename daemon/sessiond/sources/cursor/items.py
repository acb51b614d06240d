"""The items of Cursor's databases beside its composers: the chats before them, and where a composer belongs.

Only these keys are asked for: the same tables hold the user's tokens (formats.md 1.8).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from sessiond.sources.base import Portrait, Rows
from sessiond.sources.objects import OBJECT, encode, text
from sessiond.sources.records import digest_of, parse
from sessiond.sources.rows import as_bytes

CHAT, HEADS = "workbench.panel.aichat.view.aichat.chatdata", "composer.composerData"
PLACES = "composer.composerHeaders"


class _Heads(msgspec.Struct):
    allComposers: list[dict[str, Any]] = []  # noqa: N815 - the tool's name


class _Chat(msgspec.Struct):
    tabs: list[dict[str, Any]] = []


HEADS_OF, CHAT_OF = msgspec.json.Decoder(_Heads), msgspec.json.Decoder(_Chat)


def list_items(database: Rows) -> Iterator[tuple[str, str]]:
    """List the chats of the oldest versions, and the composers that a workspace's database names as its own."""
    for tab in _tabs(database):
        yield str(tab["tabId"]), digest_of(encode(tab).decode())
    for name in _heads(database):
        yield name, digest_of(name)


def lay_out_items(database: Rows, native_id: str) -> Iterator[Portrait]:
    """Lay out an old chat, and that a composer belongs to the workspace; what changes in such a head is left out."""
    for tab in _tabs(database):
        if tab["tabId"] == native_id and (bubbles := tab.pop("bubbles", None)):
            yield Portrait(native_id=native_id, records=map(encode, [tab, *bubbles]))
    if native_id in _heads(database):
        head = encode({"type": "head", "composerId": native_id})
        yield Portrait(native_id=native_id, records=[head], stream="workspace")


def place_of(database: Rows, native_id: str) -> Any:
    """Find where a composer of layout 4 belongs, if it does not say so itself: in a table, or in the list before it."""
    if database.has("composerHeaders", "composerId", "value"):
        for (value,) in list(database.rows("SELECT value FROM composerHeaders WHERE composerId = ?", native_id)):
            return parse(OBJECT, as_bytes(value)).get("workspaceIdentifier")
    listed = (head for value in _item(database, PLACES) for head in parse(HEADS_OF, value).allComposers)
    return next((head.get("workspaceIdentifier") for head in listed if head.get("composerId") == native_id), None)


def place_mark(database: Rows, native_id: str) -> int:
    """Tell when it was written where a composer belongs: that is flushed later than the composer."""
    if database.has("composerHeaders", "composerId", "value"):
        found = database.rows("SELECT count(*) FROM composerHeaders WHERE composerId = ?", native_id)
    elif database.has("ItemTable", "key"):
        found = database.rows("SELECT max(rowid) FROM ItemTable WHERE key = ?", PLACES)
    else:
        return 0
    return next((int(row[0] or 0) for row in found), 0)


def _item(database: Rows, key: str) -> Iterator[bytes]:
    if database.has("ItemTable", "key", "value"):
        for (value,) in database.rows("SELECT value FROM ItemTable WHERE key = ? AND value IS NOT NULL", key):
            yield as_bytes(value)


def _tabs(database: Rows) -> Iterator[dict[str, Any]]:
    """Find the chats of the oldest versions, in a workspace's database (formats.md 2.3 layout 1)."""
    for value in _item(database, CHAT):
        yield from (tab for tab in parse(CHAT_OF, value).tabs if tab.get("tabId"))


def _heads(database: Rows) -> Iterator[str]:
    """Find which composers a workspace's database names as its own (formats.md 2.3 layout 2)."""
    for value in _item(database, HEADS):
        names = (text(head.get("composerId")) for head in parse(HEADS_OF, value).allComposers)
        yield from filter(None, names)
