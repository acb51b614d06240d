"""Finds what the stub of a model has answered in a tool's files, whatever their form: JSON, a database, or text."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

import msgspec

ANSWER = re.compile("Stub (?:final )?answer|Hello from the stub model")
"""What each answer of stub.py and stub_b.py begins with. A file with it has a part of a session."""
ANSWER_BYTES = re.compile(ANSWER.pattern.encode())
DATABASE = b"SQLite format 3\0"
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
INDEXES = "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%'"


def has_answer(content: bytes) -> bool:
    """Return whether a file has an answer, or a part of one."""
    return ANSWER_BYTES.search(content) is not None


def answers(content: bytes, path: str = "") -> set[str]:
    """Return all texts with an answer: strings in JSON, also if JSON is in them, and lines of text.

    A database is read at its `path`, because a part of it may be in its -wal.
    """
    if path and content.startswith(DATABASE):
        return {text for value in _values(path) for text in _texts(value)}
    try:
        return set(_strings(msgspec.json.decode(content)))
    except msgspec.DecodeError:
        return {text for line in content.split(b"\n") for text in _texts(line)}


def lost_answers(path: str, kept: Collection[str]) -> set[str]:
    """Return the texts of a file that are no part of any kept one."""
    found = answers(Path(path).read_bytes(), path)
    return {text for text in found if not any(text in each for each in kept)}


def _texts(value: bytes) -> Iterator[str]:
    """Iterate over the texts with an answer in JSON or in plain text."""
    if has_answer(value):
        try:
            yield from _strings(msgspec.json.decode(value))
        except msgspec.DecodeError:
            yield value.decode(errors="replace")


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if ANSWER.search(value):
            inner = _decoded(value)
            yield from [value] if inner is None else _strings(inner)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _strings(name)
            yield from _strings(each)


def _decoded(text: str) -> object:
    """Return the object or list that a text is the JSON of; None if it is none."""
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, dict | list) else None


def _values(path: str) -> Iterator[bytes]:
    """Iterate over the texts and blobs of a database, without those of its indexes of texts."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        indexes = tuple(f"{name}_" for (name,) in database.execute(INDEXES))
        for (table,) in database.execute(TABLES).fetchall():
            if table.startswith(indexes):
                continue
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    if isinstance(value, str):
                        yield value.encode(errors="replace")
                    elif isinstance(value, bytes):
                        yield value
