"""The inventory: every file below the roots and how it looked when it was read, so that a look finds what changed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sessiond.daemon.backlog import RECENT_MS, Entry, Rank
from sessiond.ingest import Index
from sessiond.spool import Spool

Fingerprint = int
"""A hash of what stat tells with the size below it: the numbers themselves would take five times the memory."""
Inventory = dict[str, Fingerprint]
"""What was read, or is queued to be read, by its path."""

_SIZE_BITS = 44


class Change(NamedTuple):
    """A file that looks otherwise than it did."""

    path: str
    mtime_ns: int
    fingerprint: Fingerprint


def make_fingerprint(ino: int, size: int, mtime_ns: int, ctime_ns: int) -> Fingerprint:
    """Make the stamp of a file."""
    return hash((ino, size, mtime_ns, ctime_ns)) << _SIZE_BITS | size


def fingerprint_size(made: Fingerprint) -> int:
    """Tell the size in a stamp."""
    return made & ((1 << _SIZE_BITS) - 1)


def load_inventory(spool: Spool) -> Inventory:
    """Take over from the spool what was read before this start; what did not change since is not read."""
    with spool.reading():
        return {
            path: make_fingerprint(point.ino, point.size, point.mtime_ns, point.ctime_ns)
            for path, point in spool.catalog.checkpoints()
        }


def count(inventory: Inventory, places: Index) -> tuple[dict[str, int], int]:
    """Count the units of each tool, and the bytes of all their files."""
    units, parts, size = Counter[str](), set[tuple[str, str]](), 0
    for path, made in inventory.items():
        mine = False
        for source, root, relative, unit in places.units(path):
            mine = True
            if not unit.path or unit.path == relative:
                units[source.tool] += 1
            elif (whole := os.path.join(root.path, unit.path)) not in inventory:  # a folder, of which this is one file
                parts.add((source.tool, whole))
        size += fingerprint_size(made) if mine else 0
    units.update(tool for tool, _ in parts)
    return dict(units), size


def entries(
    changed: Iterable[Change], inventory: Mapping[str, Fingerprint], places: Index, now_ms: int, due: Mapping[str, int]
) -> Iterable[Entry]:
    """Make of changed files what is to be read; a folder's thousand files are one.

    What its tool may delete soon (`due`: since when it was not changed, in unix ms, by tool) waits for nothing either.
    """
    found, recent_ns = dict[str, Entry](), (now_ms - RECENT_MS) * 1_000_000
    for path, mtime_ns, made in changed:
        before = inventory.get(path)
        for unit, tool in {place.path: place.source.tool for place in places(path)}.items():
            known = before is not None or unit in inventory
            urgent = mtime_ns >= recent_ns or mtime_ns < due.get(tool, 0) * 1_000_000
            rank = Rank.CHANGED if known else Rank.RECENT if urgent else Rank.OLD
            size = max(0, fingerprint_size(made) - (0 if before is None else fingerprint_size(before)))
            other = found.get(unit, Entry(rank, mtime_ns, unit, 0))
            found[unit] = Entry(max(rank, other.rank), max(mtime_ns, other.mtime_ns), unit, size + other.size)
    return found.values()


def forget_below(inventory: Inventory, directory: str) -> list[str]:
    """Remove and return the paths below a directory that is gone: its name stands for all of them."""
    prefix = directory + "/"
    gone = [path for path in inventory if path.startswith(prefix)]
    for path in gone:
        del inventory[path]
    return gone
