"""The first prompt of a session, which names a session without a title."""

from __future__ import annotations

from sessiond.session import Entry, ItemKind, Speaker
from sessiond.sources.base import ANYTHING, Source
from sessiond.sources.memory import Memory
from sessiond.sources.records import parse

LONGEST = 16 << 10
"""Characters that are kept until the prompt is masked. It is shortened after that, or half a secret would stay."""


def first_prompt(source: Source, record: bytes, entry: Entry, memory: Memory) -> str | None:
    """Return the text that the user wrote in a record; None if it has none."""
    for item in source.items(parse(ANYTHING, record), entry, dict(memory)):
        if item.kind is ItemKind.MESSAGE and item.speaker is Speaker.USER and not item.injected and item.text.strip():
            return item.text[:LONGEST]
    return None
