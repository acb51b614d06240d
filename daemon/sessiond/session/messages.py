"""The messages that a fold has counted: a key each, and which model said it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property

import msgspec

WIDTH = 8
"""Bytes of a key."""
NO_MODEL = 255
"""In place of a model: a prompt, or a model that is not known."""
_SEARCHES = 4


class _Known:
    """Which keys there are: a set once that is asked often. To make one costs as much as thousands of searches."""

    __slots__ = ("_asked", "_keys", "_set")

    def __init__(self, keys: bytearray) -> None:
        self._keys, self._asked, self._set = keys, 0, set[int]()

    def has(self, key: int) -> bool:
        """Tell whether a key is there."""
        if self._asked < _SEARCHES:
            self._asked += 1
            return _find(self._keys, key) >= 0
        if self._asked == _SEARCHES:
            self._asked, self._set = _SEARCHES + 1, set(_unpack(self._keys))
        return key in self._set

    def add(self, key: int) -> None:
        """Add a key that was put behind the others, too."""
        if self._asked > _SEARCHES:
            self._set.add(key)


class Messages(msgspec.Struct, dict=True, omit_defaults=True):
    """Keys of 64 bits in the order of first sight, and the index of each one's model.

    Nine bytes a message: those of a long session are at hand for its next line, and are stored, without a look at
    each of them.
    """

    keys: bytearray = msgspec.field(default_factory=bytearray)
    """Each as WIDTH bytes, little-endian."""
    model_indexes: bytearray = msgspec.field(default_factory=bytearray)
    """A byte each: see NO_MODEL."""

    @cached_property
    def _known(self) -> _Known:
        return _Known(self.keys)

    def __len__(self) -> int:
        return len(self.model_indexes)

    def __iter__(self) -> Iterator[int]:
        return iter(_unpack(self.keys))

    def __contains__(self, key: int) -> bool:
        return self._known.has(key)

    @property
    def first(self) -> int | None:
        """The key of the first message."""
        return int.from_bytes(self.keys[:WIDTH], "little") if self.keys else None

    def add(self, key: int, speaker: int) -> None:
        """Put a message behind the others."""
        self.keys += key.to_bytes(WIDTH, "little")
        self.model_indexes.append(speaker)
        self._known.add(key)

    def find(self, key: int) -> int:
        """Say which message has a key; -1: none."""
        return _find(self.keys, key)

    def cut(self, keep: int) -> list[tuple[int, int]]:
        """Take back all messages but the first ones; return key and model of what was taken."""
        taken = list(zip(_unpack(self.keys[keep * WIDTH :]), self.model_indexes[keep:], strict=True))
        del self.keys[keep * WIDTH :], self.model_indexes[keep:]
        self.drop_index()
        return taken

    def drop_index(self) -> None:
        """Let go of what makes many questions quick."""
        self.__dict__.clear()


def _find(keys: bytearray, key: int) -> int:
    wanted = key.to_bytes(WIDTH, "little")
    at = keys.find(wanted)
    while at >= 0 and at % WIDTH:  # it stands across two others
        at = keys.find(wanted, at + 1)
    return at // WIDTH if at >= 0 else -1


def _unpack(keys: bytearray) -> tuple[int, ...]:
    return struct.unpack(f"<{len(keys) // WIDTH}Q", keys)
