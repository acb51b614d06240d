"""Labels of an item in every rendering: its author, what a call does, how a result ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from sessiond.session import Item, ItemKind, Speaker

TELLING = ("command", "cmd", "file_path", "filePath", "path", "pattern", "query", "url", "description", "prompt")
"""Arguments that say what a call does, the most telling first."""


def speaker(item: Item) -> str:
    """Return who an item is from, as a heading: the user, or the model by its name."""
    if item.speaker is Speaker.USER:
        return "You" if not item.injected else "Added by the tool"
    if item.speaker is Speaker.ASSISTANT:
        return item.model or "Assistant"
    return "Tool" if item.speaker is Speaker.TOOL else "System"


class Headings:
    """Decides where a rendering needs a heading: wherever the speaker changes, so that no words look like another's.

    A thought or a call of the model after a message of the user needs a heading too. It names the model if that has
    changed.
    """

    def __init__(self, *, after_calls: bool = False) -> None:
        """`after_calls`: what the model says after a call gets a heading of its own."""
        self._after_calls = after_calls
        self._thread = ""
        self._who = ""
        self._model: str | None = None
        self._called = False

    def heading(self, thread: str, item: Item) -> str | None:
        """Return the heading before an item of a thread; None to go on below the last one."""
        if item.kind is ItemKind.RESULT:
            return None
        if item.kind is ItemKind.NOTE:
            self._who = ""
            return None
        model = item.speaker is Speaker.ASSISTANT
        said = item.kind in (ItemKind.MESSAGE, ItemKind.SUMMARY)
        who = Speaker.ASSISTANT.value if model else speaker(item)
        same = (thread, who) == (self._thread, self._who)
        changed = model and item.model is not None and item.model != self._model
        again = said and (changed or (self._called and self._after_calls))
        if not (said or model) or (same and not again):
            self._called |= item.kind is ItemKind.CALL
            return None
        self._thread, self._who, self._called = thread, who, item.kind is ItemKind.CALL
        self._model = item.model if model else None
        return speaker(item)


def arguments(item: Item) -> Any:
    """Return the decoded arguments of a call; an empty object if it has none."""
    if item.arguments is None:
        return {}
    try:
        return msgspec.json.decode(item.arguments)
    except (ValueError, RecursionError):
        return {}


def call(item: Item) -> str:
    """Return what a call does, in one line: its most telling argument, or all of them as JSON."""
    given = arguments(item)
    if isinstance(given, Mapping):
        telling = next((given[name] for name in TELLING if isinstance(given.get(name), str) and given[name]), None)
        if telling is None and isinstance(given.get("command"), list):
            telling = " ".join(map(str, given["command"]))
        given = telling if telling is not None else given
    text = given if isinstance(given, str) else msgspec.json.encode(given).decode() if given else ""
    return " ".join(text.split())


def moment(item: Item) -> datetime | None:
    """Return when an item was written, in local time."""
    return None if item.time_ms is None else datetime.fromtimestamp(item.time_ms / 1000).astimezone()


def media(item: Item) -> str:
    """Return the images and files of an item in words; "" if it has none."""
    return ", ".join(_medium(each.type, each.size, each.name) for each in item.media)


def _medium(kind: str, size: int | None, name: str | None) -> str:
    about = [part for part in (name, kind, None if size is None else f"{size:,} bytes") if part]
    return f"[{', '.join(about)}]"


def is_shown(item: Item) -> bool:
    """Return whether a reader sees an item: usage is a sum, and empty messages say nothing."""
    return item.kind is not ItemKind.USAGE and bool(item.text.strip() or item.media or item.kind is ItemKind.CALL)
