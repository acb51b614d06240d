"""Opening a database beside other connections."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from sessiond.sqlite_files import use_write_ahead_log


def opened(path: Path) -> sqlite3.Connection:
    """Open a database without SQLite's own timeout."""
    return sqlite3.connect(path, isolation_level=None, timeout=0)


def test_the_write_ahead_log_waits_for_another_connection(tmp_path: Path) -> None:
    """Two processes that open a new database at once both get it. SQLite itself does not wait here."""
    with contextlib.closing(opened(tmp_path / "x.db")) as other, contextlib.closing(opened(tmp_path / "x.db")) as db:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE t (x)")
        waited: list[float] = []

        def commit(seconds: float) -> None:
            waited.append(seconds)
            other.execute("COMMIT")

        use_write_ahead_log(db, 60, commit)
        assert len(waited) == 1
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_wait_for_another_connection_ends(tmp_path: Path) -> None:
    """A connection that never lets go is an error of the one that waits, not a hang."""
    with contextlib.closing(opened(tmp_path / "x.db")) as other, contextlib.closing(opened(tmp_path / "x.db")) as db:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            use_write_ahead_log(db, 0)
