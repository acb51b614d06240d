"""A budget of work, so that no text costs many times as much as ordinary text.

A scanner reports places where a secret may begin, and each of them is then confirmed by its rule. Ordinary text has one
such place in some ten thousand bytes; text that was made to be slow has one in each ten. So the work of confirming is
counted, in units of a few microseconds. It is counted and not timed, so that the same text is always masked alike.
Where the budget of a window is used up, its places are not examined further: the window is masked as a whole.
"""

from __future__ import annotations

WINDOW = 1 << 18
"""Bytes that have a common budget: whole records, or a part of a longer one."""
OVERLAP_OF_WINDOWS = 4096
"""Bytes before a window that are scanned again, since a trigger may be matched across its beginning."""
FREE = 8000
"""Units that any text may take: they confirm about a hundred secrets close together."""
BYTES_OF_A_UNIT = 1024
"""Bytes of text for each further unit."""
HIT, GLANCE = 3, 1
"""What a place that a scanner reports counts, and what one where a glance at the value is mostly enough counts."""
FREE_HITS = 1024 * HIT
"""What the places in any text may count."""
HITS_OF_A_PART = 8 * HIT
"""What the places in a part of a window may count where the window has too many of them."""
BYTES_OF_A_HIT = 2048
"""Bytes of text for each further place. Ordinary text has one in ten thousand bytes."""


class OverBudgetError(Exception):
    """The work that a window may take is used up."""


class Budget:
    """The units of work that are left, and what the places that are reported may count."""

    __slots__ = ("hits", "left")

    def __init__(self, free: int = FREE, hits: int = FREE_HITS) -> None:
        self.left = free
        self.hits = hits

    def earn(self, size: int) -> None:
        """Add the units that a text of `size` bytes may take, and the places that may be reported in it."""
        self.left += size // BYTES_OF_A_UNIT + 1
        self.hits += HIT * (size // BYTES_OF_A_HIT + 1)

    def report(self, hits: int) -> None:
        """Subtract what reported places count. Raises: OverBudgetError if that is more than is left."""
        self.hits -= hits
        if self.hits < 0:
            self.hits = 0
            raise OverBudgetError

    def spend(self, units: int) -> None:
        """Subtract units. Raises: OverBudgetError if there are no more of them."""
        self.left -= units
        if self.left < 0:
            self.left = 0
            raise OverBudgetError


def windows(data: bytes) -> list[tuple[int, int]]:
    """Divide a text into windows of whole records; a longer record is divided as well."""
    if len(data) <= WINDOW:
        return [(0, len(data))] if data else []
    found: list[tuple[int, int]] = []
    low = 0
    while low < len(data):
        high = low + WINDOW
        if low and data[low - 1] != 0x0A:  # inside of a record: the rest of it is a window of its own
            high = data.find(b"\n{", low, high + 2) + 1 or high
        elif high < len(data):
            high = data.rfind(b"\n{", low + 1, high + 2) + 1 or high
        found.append((low, min(high, len(data))))
        low = high
    return found
