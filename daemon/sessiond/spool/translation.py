"""Turns SQLite's errors into sessiond's."""

from __future__ import annotations

import sqlite3

from sessiond.errors import SpoolDamaged, StateError, StateFull
from sessiond.spool.fair_lock import FairLock

TYPE_CHECKING = False  # as in `typing`, which is not imported for it: `status` imports this
if TYPE_CHECKING:
    from typing import NoReturn

_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class _ErrorTranslation:
    """Turns SQLite's errors into sessiond's. A class, since a generator would be slow for every statement."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Translate an error of SQLite. Raises: SpoolDamaged, StateFull, StateError."""
        if isinstance(error, sqlite3.DatabaseError):
            _translate(error)


_ERROR_TRANSLATION = _ErrorTranslation()


class ConnectionLock(FairLock):
    """The lock of a connection. While it is held, SQLite's errors become sessiond's."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Release the lock, and translate an error of SQLite. Raises: SpoolDamaged, StateFull, StateError."""
        super().__exit__(kind, error, trace)
        if isinstance(error, sqlite3.DatabaseError):
            _translate(error)


def _translate(error: sqlite3.DatabaseError) -> NoReturn:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGED:
        raise SpoolDamaged(f"the spool is damaged: {error}") from error
    if code in _FULL:
        raise StateFull(f"the spool can't be written: {error}", hint="free some disk space") from error
    raise StateError(f"the spool can't be used: {error}") from error


def translated() -> _ErrorTranslation:
    """Return a context in which SQLite's errors become sessiond's. It and `ConnectionLock` are the only such border."""
    return _ERROR_TRANSLATION
