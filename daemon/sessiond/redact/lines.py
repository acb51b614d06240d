"""Lines of a text in JSON: where they begin and end, and what a tool printed before each of them.

A prefix of a line is not recognised by a list of tools but by comparison with another line: digits and spaces may
differ, everything else has to be the same.
"""

from __future__ import annotations

import re

_NEWLINE = rb"(?:(?:\\+r)?\\+n|\r?\n)"
BREAK = re.compile(_NEWLINE + rb"(?:\\*\"[ ]{0,4},(?:[ ]|" + _NEWLINE + rb"){0,12}\\*\")?")
BREAK_BEFORE = re.compile(BREAK.pattern + rb"\Z")
_LAST_BREAK = re.compile(rb"(?s:.*)(?:\\n|\n)")
LONGEST_LINE = 1024
MOST_LINES = 400
MOST_BYTES = 32_768
TOKEN = re.compile(rb"[A-Za-z0-9_.~+/=%-]+")
_NOT_TOKEN = re.compile(rb"(?s:.*)(?:[^A-Za-z0-9_.~+/=%-]|[0-9][:-])")
_PREFIX = re.compile(
    rb"(?:[ \t>|#*;\"'`\x01]|//(?=[ ])|--(?=[ ])|[+-](?=[ ])|\xe2[\x80-\xbf]{2})*"
    rb"(?:[0-9]{1,7}(?:\xe2\x86\x92|\x01+|[\t:|]|[ ]{1,3}(?:\| ?)?))?[ ]{0,8}"
)
_ESCAPED = re.compile(rb"\\+(?:u[0-9a-fA-F]{4}|.)?", re.DOTALL)
_PART = re.compile(rb"[0-9 ]+|[^0-9 ]")
_NUMBER = frozenset(b"0123456789 ")


def prefix_length(before: bytes, line: bytes) -> int:
    """Return how much of a line is the decoration that the line before it has as well, or one that is well known."""
    common = 0
    for old, new in zip(_PART.findall(before[:200]), _PART.findall(line[:200]), strict=False):
        if old != new and not (old[0] in _NUMBER and new[0] in _NUMBER) and not (old in b":-" and new in b":-"):
            break
        common += len(new)
    if match := _NOT_TOKEN.match(line[:common]):
        return match.end()
    signs = next(n for n in (2, 1, 0) if before[:n] == line[:n] and not before[:n].strip(b"+-"))
    if signs:
        return signs
    known = _PREFIX.match(line)
    return known.end() if known else 0


def plain(line: bytes) -> bytes:
    """Replace escapes by a byte that no prefix and no token holds, so that neither begins within one."""
    return _ESCAPED.sub(lambda match: b"\x01" * len(match[0]), line) if b"\\" in line else line


def line_start(data: bytes, position: int) -> int:
    low = max(0, position - LONGEST_LINE)
    found = _LAST_BREAK.match(data, low, position)
    return found.end() if found else low


def columns(line: bytes) -> int:
    """Return the columns of a line: an escape or a character of several bytes takes one."""
    return len(re.sub(rb"\x01+|[\xc0-\xff][\x80-\xbf]+", b".", line))
