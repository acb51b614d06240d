"""Creates SQLite files safely. No file that SQLite has open may be opened by other means.

SQLite guards a database with POSIX locks. They belong to the process, and closing *any* descriptor of the file
drops all of them, also those of other threads ("How To Corrupt An SQLite Database File", section 2.2). The next
process to close the database then believes that it is the last one and unlinks the write-ahead log, so every later
commit goes into a deleted file. Therefore a database is created before SQLite opens it, and inspected only with `stat`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress

_CREATING = threading.Lock()
RETRY = 0.01
"""Seconds between two attempts to use the write-ahead log."""


def create_private(path: str) -> os.stat_result:
    """Create an empty file with mode 0600 if it does not exist; return its stat.

    SQLite itself would apply the umask and might make it readable by others. An existing file is never opened; if it is
    ours and others can read it, its mode becomes 0600. Links are followed, as by SQLite.

    Raises: OSError.
    """
    path = os.path.realpath(path)
    # The lock spans creation and close: no other thread may connect to the new file before its descriptor is closed.
    with _CREATING:
        try:
            found = os.stat(path)
        except FileNotFoundError:
            with suppress(FileExistsError):  # another process created it first
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            found = os.stat(path)
    if found.st_mode & 0o077 and found.st_uid == os.geteuid():
        os.chmod(path, 0o600)  # for example, after a restore from a backup
    return found


def use_write_ahead_log(db: sqlite3.Connection, patience: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Switch a database to the write-ahead log, and wait up to `patience` seconds for other connections.

    SQLite's own timeout does not apply here: while another connection switches it too, or is the last one to close it,
    the statement fails at once with SQLITE_BUSY.

    Raises: sqlite3.Error.
    """
    end = time.monotonic() + patience
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                raise
        sleep(RETRY)
