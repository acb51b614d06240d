"""The inventory: every file below the roots with the stat of its last read, so that a scan finds what changed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sessiond.daemon.backlog import RECENT_MS, Entry, Rank
from sessiond.ingest import Index
from sessiond.sources.base import Kind
from sessiond.spool import Spool

Fingerprint = int
"""A hash of a file's stat, with its size in the low bits. The numbers themselves would take five times the memory."""
Inventory = dict[str, Fingerprint]
"""Fingerprints of the files that were read or are queued, by path."""

OUTDATED: Fingerprint = 0
"""The fingerprint of a file that has to be read again although it is unchanged. It is queued like one never read."""

_SIZE_BITS = 44


class Change(NamedTuple):
    """A file whose stat changed."""

    path: str
    mtime_ns: int
    fingerprint: Fingerprint


def make_fingerprint(ino: int, size: int, mtime_ns: int, ctime_ns: int) -> Fingerprint:
    """Return the fingerprint of a file."""
    return hash((ino, size, mtime_ns, ctime_ns)) << _SIZE_BITS | size


def fingerprint_size(made: Fingerprint) -> int:
    """Return the file size in a fingerprint."""
    return made & ((1 << _SIZE_BITS) - 1)


def load_inventory(spool: Spool) -> Inventory:
    """Return the inventory of earlier runs from the spool, so that unchanged files are not read again."""
    with spool.reading():
        return {
            path: OUTDATED
            if point.outdated
            else make_fingerprint(point.ino, point.size, point.mtime_ns, point.ctime_ns)
            for path, point in spool.catalog.checkpoints()
        }


class Counts(NamedTuple):
    """What an inventory has."""

    units: dict[str, int]
    """The units of each tool, without its side files."""
    size: int
    """Bytes of all files."""
    unrecognized: Counter[str]
    """Files of each tool that look like sessions and that no source reads."""


def count(inventory: Inventory, index: Index) -> Counts:
    """Count the files of each tool."""
    units, parts, size, unrecognized = Counter[str](), set[tuple[str, str]](), 0, Counter[str]()
    for path, made in inventory.items():
        mine = False
        for source, root, relative, unit in index.units(path):
            mine = True
            if unit.kind is Kind.FILE:
                continue
            if not unit.path or unit.path == relative:
                units[source.tool] += 1
            elif (whole := os.path.join(root.path, unit.path)) not in inventory:  # a folder of several files
                parts.add((source.tool, whole))
        if mine:
            size += fingerprint_size(made)
        elif fingerprint_size(made):
            unrecognized.update(index.unrecognized(path))
    units.update(tool for tool, _ in parts)
    return Counts(dict(units), size, unrecognized)


def entries(
    changed: Iterable[Change], inventory: Mapping[str, Fingerprint], index: Index, now_ms: int, due: Mapping[str, int]
) -> Iterable[Entry]:
    """Return the backlog entries for changed files; the files of one folder make one entry.

    `due` has for each tool that deletes sessions the time (unix ms) before which it may delete unchanged ones soon.
    These are read at once, as recent ones are.
    """
    found, recent_ns = dict[str, Entry](), (now_ms - RECENT_MS) * 1_000_000
    for path, mtime_ns, made in changed:
        before = inventory.get(path)
        for unit, tool in {location.path: location.source.tool for location in index(path)}.items():
            known = bool(before or inventory.get(unit))
            urgent = mtime_ns >= recent_ns or mtime_ns < due.get(tool, 0) * 1_000_000
            rank = Rank.CHANGED if known else Rank.RECENT if urgent else Rank.OLD
            size = max(0, fingerprint_size(made) - (0 if before is None else fingerprint_size(before)))
            other = found.get(unit, Entry(rank, mtime_ns, unit, 0))
            found[unit] = Entry(max(rank, other.rank), max(mtime_ns, other.mtime_ns), unit, size + other.size)
    return found.values()


def forget_below(inventory: Inventory, directory: str) -> list[str]:
    """Remove and return the paths below a deleted directory."""
    prefix = directory + "/"
    gone = [path for path in inventory if path.startswith(prefix)]
    for path in gone:
        del inventory[path]
    return gone
