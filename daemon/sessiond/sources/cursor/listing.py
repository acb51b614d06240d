"""Which composers there are in a database of Cursor's editor that may hold millions of rows."""

from __future__ import annotations

from collections.abc import Iterator

from sessiond.sources.base import Rows
from sessiond.sources.cursor.items import place_mark

RECENT = 8
"""Sessions whose rows are measured at each look, in case that a row was changed without being written anew; all the
others are once a day."""
NAMES = "SELECT substr(key, 14) FROM cursorDiskKV WHERE key > 'composerData:' AND key < 'composerData;'"
OWN = "SELECT rowid, length(value) FROM cursorDiskKV WHERE key = ? AND value IS NOT NULL"
BUBBLES = "SELECT max(rowid), count(*), sum(length(value)) FROM cursorDiskKV WHERE key > ? AND key < ?"


def list_composers(database: Rows) -> Iterator[tuple[str, str]]:
    """List composers by the index of their keys, and look at the rows of those that were written since the last look.

    A row that is written again gets a new rowid, the largest (`UNIQUE ON CONFLICT REPLACE`); so of millions of
    bubbles only the new ones are read.
    """
    past = {name: mark for name, mark in database.marks.items() if mark.startswith("row ") and not database.thorough}
    since = max((int(mark.split()[1]) for mark in past.values()), default=0)
    ((newest,),) = database.rows("SELECT max(rowid) FROM cursorDiskKV")
    if (newest or 0) < since:
        past, since = {}, 0  # a VACUUM numbers all rows anew
    written = _written(database, since) if past else set()
    written |= set(sorted(past, key=lambda name: int(past[name].split()[1]))[-RECENT:])
    for (name,) in list(database.rows(NAMES)):
        if name in past and name not in written:
            yield name, past[name]
            continue
        for row, size in database.rows(OWN, f"composerData:{name}"):
            ((last, count, sizes),) = database.rows(BUBBLES, f"bubbleId:{name}:", f"bubbleId:{name};")
            yield name, f"row {max(row, last or 0)} {count} {size} {sizes} {place_mark(database, name)}"


def _written(database: Rows, since: int) -> set[str]:
    rows = database.rows("SELECT key FROM cursorDiskKV WHERE rowid > ?", since)
    return {key.split(":")[1] for (key,) in rows if key.startswith(("composerData:", "bubbleId:"))}
