"""Compares a file on this machine with the archived content, in which secrets are masked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from enum import Enum

import msgspec

from sessiond.sources.documents import agrees


class Relation(Enum):
    """How a file on this machine relates to the archived content."""

    MISSING = "missing"
    COMPLETE = "complete"
    """It has all of the content, and perhaps more."""
    BEHIND = "behind"
    """It has the first part of the content."""
    DIFFERENT = "different"


class Comparison(msgspec.Struct, frozen=True):
    """The result, and the size of the file when it was read."""

    relation: Relation
    size: int = 0


def compare(path: str, content: Callable[[], Iterator[bytes]]) -> Comparison:
    """Compare a file with archived content. A link is different from any content: it is not followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Comparison(Relation.MISSING)
    except OSError:
        return Comparison(Relation.DIFFERENT)
    try:
        size, position = os.fstat(descriptor).st_size, 0
        for piece in content():
            found = os.pread(descriptor, len(piece), position)
            if not agrees(found, piece[: len(found)]):
                return Comparison(Relation.DIFFERENT, size)
            position += len(found)
            if len(found) < len(piece):
                return Comparison(Relation.BEHIND if position == size else Relation.DIFFERENT, size)
        return Comparison(Relation.COMPLETE, size)
    except OSError:
        return Comparison(Relation.DIFFERENT)
    finally:
        os.close(descriptor)
