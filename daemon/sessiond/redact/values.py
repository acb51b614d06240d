"""What a value shows by itself: its entropy, its identity, and whether it is a name or a call in source code."""

from __future__ import annotations

import functools
import math
import re
from typing import NamedTuple

_SPACE = re.compile(rb"\s+")
_NAME = re.compile(rb"[A-Za-z0-9_.-]{1,80}(?=\\{1,8}[nrt\"']|[,;)]{1,3}(?:\\{1,8}[nrt]|\s)|[\s\"'`<>{}])")
_CALL = re.compile(rb"(?<![\"'`])(?<![\"'`] )[A-Za-z_][A-Za-z_.]*[(\[][^0-9\s\\\"'`]{0,60}(?:[\s\"'`]|\\{1,8}[nrt\"'])")
_RESULT = re.compile(
    rb"(?<=--- PASS: )|(?:(?<=\APASS: )|(?<=[^\w.-]PASS: )|(?<=\\[nrt]PASS: ))"
    rb"[\w./+-]{1,80}\.(?:exp|sh|py|pl|t|test|js|rb|c|cc|cpp|go)(?:[:\s\"]|\\{1,8}[nrt\"]|\Z)"
)
_OTHER = (
    rb"(?:(?:X?FAIL|XPASS|SKIP|UNSUPPORTED|UNTESTED|UNRESOLVED): [^\n\\]{1,100}|ERROR: [\w./+-]{1,80})(?:\n|\\{1,8}n)"
)
_BEHIND_OTHER = re.compile(rb"(?:[\n\"]|\\{1,8}n|^)" + _OTHER + rb"PASS: $")
_TEST = re.compile(rb"(?![\w.]*[0-9][A-Za-z]+[0-9])[\w./+-]{1,80}(?:[:\s\"]|\\{1,8}[nrt\"]|\Z)")
_BEFORE = 124
"""Bytes before a result in which the one before it is looked for."""
_CASES = re.compile(rb"[a-z][A-Z]|[A-Z][a-z]")
_NAMES = re.compile(rb"(?i)pass(?:word|wd|phrase)?|secret|token|key|credential")


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


def is_result(data: bytes, start: int) -> bool:
    """Return whether the name of a test that passed is at a position, as behind `PASS: ` in the log of a build."""
    if data[start - 6 : start] != b"PASS: ":
        return False
    if _RESULT.match(data, start) is not None:
        return True
    # A password has the same form, but no name of a file and no other result before it.
    return (
        _TEST.match(data, start) is not None and _BEHIND_OTHER.search(data, max(0, start - _BEFORE), start) is not None
    )


class Glance(NamedTuple):
    """What is at the position of a value, without trying a rule."""

    name: bytes | None
    """The value, if it has only the letters, digits and signs of names."""
    result: bool
    call: bool


def glance(data: bytes, start: int) -> Glance:
    """Return what is at a position of raw bytes."""
    name = name_at(data, start)
    return Glance(name, is_result(data, start), name is None and is_call(data, start))


def repeats_name(value: bytes, before: bytes) -> bool:
    """Return whether a value is the name before it, in the same letters: `NextToken: "NextToken"`.

    A name in small letters may be the password of somebody who wrote the name twice.
    """
    if not _CASES.search(value) or not _NAMES.search(value):
        return False
    return before[-len(value) - 16 :].rstrip(b" \t\r\n:=>\"'`").endswith(value)
