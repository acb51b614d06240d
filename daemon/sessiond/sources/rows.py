"""Reads a tool's database: lists sessions without reading every row, and selects columns that a version may lack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from sessiond.errors import ReadError, Torn

UNREADABLE = ""
"""The watermark of a session that can't be measured. It is never stored, so the session is tried at each listing."""


class Rows(Protocol):
    """A tool's database, opened read-only (see database.Database)."""

    @property
    def marks(self) -> Mapping[str, str]:
        """The previous listing: the watermark of each native id. Empty at the first listing."""
        ...

    @property
    def thorough(self) -> bool:
        """Whether this listing may read every row, however long that takes: the first one, then one a day."""
        ...

    def rows(self, sql: str, *parameters: object) -> Iterator[tuple[Any, ...]]:
        """Run one SELECT."""
        ...

    def has(self, table: str, *columns: str) -> bool:
        """Return whether the table exists and has these columns: schemas differ between versions."""
        ...


def list_with_watermarks(database: Rows, cheap: str, costly: str) -> Iterator[tuple[str, str]]:
    """Iterate over (native id, watermark), where only one part of the watermark is cheap for all sessions.

    `cheap` is a SELECT of each session's native id, the cheap part, and whether rows may change without changing it.
    `costly` is a SELECT of the other part for one native id. It runs where the cheap part changed, where rows may
    have changed unseen, and for all sessions in a thorough listing.
    """
    for native_id, head, uncertain in list(database.rows(cheap)):
        previous = database.marks.get(native_id, "")
        if not (uncertain or database.thorough) and previous.startswith(f"{head} | "):
            yield native_id, previous
            continue
        yield native_id, readable_watermark(database, f"{head} | {{}}", costly, native_id)


def readable_watermark(database: Rows, form: str, sql: str, *parameters: object) -> str:
    """Return `form` filled with the one row of a SELECT; UNREADABLE if it needs a damaged page.

    One damaged page must not hide the sessions that come after it in the listing.
    Raises: Torn if the database is busy.
    """
    try:
        ((*values,),) = database.rows(sql, *parameters)
    except Torn:
        raise
    except ReadError:
        return UNREADABLE
    return form.format(*values)


def surviving_ids(database: Rows, table: str, column: str) -> Iterator[str]:
    """Iterate over the native ids in a column of a damaged database, some of them repeatedly.

    An index may be whole where the table is not, and the table can be read from both ends up to the damage.
    Raises: Torn if the database is busy.
    """
    for clauses in "", "NOT INDEXED ORDER BY rowid", "NOT INDEXED ORDER BY rowid DESC":
        try:
            for (native_id,) in database.rows(f"SELECT {column} FROM {table} {clauses}"):  # noqa: S608 - our own names
                yield str(native_id)
        except Torn:
            raise
        except ReadError:
            continue


def select(
    database: Rows, table: str, columns: Sequence[str], clauses: str, *parameters: object
) -> Iterator[dict[str, Any]]:
    """Iterate over rows as dictionaries with these columns in this order; None for a column that the table lacks."""
    existing = columns if database.has(table, *columns) else [name for name in columns if database.has(table, name)]
    if existing:
        sql = f"SELECT {', '.join(existing)} FROM {table} {clauses}"  # noqa: S608 - constants of the source
        for row in database.rows(sql, *parameters):
            yield dict.fromkeys(columns) | dict(zip(existing, row, strict=True))


def columns(names: str) -> tuple[str, ...]:
    """Return the names of columns, which are separated by spaces."""
    return tuple(names.split())


def column_or(database: Rows, table: str, name: str, expression: str = "", missing: str = "NULL") -> str:
    """Return the SQL for a column that some versions lack: `expression` (or the name), else `missing`."""
    return (expression or name) if database.has(table, name) else missing


def as_json(value: str | bytes | None) -> msgspec.Raw | None:
    """Return a column that holds JSON, on one line, to embed in a record.

    The JSON is not parsed: a damaged value is uploaded as it is and counted when the record is decoded.
    """
    return msgspec.Raw(as_line(value)) if value else None


def as_line(value: str | bytes) -> bytes:
    """Return a column that holds JSON on one line, as a record."""
    return as_bytes(value).replace(b"\n", b" ")


def as_bytes(value: str | bytes) -> bytes:
    """Return a text column as UTF-8, whether it was stored as TEXT or BLOB. Raises: TypeError for a number."""
    # memoryview rejects a number; bytes(value) would return that many zero bytes.
    return value.encode("utf-8", "replace") if isinstance(value, str) else bytes(memoryview(value))
