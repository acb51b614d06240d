"""The items of a history of Continue and what they say: formats.md 2.14, field-notes B.2 "Continue CLI 1.5.47"."""

from __future__ import annotations

import msgspec

from sessiond.session import Entry
from sessiond.sources.places import path_of
from sessiond.sources.records import NONE, ROLES, parse, speaker, unheard

KNOWN = frozenset([*ROLES, "tool", "system", "thinking"])
UNNAMED = ("Untitled Session", "New Session")


class _Model(msgspec.Struct, gc=False):
    """What a log or an account of usage names it; PearAI's logs do in their options."""

    model: str | None = None
    title: str | None = msgspec.field(name="modelTitle", default=None)
    options: _Model | None = msgspec.field(name="completionOptions", default=None)


class _Message(msgspec.Struct, gc=False, rename="camel"):
    role: str = "?"
    content: msgspec.Raw = NONE
    tool_calls: list[msgspec.Raw] | None = None
    usage: _Model | None = None


class _Item(msgspec.Struct, gc=False, rename="camel"):
    """An item of the history, or the session's own fields."""

    message: _Message | None = None
    prompt_logs: list[_Model] | None = None
    title: str | None = None
    workspace_directory: str | None = None
    chat_model_title: str | None = None


ITEM = msgspec.json.Decoder(_Item)


def entry_of(record: bytes) -> Entry:
    """Tell what an item says: neither when, nor under which id. An answer may be nothing but calls of tools."""
    item = parse(ITEM, record)
    message = item.message
    if message is None:
        cwd, model = path_of(item.workspace_directory), item.chat_model_title
        return Entry(title=named(item.title), cwd=cwd, model=model or None)
    logs = item.prompt_logs or []
    logged = next(filter(None, (log.title or (log.options.model if log.options else None) for log in logs)), None)
    called = ROLES.get(message.role) if message.tool_calls else None
    return Entry(
        role=called or speaker(message.role, message.content, silent=("thinking",)),
        model=(message.usage.model if message.usage else None) or logged,
        unknown=unheard(message.role, KNOWN),
    )


def named(title: str | None) -> str | None:
    """Tell a title from what stands in for one."""
    return None if title in UNNAMED else title
