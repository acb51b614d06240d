"""The spool gives back what a pushed backlog leaves behind."""

from __future__ import annotations

from pathlib import Path

from support.harness import daemon_harness


def test_a_pushed_backlog_leaves_no_large_file(tmp_path: Path) -> None:
    """Thousands of free pages go back to the disk at once, not one with each push."""
    with daemon_harness(tmp_path) as harness:
        spool = harness.spool
        with spool.transaction():
            spool.connection.execute("CREATE TABLE filler (data BLOB)")
            spool.connection.executemany("INSERT INTO filler VALUES (zeroblob(1000000))", [()] * 40)
        with spool.transaction():
            spool.connection.execute("DROP TABLE filler")
        before = spool.connection.execute("PRAGMA freelist_count").fetchone()[0]
        spool.shrink()
        after = spool.connection.execute("PRAGMA freelist_count").fetchone()[0]
        assert before > 8192
        assert before - after == 4096
