"""A tool's SQLite file, opened for one short look: never written, never locked for longer than a SELECT (rule 6)."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from sessiond.errors import ReadError, Torn

_LOCKED: Counter[tuple[int, int]] = Counter()
"""Open connections of this process that lock their file, by its device and inode."""
_GUARD = threading.Lock()


class Database:
    """An SQLite file of a tool's, opened read-only for one short look.

    Rule 6: never written, never locked for longer than a SELECT, never `immutable` on a live store (it
    would miss the -wal). But SQLite makes an empty -wal beside a closed store in WAL mode, even to read it: such
    a store is read as immutable, and if a writer comes meanwhile, what was read counts for nothing.
    """

    def __init__(self, path: str, marks: Mapping[str, str], *, thorough: bool) -> None:
        self.marks = marks
        """What was listed at the last look: native id and watermark of each session."""
        self.thorough = thorough
        """Whether every row may be looked at, however long that takes."""
        self._path = path
        with _GUARD:  # from the look at the header until the new connection counts as one that locks
            found = os.stat(path)
            self._key = found.st_dev, found.st_ino
            self._closed = self._look() if self._is_closed() else None
            self._connection = self._open()
            self._locks = self._closed is None
            _LOCKED[self._key] += self._locks

    def _is_closed(self) -> bool:
        """Return whether it is in WAL mode (bytes 18 and 19 of the file are 2) and no connection has it open."""
        # Closing the header would drop the locks of our other connections to the file (see sqlite_files).
        if _LOCKED[self._key] or os.path.exists(f"{self._path}-wal"):
            return False
        with open(self._path, "rb") as file:
            return file.read(20)[18:] == b"\2\2"

    def _look(self) -> tuple[object, ...]:
        found = os.stat(self._path)
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, os.path.exists(f"{self._path}-wal")

    def _open(self) -> sqlite3.Connection:
        quoted = "file:" + "".join(
            c if c.isalnum() or c in "/-_.~" else "".join(f"%{byte:02X}" for byte in os.fsencode(c)) for c in self._path
        )
        mode = "?mode=ro" if self._closed is None else "?mode=ro&immutable=1"
        connection = sqlite3.connect(quoted + mode, uri=True, isolation_level=None, timeout=1.0)
        connection.execute("PRAGMA query_only = 1")
        return connection

    def rows(self, sql: str, *parameters: object) -> Iterator[tuple[Any, ...]]:
        """Run one SELECT. Raises: Torn where the database is busy, ReadError where SQLite can't read it."""
        try:
            # `yield from` would close the cursor of a closed connection, where nobody went through all rows.
            for row in self._connection.execute(sql, parameters):  # noqa: UP028
                yield row
        except sqlite3.OperationalError as error:
            raise Torn(f"the database can't be read now: {error}") from error
        except sqlite3.DatabaseError as error:
            if self._closed is None or self._closed == self._look():
                raise ReadError(f"the database can't be read: {error}") from error
        if self._closed is not None and self._closed != self._look():
            raise Torn("the database was opened by its tool meanwhile")

    def has(self, table: str, *columns: str) -> bool:
        """Tell whether the table exists and has these columns."""
        known = {row[1] for row in self.rows(f'PRAGMA table_info("{table}")')}
        return bool(known) and known.issuperset(columns)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        with _GUARD:
            _LOCKED[self._key] -= self._locks
            self._locks = False
            if not _LOCKED[self._key]:
                del _LOCKED[self._key]


def open_database(path: str, marks: Mapping[str, str] = MappingProxyType({}), *, thorough: bool = True) -> Database:
    """Open a tool's database. Raises: ReadError where it is none."""
    try:
        return Database(path, marks, thorough=thorough)
    except (sqlite3.Error, PermissionError) as error:
        raise ReadError(f"the database can't be opened: {error}") from error
