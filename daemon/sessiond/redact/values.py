"""What a value shows by itself: its entropy, its identity, and whether it is a name or a call in source code."""

from __future__ import annotations

import functools
import math
import re

_SPACE = re.compile(rb"\s+")
_NAME = re.compile(rb"[A-Za-z0-9_.-]{1,80}(?=\\{1,8}[nrt\"']|[,;)]{1,3}(?:\\{1,8}[nrt]|\s)|[\s\"'`<>{}])")
_CALL = re.compile(rb"(?<![\"'`])(?<![\"'`] )[A-Za-z_][A-Za-z_.]*[(\[][^0-9\s\\\"'`]{0,60}(?:[\s\"'`]|\\{1,8}[nrt\"'])")
_RESULT = re.compile(
    rb"(?<=--- PASS: )|(?:(?<=\nPASS: )|(?<=\\nPASS: )|(?<=\"PASS: ))"
    rb"(?![^\s\\\"']{0,60}(?:[@#$%^&*~!]|[0-9][A-Za-z]+[0-9]))"
)
_PATH = re.compile(rb"(?:(?<=[^A-Za-z0-9_.-]PASS: )|(?<=\\nPASS: ))[^\s\\\"'/]{1,80}/")
_OTHER_RESULT = re.compile(rb"n?(?:PASS|FAIL|SKIP|XFAIL|ERROR|UNSUPPORTED|UNTESTED): ")
_AROUND = 200
_REPEATED = re.compile(rb"[A-Za-z](?:[A-Za-z0-9_.-]{0,60}[A-Za-z])?")
_NAMES = re.compile(rb"(?i)pass(?:word|wd|phrase)?|secret|token|key|credential")
_LETTERS = re.compile(rb"[^A-Za-z0-9]+")


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
    if _PATH.match(data, start):
        return True
    found = _RESULT.match(data, start)
    if found is None or data[start - 10 : start - 6] == b"--- ":
        return found is not None
    # A password has the same form, but no other result beside it.
    after, before = data[start : start + _AROUND], data[max(0, start - _AROUND) : start - 6]
    return _OTHER_RESULT.search(after) is not None or _OTHER_RESULT.search(before) is not None


def repeats_name(value: bytes, before: bytes) -> bool:
    """Return whether a value is the name of a secret that is before it: `AREA_PASSWORD: 'area-password'`."""
    if not _REPEATED.fullmatch(value) or not _NAMES.search(value):
        return False
    return _LETTERS.sub(b"", before[-2 * len(value) - 16 :]).lower().endswith(_LETTERS.sub(b"", value).lower())
