"""A connection to PostgreSQL with the methods of `Database`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, LiteralString

import psycopg
from psycopg.adapt import Buffer
from psycopg.types.string import StrDumper

_PARAMETER = re.compile(r"\?|(?<!:):([a-z_]+)|\buser\b")


@lru_cache(maxsize=512)
def translate(sql: str) -> LiteralString:
    """Return a statement of the common SQL for psycopg. `user` is a reserved word in PostgreSQL, so it is quoted."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "?":
            return "%s"
        return '"user"' if match[1] is None else f"%({match[1]})s"

    return _PARAMETER.sub(replace, sql)


class TextDumper(StrDumper):
    """Passes text to PostgreSQL, which can't store U+0000. No name that is stored has it, so nothing matches it."""

    def dump(self, obj: str) -> Buffer | None:
        """Return the text in UTF-8."""
        return super().dump(obj.replace("\0", "\ufffd"))


class PostgresDatabase:
    """A connection in a transaction."""

    for_update = " FOR UPDATE"

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Any = (), /) -> psycopg.Cursor[Any]:
        """Run a statement."""
        return self._connection.execute(translate(sql), parameters, binary=True)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> None:
        """Run a statement for each row of parameters, without waiting for each."""
        rows = list(parameters)
        if rows:
            with self._connection.cursor(binary=True) as cursor:
                cursor.executemany(translate(sql), rows)

    def join_keys(self, columns: Sequence[str]) -> str:
        """Return a table of keys for the FROM of a statement. Each column is passed as an array."""
        arrays = ", ".join("?::text[]" for _ in columns)
        return f"unnest({arrays}) AS k({', '.join(columns)})"

    def key_parameters(self, rows: Sequence[Sequence[str]], /) -> Sequence[list[str]]:
        """Return the parameters of `join_keys` for these rows."""
        return [list(column) for column in zip(*rows, strict=True)]

    def new_streams(self, count: int, /) -> list[int]:
        """Return `count` numbers for new streams."""
        return [row[0] for row in self.execute("SELECT nextval('stream_numbers') FROM generate_series(1, ?)", (count,))]


def lock_key(*name: str) -> int:
    """Return the number of the advisory lock for a name."""
    return int.from_bytes(hashlib.blake2b("\0".join(name).encode(), digest_size=8).digest(), signed=True)
