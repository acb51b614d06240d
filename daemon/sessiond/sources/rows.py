"""A tool's database as a source sees it: how its sessions are listed without a look at every row, and how rows are
selected whose columns differ between versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec


class Rows(Protocol):
    """A database of a tool, opened read-only (database.Database)."""

    @property
    def marks(self) -> Mapping[str, str]:
        """What was listed at the last look: native id and watermark of each session; empty at the first."""
        ...

    @property
    def thorough(self) -> bool:
        """Whether every row may be looked at, however long that takes: at the first look, then once a day."""
        ...

    def rows(self, sql: str, *parameters: object) -> Iterator[tuple[Any, ...]]:
        """Run one SELECT."""
        ...

    def has(self, table: str, *columns: str) -> bool:
        """Tell whether the table exists and has these columns: layouts differ between versions."""
        ...


def listed(database: Rows, heads: str, rest: str) -> Iterator[tuple[str, str]]:
    """List sessions with watermarks of two parts: one that is cheap to ask for all, one that costs their rows.

    `heads` is a SELECT of each session's native id, the cheap part, and whether its rows may change without moving
    that; `rest` is a SELECT of the other part of one native id. It is asked where the cheap one moved.
    """
    for native_id, head, restless in list(database.rows(heads)):
        past = database.marks.get(native_id, "")
        if not (restless or database.thorough) and past.startswith(f"{head} | "):
            yield native_id, past
            continue
        for (found,) in database.rows(rest, native_id):
            yield native_id, f"{head} | {found}"


def select(
    database: Rows, table: str, columns: Sequence[str], rest: str, *parameters: object
) -> Iterator[dict[str, Any]]:
    """Select rows as objects with these columns, in their order; None for one that this version's table lacks."""
    there = columns if database.has(table, *columns) else [name for name in columns if database.has(table, name)]
    if there:
        sql = f"SELECT {', '.join(there)} FROM {table} {rest}"  # noqa: S608 - all of a source's own names
        for row in database.rows(sql, *parameters):
            yield dict.fromkeys(columns) | dict(zip(there, row, strict=True))


def column(database: Rows, table: str, name: str, there: str = "", missing: str = "NULL") -> str:
    """Tell in SQL how a column is asked for that not every version of a tool has: by its name, or as `there` says."""
    return (there or name) if database.has(table, name) else missing


def as_json(value: str | bytes | None) -> msgspec.Raw | None:
    """Take a column that holds JSON into a record as it stands, on one line; a damaged one is carried (rule 10)."""
    return msgspec.Raw(as_line(value)) if value else None


def as_line(value: str | bytes) -> bytes:
    """Take a column that holds JSON for a record, likewise."""
    return as_bytes(value).replace(b"\n", b" ")


def as_bytes(value: str | bytes) -> bytes:
    """Take a column that holds text, whichever type it was stored as; a number is a cell that is odd: TypeError."""
    # Not bytes(value): of a number that would be as many zeros.
    return value.encode("utf-8", "replace") if isinstance(value, str) else bytes(memoryview(value))
