"""Learns how large a push an endpoint accepts, so that not every batch is halved again until it fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, takewhile
from typing import TypeVar

Item = TypeVar("Item")

PROBE_AFTER = 32
"""Accepted parts after which one of twice the size is tried: the limit may have been raised, or was never one."""
FIRST_ALLOWANCE = 8
"""The number of single items that are tried if nothing of a first push is accepted."""
MOST_ALLOWANCE = 256
"""The same for a later push. It is more than a batch has, so that no item stops the others for good."""


class PushSize:
    """The size of the largest push that an endpoint accepts, estimated from its answers. The caller chooses the unit.

    An endpoint may refuse a push because of its size, because of one item in it, or because it refuses everything. The
    answers to all parts of a push together show which reason it was, so `end` evaluates them.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        """The size of a part; None: it is not known to be limited."""
        self._accepted = self._refused = self._alone = 0
        """So far in this push: the largest accepted part, the smallest larger part that was refused, refused items."""
        self._streak = 0
        self._fruitless = 0
        """The number of consecutive pushes without an accepted item."""

    def fitting(self, items: Sequence[Item], weigh: Callable[[Item], int]) -> int:
        """Return how many of the items to push next in one part: as many as may be accepted, but at least one."""
        limit = max(self._accepted, self._refused // 2) if self._refused else self.limit
        if limit is None:
            return len(items)
        sizes = accumulate(map(weigh, items))
        return max(1, sum(1 for _ in takewhile(lambda size: size <= limit, sizes)))

    @property
    def hopeless(self) -> bool:
        """Whether to stop a push: enough items were refused, each alone, and none was accepted.

        The endpoint seems to refuse everything, and trying each item would only load it. How many are enough varies
        from push to push. Now and then all items are tried, because it may object to the first ones only.
        """
        turn = self._fruitless % MOST_ALLOWANCE.bit_length()
        return not self._accepted and self._alone >= (1 << turn if self._fruitless else FIRST_ALLOWANCE)

    def accept(self, size: int) -> None:
        """Note that a part was accepted."""
        self._accepted = max(self._accepted, size)
        if self._refused <= self._accepted:
            self._refused = 0
        self._streak += 1

    def refuse(self, size: int, *, alone: bool) -> None:
        """Note that a part was refused as a whole; `alone`: it was a single item."""
        self._alone += alone
        if size > self._accepted:
            self._refused = min(self._refused or size, size)
        elif alone:
            self._refused = 0  # larger parts are accepted, so parts were refused because of this item

    def end(self) -> None:
        """Learn from a push that is over."""
        if self._refused and not self._accepted:
            self.limit = self._refused
            self._fruitless += 1
        elif self._accepted:
            self._fruitless = 0
        if self._refused:
            self._streak = 0
        if self._refused and self._accepted:
            self.limit = self._accepted
        elif self.limit is not None and self._streak >= PROBE_AFTER:
            self.limit, self._streak = self.limit * 2, 0
        self._accepted = self._refused = self._alone = 0
