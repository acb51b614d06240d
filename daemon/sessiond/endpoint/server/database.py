"""The SQL that the stores have in common: a connection with a dialect.

Statements are written in the part of SQL that SQLite and PostgreSQL share, with `?` or `:name` for parameters. What
differs is a method of the connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol


class Rows(Protocol):
    """The rows that a statement returns."""

    @property
    def rowcount(self) -> int:
        """The number of rows that the statement changed."""

    def fetchone(self) -> Any:
        """Return the next row; None if there is none."""

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows that are left."""


class Database(Protocol):
    """A connection in a transaction."""

    for_update: str
    """The clause at the end of a SELECT that locks its rows until the transaction ends; "" if no lock is needed."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Rows:
        """Run a statement."""

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> object:
        """Run a statement for each row of parameters."""

    def join_keys(self, columns: Sequence[str]) -> str:
        """Return a table `k` for the FROM of a statement, with these columns of text and the number of the row, `i`.

        Its rows are passed as `key_parameters`.
        """

    def key_parameters(self, rows: Sequence[Sequence[str]], /) -> Sequence[Any]:
        """Return the parameters of `join_keys` for these rows."""

    def new_streams(self, count: int, /) -> list[int]:
        """Return `count` numbers for new streams. No number is ever used for two streams."""


def placeholders(count: int) -> str:
    """Return parameters for a list of `count` values."""
    return ", ".join("?" * count)
