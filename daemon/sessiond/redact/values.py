"""What a value shows by itself: its entropy, its identity, and whether it is a name or a call in source code."""

from __future__ import annotations

import functools
import math
import re

_SPACE = re.compile(rb"\s+")
_NAME = re.compile(rb"[A-Za-z0-9_.-]{1,80}(?=\\{1,8}[nrt\"']|[,;)]{1,3}(?:\\{1,8}[nrt]|\s)|[\s\"'`<>{}])")
_CALL = re.compile(rb"(?<![\"'`])(?<![\"'`] )[A-Za-z_][A-Za-z_.]*[(\[][^0-9\s\\\"'`]{0,60}(?:[\s\"'`]|\\{1,8}[nrt\"'])")


def entropy(value: bytes) -> float:
    """Return the Shannon entropy of a value in bits per character."""
    total = len(value)
    return math.log2(total) - sum(map(_weigh, map(value.count, set(value)))) / total if total else 0.0


@functools.cache
def _weigh(count: int) -> float:
    return count * math.log2(count)


def identify(value: bytes) -> bytes:
    """Return a blanked value without white space: it is the same at each depth of escaping."""
    return _SPACE.sub(b"", value)


def name_at(data: bytes, start: int) -> bytes | None:
    """Return the value at a position of raw bytes if it has only letters, digits and the signs in names.

    None if it has others, or goes on behind a sign that ends a value in one syntax only.
    """
    found = _NAME.match(data, start)
    return None if found is None else found[0]


def is_call(data: bytes, start: int) -> bool:
    """Return whether a call or an index without a digit is at a position: no unquoted value looks like one."""
    return _CALL.match(data, start) is not None
