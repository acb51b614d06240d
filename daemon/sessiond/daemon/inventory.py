"""The inventory: every file below the roots and how it looked when it was read, so that a look finds what changed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sessiond.daemon.backlog import RECENT_MS, Entry, Rank
from sessiond.ingest import Index
from sessiond.spool import Spool

Stamp = int
"""A hash of what stat tells with the size below it: the numbers themselves would take five times the memory."""
Settled = dict[str, Stamp]
"""What was read, or is queued to be read, by its path."""

_SIZE_BITS = 44


class Change(NamedTuple):
    """A file that looks otherwise than it did."""

    path: str
    mtime_ns: int
    stamp: Stamp


def stamp(ino: int, size: int, mtime_ns: int, ctime_ns: int) -> Stamp:
    """Make the stamp of a file."""
    return hash((ino, size, mtime_ns, ctime_ns)) << _SIZE_BITS | size


def size_of(made: Stamp) -> int:
    """Tell the size in a stamp."""
    return made & ((1 << _SIZE_BITS) - 1)


def recall(spool: Spool) -> Settled:
    """Take over from the spool what was read before this start; what did not change since is not read."""
    with spool.reading():
        return {
            path: stamp(point.ino, point.size, point.mtime_ns, point.ctime_ns)
            for path, point in spool.catalog.checkpoints()
        }


def count(settled: Settled, places: Index) -> tuple[dict[str, int], int]:
    """Count the units of each tool, and the bytes of all their files."""
    units, parts, size = Counter[str](), set[tuple[str, str]](), 0
    for path, made in settled.items():
        mine = False
        for source, root, relative, unit in places.units(path):
            mine = True
            if not unit.path or unit.path == relative:
                units[source.tool] += 1
            elif (whole := os.path.join(root.path, unit.path)) not in settled:  # a folder, of which this is one file
                parts.add((source.tool, whole))
        size += size_of(made) if mine else 0
    units.update(tool for tool, _ in parts)
    return dict(units), size


def entries(
    changed: Iterable[Change], settled: Mapping[str, Stamp], places: Index, now_ms: int, due: Mapping[str, int]
) -> Iterable[Entry]:
    """Make of changed files what is to be read; a folder's thousand files are one.

    What its tool may delete soon (`due`: since when it was not changed, in unix ms, by tool) waits for nothing either.
    """
    found, recent_ns = dict[str, Entry](), (now_ms - RECENT_MS) * 1_000_000
    for path, mtime_ns, made in changed:
        before = settled.get(path)
        for unit, tool in {place.path: place.source.tool for place in places(path)}.items():
            known = before is not None or unit in settled
            urgent = mtime_ns >= recent_ns or mtime_ns < due.get(tool, 0) * 1_000_000
            rank = Rank.CHANGED if known else Rank.RECENT if urgent else Rank.OLD
            size = max(0, size_of(made) - (0 if before is None else size_of(before)))
            other = found.get(unit, Entry(rank, mtime_ns, unit, 0))
            found[unit] = Entry(max(rank, other.rank), max(mtime_ns, other.mtime_ns), unit, size + other.size)
    return found.values()


def forget_below(settled: Settled, directory: str) -> list[str]:
    """Remove and return the paths below a directory that is gone: its name stands for all of them."""
    prefix = directory + "/"
    gone = [path for path in settled if path.startswith(prefix)]
    for path in gone:
        del settled[path]
    return gone
