"""The first prompt of a session, which names a session without a title."""

from __future__ import annotations

from sessiond.session import Entry, ItemKind, Speaker
from sessiond.sources.base import ANYTHING, Source
from sessiond.sources.damaged import DAMAGED
from sessiond.sources.memory import Memory
from sessiond.sources.records import parse

LONGEST = 16 << 10
"""Characters that are kept until the prompt is masked. It is shortened after that, or half a secret would stay."""


def first_prompt(source: Source, record: bytes, entry: Entry, memory: Memory) -> str | None:
    """Return the text that the user wrote in a record; None without one, or if a field that it needs is damaged."""
    try:
        for item in source.items(parse(ANYTHING, record), entry, dict(memory)):
            prompt = item.kind is ItemKind.MESSAGE and item.speaker is Speaker.USER and not item.injected
            if prompt and item.text.strip():
                return item.text[:LONGEST]
    except DAMAGED:
        return None  # the record is captured all the same; it only names nothing
    return None
