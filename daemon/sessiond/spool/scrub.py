"""Removes erased data from the spool's files: from free pages and from the write-ahead log."""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`; the spool imports this module
if TYPE_CHECKING:
    from sessiond.spool import Spool

DUE = "scrub"
"""Meta key, set by `Spool.erasing` in its transaction: `scrub` has to follow, also after a kill."""


def scrub(spool: Spool) -> bool:
    """Remove erased data from the files; return False if another process still reads the log, which keeps it.

    Raises: StateError, StateFull, SpoolDamaged.
    """
    if spool.meta(DUE) is None:
        return True
    with spool.reading():
        # Free pages have the segments that were acknowledged earlier. Nothing has overwritten these.
        spool.connection.executescript("PRAGMA incremental_vacuum;")
        busy = spool.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if not busy:
        spool.set_meta(DUE, None)
    return not busy
