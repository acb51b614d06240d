"""A list whose values are written to a file beyond the first ones: a session of a gigabyte has half a million items."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from sessiond.transcript.texts import Span, Texts

T = TypeVar("T")
IN_MEMORY = 5000
"""Values that are kept in memory."""
_GONE = 1 << 63
"""The offset of a removed value."""


class Spilled(Generic[T]):
    """Values by number. A removed one is None, and keeps its number."""

    def __init__(
        self,
        texts: Texts | None,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
        *,
        in_memory: int | None = None,
    ) -> None:
        """`texts` has the file; None: all values stay in memory. `encode` and `decode` are those of a value.

        `in_memory` values stay in memory; None: IN_MEMORY.
        """
        self._texts, self._encode, self._decode = texts, encode, decode
        self._in_memory = IN_MEMORY if in_memory is None else in_memory
        self._first: list[T | None] = []
        self._offsets, self._lengths = array("Q"), array("Q")

    def __len__(self) -> int:
        return len(self._first) + len(self._offsets)

    def __getitem__(self, number: int) -> T | None:
        """Return a value. Raises: OSError."""
        if number < len(self._first):
            return self._first[number]
        at = number - len(self._first)
        if self._offsets[at] == _GONE:
            return None
        assert self._texts is not None
        return self._decode(self._texts.get(Span(self._offsets[at], self._lengths[at])))

    def __setitem__(self, number: int, value: T | None) -> None:
        """Replace a value. What the file has of the earlier one stays there. Raises: OSError."""
        if number < len(self._first):
            self._first[number] = value
        else:
            at = number - len(self._first)
            self._offsets[at], self._lengths[at] = self._put(value)

    def append(self, value: T) -> None:
        """Add a value. Raises: OSError, for example if the disk is full."""
        if self._texts is None or len(self._first) < self._in_memory:
            self._first.append(value)
            return
        offset, length = self._put(value)
        self._offsets.append(offset)
        self._lengths.append(length)

    def truncate(self, count: int) -> None:
        """Remove all values from number `count` on, with their numbers."""
        rest = max(count - len(self._first), 0)
        del self._offsets[rest:], self._lengths[rest:]
        del self._first[count:]

    def is_gone(self, number: int) -> bool:
        """Return whether a value was removed, without reading it."""
        if number < len(self._first):
            return self._first[number] is None
        return self._offsets[number - len(self._first)] == _GONE

    def __iter__(self) -> Iterator[T]:
        """Iterate the values that were not removed."""
        for number in range(len(self)):
            value = self[number]
            if value is not None:
                yield value

    def _put(self, value: T | None) -> tuple[int, int]:
        if value is None:
            return _GONE, 0
        assert self._texts is not None
        return self._texts.put(self._encode(value))
