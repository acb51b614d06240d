"""Titles that a tool keeps apart from its transcripts: JSON lines, of which a session's last one has its title."""

from __future__ import annotations

import msgspec

from sessiond.sources.base import Kind, Unit
from sessiond.sources.damaged import split_records
from sessiond.sources.records import parse

TITLES = "session_index.jsonl"
"""The name of Codex's file, in the directory above its sessions."""


class _Named(msgspec.Struct):
    id: str | None = None
    thread_name: str | None = None


NAMED = msgspec.json.Decoder(_Named)


def titles_unit(relative: str) -> Unit | None:
    """Return the unit of a list of titles; None for another path."""
    return Unit(kind=Kind.TITLES) if relative == TITLES else None


def decode_title(line: bytes) -> tuple[str, str] | None:
    """Return the native id and the title in a line; None if it has not both. Raises: ValueError for a damaged line."""
    named = parse(NAMED, line)
    return (named.id, named.thread_name) if named.id and named.thread_name else None


def find_title(lines: bytes, native_id: str) -> str | None:
    """Return the last title of one session, without decoding the lines of the others."""
    at = lines.rfind(b'"%b"' % native_id.encode())
    if at < 0:
        return None
    start, end = lines.rfind(b"\n", 0, at) + 1, lines.find(b"\n", at)
    records, _ = split_records(lines[start : end if end >= 0 else len(lines)])
    named = dict(title for record in records if (title := decode_title(record)))
    return named.get(native_id)
