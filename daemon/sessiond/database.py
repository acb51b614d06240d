"""Reads a tool's SQLite file. It is never written, and never locked for longer than a SELECT (rule 6)."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any

from sessiond.errors import Busy, ReadError, Torn

_LOCKED: Counter[tuple[int, int]] = Counter()
"""Open connections of this process that lock their file, by its device and inode."""
_GUARD = threading.Lock()


_UNDECODABLE = "Could not decode to UTF-8"


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "replace")


class Database:
    """A tool's SQLite file, opened read-only for a short time.

    Rule 6: it is never written, never locked for longer than a SELECT, and never opened as `immutable` while its tool
    has it open (that would miss the -wal). But even to read a closed file in WAL mode, SQLite creates an empty -wal
    beside it. Such a file is opened as immutable; if a writer opens it meanwhile, all that was read is discarded.
    """

    def __init__(self, path: str, marks: Mapping[str, str], *, thorough: bool) -> None:
        self.marks = marks
        """The watermark of each session at the last scan, by native id."""
        self.thorough = thorough
        """Whether every row may be read, however long that takes."""
        self._path = path
        with _GUARD:  # from reading the header until the new connection is counted
            found = os.stat(path)
            self._key = found.st_dev, found.st_ino
            self._closed = self._state() if self._is_closed() else None
            self._connection = self._open()
            self._locks = self._closed is None
            _LOCKED[self._key] += self._locks

    def _is_closed(self) -> bool:
        """Return whether the file is in WAL mode (bytes 18 and 19 are 2) and no connection has it open."""
        # Closing the header would drop the locks of our other connections to the file (see sqlite_files).
        if _LOCKED[self._key] or os.path.exists(f"{self._path}-wal"):
            return False
        with open(self._path, "rb") as file:
            return file.read(20)[18:] == b"\2\2"

    def _state(self) -> tuple[object, ...]:
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
        """Iterate over the rows of one SELECT. In text that is no UTF-8, U+FFFD replaces the wrong bytes.

        Raises: Busy if the database is locked, Torn if its tool opened it meanwhile, ReadError if it can't be read.
        """
        given = 0
        try:
            # If not all rows were read, `yield from` would close the cursor after the connection was closed.
            for row in self._connection.execute(sql, parameters):
                given += 1
                yield row
        except sqlite3.OperationalError as error:
            if not str(error).startswith(_UNDECODABLE):
                raise Busy(f"the database can't be read now: {error}") from error
            # SQLite's message quotes the text. Decoding by a function is slower, so it begins with the first such text.
            self._connection.text_factory = _decode
            yield from islice(self.rows(sql, *parameters), given, None)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # SQLite's message may quote what is damaged
            if self._closed is None or self._closed == self._state():
                raise ReadError(f"the database is damaged: {error}") from error
        if self._closed is not None and self._closed != self._state():
            raise Torn("the database was opened by its tool meanwhile")

    def has(self, table: str, *columns: str) -> bool:
        """Return whether the table exists and has these columns."""
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
    """Open a tool's database. Raises: ReadError if it can't be opened."""
    try:
        return Database(path, marks, thorough=thorough)
    except (sqlite3.Error, PermissionError) as error:
        raise ReadError(f"the database can't be opened: {error}") from error
