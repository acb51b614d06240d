"""Divides a window of many places into parts of whole records, so that a dense record costs no other one its text."""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from itertools import pairwise

import msgspec

from sessiond.redact.scanner import Hits

SIZE = 16384
"""Bytes up to which short records share a part: each part takes a little work of its own."""
_RECORD = re.compile(rb"\n(?=\{)")


class Part(msgspec.Struct, frozen=True, gc=False):
    """Whole records of a window, and the hits in them by the index of their trigger."""

    low: int
    high: int
    hits: dict[int, Hits]


def part_ranges(data: bytes, low: int, high: int) -> list[tuple[int, int]]:
    """Return where the parts of a window begin and end. A record of `SIZE` bytes is a part of its own."""
    records = [found.end() for found in _RECORD.finditer(data, low, min(high + 1, len(data))) if found.end() < high]
    starts = [low]
    for record, end in pairwise([*records, high]):
        if max(record - starts[-1], end - record) >= SIZE:
            starts.append(record)
    return [*pairwise([*starts, high])]


def divide(data: bytes, low: int, high: int, hits: dict[int, Hits]) -> list[Part]:
    """Return the parts of a window that have hits, those with the fewest first.

    A rule matches within one record, and so does its trigger. So a mark belongs to the records of its last byte.
    """
    ranges = part_ranges(data, low, high)
    starts = [start for start, _ in ranges]
    marks: defaultdict[int, dict[int, list[int]]] = defaultdict(dict)
    for index, hit in hits.items():
        for mark in hit.marks:
            number = max(bisect.bisect_right(starts, mark - hit.ends) - 1, 0)
            marks[number].setdefault(index, []).append(mark)
    found = [
        Part(*ranges[number], {n: _with(hits[n], some) for n, some in inner.items()}) for number, inner in marks.items()
    ]
    return sorted(found, key=lambda part: sum(len(hit.marks) for hit in part.hits.values()))


def _with(hit: Hits, marks: list[int]) -> Hits:
    return msgspec.structs.replace(hit, marks=marks)
