"""The messages that a fold has counted: the key and the model of each."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property

import msgspec

WIDTH = 8
"""Bytes of a key."""
NO_MODEL = 255
"""The model index of a prompt, or of a message whose model is unknown."""
_SEARCHES = 4


class _KeyIndex:
    """Answers whether a key exists. It builds a set only after a few searches: a set costs as much as thousands."""

    __slots__ = ("_asked", "_keys", "_set")

    def __init__(self, keys: bytearray) -> None:
        self._keys, self._asked, self._set = keys, 0, set[int]()

    def has(self, key: int) -> bool:
        """Return whether a key exists."""
        if self._asked < _SEARCHES:
            self._asked += 1
            return _find(self._keys, key) >= 0
        if self._asked == _SEARCHES:
            self._asked, self._set = _SEARCHES + 1, set(_unpack(self._keys))
        return key in self._set

    def add(self, key: int) -> None:
        """Add a key that was appended to the others."""
        if self._asked > _SEARCHES:
            self._set.add(key)


class Messages(msgspec.Struct, dict=True, omit_defaults=True):
    """64-bit keys in the order of their first occurrence, and the index of each one's model.

    A message takes nine bytes, so those of a long session can be loaded and stored without a loop over them.
    """

    keys: bytearray = msgspec.field(default_factory=bytearray)
    """Each as WIDTH bytes, little-endian."""
    model_indexes: bytearray = msgspec.field(default_factory=bytearray)
    """One byte each; see NO_MODEL."""

    @cached_property
    def _index(self) -> _KeyIndex:
        return _KeyIndex(self.keys)

    def __len__(self) -> int:
        return len(self.model_indexes)

    def __iter__(self) -> Iterator[int]:
        return iter(_unpack(self.keys))

    def __contains__(self, key: int) -> bool:
        return self._index.has(key)

    @property
    def first(self) -> int | None:
        """The key of the first message."""
        return int.from_bytes(self.keys[:WIDTH], "little") if self.keys else None

    def add(self, key: int, model_index: int) -> None:
        """Append a message."""
        self.keys += key.to_bytes(WIDTH, "little")
        self.model_indexes.append(model_index)
        self._index.add(key)

    def find(self, key: int) -> int:
        """Return the index of the message with a key; -1 if there is none."""
        return _find(self.keys, key)

    def cut(self, keep: int) -> list[tuple[int, int]]:
        """Remove all messages after the first `keep`; return (key, model index) of each."""
        removed = list(zip(_unpack(self.keys[keep * WIDTH :]), self.model_indexes[keep:], strict=True))
        del self.keys[keep * WIDTH :], self.model_indexes[keep:]
        self.drop_index()
        return removed

    def since(self, count: int) -> tuple[int, ...]:
        """Return the keys after the first `count`."""
        return _unpack(self.keys[count * WIDTH :])

    def drop_index(self) -> None:
        """Free the index that makes repeated lookups fast. It is built again when needed."""
        self.__dict__.clear()


def _find(keys: bytearray, key: int) -> int:
    wanted = key.to_bytes(WIDTH, "little")
    at = keys.find(wanted)
    while at >= 0 and at % WIDTH:  # a match across two keys
        at = keys.find(wanted, at + 1)
    return at // WIDTH if at >= 0 else -1


def _unpack(keys: bytearray) -> tuple[int, ...]:
    return struct.unpack(f"<{len(keys) // WIDTH}Q", keys)
