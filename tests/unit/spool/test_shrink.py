"""The spool gives back what a pushed backlog leaves behind."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from sessiond.spool import COUNTED_FROM, MANY_PAGES
from support.harness import DaemonHarness, daemon_harness


def pages(harness: DaemonHarness) -> int:
    """Return the count of free pages in the spool."""
    return int(harness.spool.connection.execute("PRAGMA freelist_count").fetchone()[0])


def test_a_pushed_backlog_leaves_no_large_file(tmp_path: Path) -> None:
    """Thousands of free pages go back to the disk at once, not one with each push."""
    with daemon_harness(tmp_path) as harness:
        spool = harness.spool
        with spool.transaction():
            spool.connection.execute("CREATE TABLE filler (data BLOB)")
            spool.connection.executemany("INSERT INTO filler VALUES (zeroblob(1000000))", [()] * 40)
        with spool.transaction():
            spool.connection.execute("DROP TABLE filler")
        free = [pages(harness)]
        assert free[0] > MANY_PAGES
        for removed in (1 << 20, 0, 0):  # a line that is pushed later goes on with it
            spool.shrink(removed)
            free.append(pages(harness))
        assert [before - after for before, after in pairwise(free)] == [4096, 4096 if free[1] > MANY_PAGES else 0, 0]


def test_the_pages_that_a_line_leaves_are_not_counted(tmp_path: Path) -> None:
    """Once what an earlier run left was looked at."""
    with daemon_harness(tmp_path) as harness:
        statements: list[str] = []
        harness.spool.shrink(0)
        harness.spool.connection.set_trace_callback(statements.append)
        harness.spool.shrink(COUNTED_FROM - 1)
        assert not statements
        harness.spool.shrink(COUNTED_FROM)
        assert statements
