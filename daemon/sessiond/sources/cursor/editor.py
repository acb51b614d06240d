"""Cursor's editor: composers, which are its chats, and the chats of its oldest versions (docs/formats/cursor.md).

Only the keys named here are read: the same tables hold the user's tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from sessiond.errors import ReadError, Torn
from sessiond.session import parse_time
from sessiond.sources.base import Projection, Rows
from sessiond.sources.objects import OBJECT, as_text, encode, get_in
from sessiond.sources.projection import session_projection
from sessiond.sources.records import digest, parse
from sessiond.sources.rows import UNREADABLE, as_bytes, as_line

RECENT = 8
"""Composers whose rows are measured at each listing, in case a row was edited in place. The others are once a day."""
OLD_CHATS = "workbench.panel.aichat.view.aichat.chatdata"
WORKSPACE_HEADS = "composer.composerData"
GLOBAL_HEADS = "composer.composerHeaders"
NAMES = "SELECT substr(key, 14) FROM cursorDiskKV WHERE key > 'composerData:' AND key < 'composerData;'"
COMPOSER_ROW = "SELECT rowid, length(value) FROM cursorDiskKV WHERE key = ? AND value IS NOT NULL"
BUBBLE_ROWS = "SELECT max(rowid), count(*), sum(length(value)) FROM cursorDiskKV WHERE key > ? AND key < ?"


class _Composer(msgspec.Struct, rename="camel"):
    """The fields of a composer that are read."""

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
    status: Any = None
    is_agentic: Any = None
    force_mode: Any = None
    usage_data: Any = None
    context_tokens_used: Any = None
    context_token_limit: Any = None
    total_lines_added: Any = None
    total_lines_removed: Any = None
    todos: Any = None
    latest_conversation_summary: Any = None


class _Bubble(msgspec.Struct, rename="camel"):
    created_at: Any = None
    timing_info: Any = None
    model_info: Any = None


class _Heads(msgspec.Struct, rename="camel"):
    all_composers: list[dict[str, Any]] = []


class _OldChats(msgspec.Struct):
    tabs: list[dict[str, Any]] = []


STATE = (
    "last_updated_at unified_mode model_config status is_agentic force_mode usage_data context_tokens_used"
    " context_token_limit total_lines_added total_lines_removed todos latest_conversation_summary"
)
"""The fields of a composer that change while it goes on. Without a prompt that was not sent yet, and without files."""
COMPOSER, BUBBLE = msgspec.json.Decoder(_Composer), msgspec.json.Decoder(_Bubble)
HEADS, OLD_CHAT = msgspec.json.Decoder(_Heads), msgspec.json.Decoder(_OldChats)


def list_composers(database: Rows) -> Iterator[tuple[str, str]]:
    """List composers by the index of their keys, and measure the rows of those that changed since the last listing.

    A row that is written again gets the largest rowid (`UNIQUE ON CONFLICT REPLACE`), so of millions of bubbles only
    the new ones are read.
    """
    past = {name: mark for name, mark in database.marks.items() if mark.startswith("row ") and not database.thorough}
    since = max((int(mark.split()[1]) for mark in past.values()), default=0)
    ((newest,),) = database.rows("SELECT max(rowid) FROM cursorDiskKV")
    if (newest or 0) < since:
        past, since = {}, 0  # VACUUM renumbered the rows
    changed = _changed_composers(database, since) if past else set()
    changed |= set(sorted(past, key=lambda name: int(past[name].split()[1]))[-RECENT:])
    for (name,) in list(database.rows(NAMES)):
        if name in past and name not in changed:
            yield name, past[name]
            continue
        yield from _measured(database, name)


def _measured(database: Rows, name: str) -> list[tuple[str, str]]:
    """Return a composer with its watermark; UNREADABLE if that needs a damaged page. Raises: Torn."""
    try:
        rows = list(database.rows(COMPOSER_ROW, f"composerData:{name}"))
        bubbles = next(database.rows(BUBBLE_ROWS, f"bubbleId:{name}:", f"bubbleId:{name};"))
        workspace = _workspace_mark(database, name)
    except Torn:
        raise
    except ReadError:
        return [(name, UNREADABLE)]
    last, count, sizes = bubbles
    return [(name, f"row {max(row, last or 0)} {count} {size} {sizes} {workspace}") for row, size in rows]


def project_composer(database: Rows, native_id: str) -> Iterator[Projection]:
    """Project a composer with its bubbles, unless it is a draft; and for each subagent, that this is its parent."""
    value = "SELECT value FROM cursorDiskKV WHERE key = ? AND value IS NOT NULL"
    for (data,) in list(database.rows(value, f"composerData:{native_id}")):
        composer = parse(COMPOSER, as_bytes(data))
        lines = [as_line(bytes(bubble)) for bubble in composer.conversation] or _bubbles(database, composer)
        if not lines:
            continue  # a draft
        yield Projection(native_id=native_id, records=[encode(_head(database, native_id, composer, lines)), *lines])
        yield session_projection(native_id, {name: getattr(composer, name) for name in STATE.split()})
        for child in composer.subagent_composer_ids:
            yield Projection(native_id=child, records=[encode({"parent": native_id})], stream="parent")


def list_chats(database: Rows) -> Iterator[tuple[str, str]]:
    """List the chats of the oldest versions, and the composers that belong to a workspace, in its database."""
    for tab in _old_chats(database):
        yield str(tab["tabId"]), digest(encode(tab).decode())
    for name in _workspace_composers(database):
        yield name, digest(name)


def project_chat(database: Rows, native_id: str) -> Iterator[Projection]:
    """Project a chat of the oldest versions, or a record that a composer belongs to the workspace."""
    for tab in _old_chats(database):
        if tab["tabId"] == native_id and (bubbles := tab.pop("bubbles", None)):
            yield Projection(native_id=native_id, records=map(encode, [tab, *bubbles]))
    if native_id in _workspace_composers(database):
        head = encode({"type": "head", "composerId": native_id})
        yield Projection(native_id=native_id, records=[head], stream="workspace")


def _changed_composers(database: Rows, since: int) -> set[str]:
    rows = database.rows("SELECT key FROM cursorDiskKV WHERE rowid > ?", since)
    return {key.split(":")[1] for (key,) in rows if key.startswith(("composerData:", "bubbleId:"))}


def _head(database: Rows, native_id: str, composer: _Composer, lines: list[bytes]) -> dict[str, Any]:
    """Return a composer's own fields. Fields that change are included only if its bubbles lack them."""
    bubbles = [_bubble(line) for line in lines]
    head = {
        "composerId": native_id,
        "name": composer.name,
        "createdAt": composer.created_at,
        "unifiedMode": composer.unified_mode,
        "workspaceIdentifier": composer.workspace_identifier or _workspace(database, native_id),
    }
    if not (bubbles[-1].created_at or bubbles[-1].timing_info):
        head["lastUpdatedAt"] = composer.last_updated_at
    if not any(bubble.model_info for bubble in bubbles):
        head["modelConfig"] = composer.model_config
    return head


def _bubbles(database: Rows, composer: _Composer) -> list[bytes]:
    """Return a composer's bubbles in the order of its headers; those that are not listed there yet are the newest."""
    rows = "SELECT key, value FROM cursorDiskKV WHERE key > ? AND key < ? AND value IS NOT NULL"
    name = composer.composer_id
    cells = database.rows(rows, f"bubbleId:{name}:", f"bubbleId:{name};")
    found = {key.split(":")[2]: as_line(value) for key, value in cells}
    listed = [get_in(head, "bubbleId") for head in composer.full_conversation_headers_only]
    order = [found.pop(bubble) for bubble in listed if bubble in found]
    return order + sorted(found.values(), key=lambda line: parse_time(_bubble(line).created_at) or 0)


def _bubble(line: bytes) -> _Bubble:
    """Decode a bubble; a malformed one, which occurs, is empty here and uploaded as it is."""
    with suppress(ValueError):
        return parse(BUBBLE, line)
    return _Bubble()


def _workspace(database: Rows, native_id: str) -> Any:
    """Return the workspace of a composer that does not name it itself, from a table or the older list (layout 4)."""
    if database.has("composerHeaders", "composerId", "value"):
        for (value,) in list(database.rows("SELECT value FROM composerHeaders WHERE composerId = ?", native_id)):
            return parse(OBJECT, as_bytes(value)).get("workspaceIdentifier")
    heads = (head for value in _item(database, GLOBAL_HEADS) for head in parse(HEADS, value).all_composers)
    return next((head.get("workspaceIdentifier") for head in heads if head.get("composerId") == native_id), None)


def _workspace_mark(database: Rows, native_id: str) -> int:
    """Return a number that changes when a composer's workspace is written, which happens after the composer."""
    if database.has("composerHeaders", "composerId", "value"):
        found = database.rows("SELECT count(*) FROM composerHeaders WHERE composerId = ?", native_id)
    elif database.has("ItemTable", "key"):
        found = database.rows("SELECT max(rowid) FROM ItemTable WHERE key = ?", GLOBAL_HEADS)
    else:
        return 0
    return next((int(row[0] or 0) for row in found), 0)


def _item(database: Rows, key: str) -> Iterator[bytes]:
    if database.has("ItemTable", "key", "value"):
        for (value,) in database.rows("SELECT value FROM ItemTable WHERE key = ? AND value IS NOT NULL", key):
            yield as_bytes(value)


def _old_chats(database: Rows) -> Iterator[dict[str, Any]]:
    """Iterate over the chats of the oldest versions (layout 1), in a workspace's database."""
    for value in _item(database, OLD_CHATS):
        yield from (tab for tab in parse(OLD_CHAT, value).tabs if tab.get("tabId"))


def _workspace_composers(database: Rows) -> Iterator[str]:
    """Iterate over the composers that a workspace's database lists as its own (layout 2)."""
    for value in _item(database, WORKSPACE_HEADS):
        names = (as_text(head.get("composerId")) for head in parse(HEADS, value).all_composers)
        yield from filter(None, names)
