"""Lines of a text in JSON: where they begin and end, and what a tool printed before each of them.

A prefix of a line is not recognised by a list of tools but by comparison with another line: digits and spaces may
differ, everything else has to be the same.
"""

from __future__ import annotations

import re

_NEWLINE = rb"(?:(?:\\+r)?\\+n|\r?\n)"
BREAK = re.compile(_NEWLINE + rb"(?:\\*\"[ ]{0,4},(?:[ ]|" + _NEWLINE + rb"){0,12}\\*\")?")
BREAK_BEFORE = re.compile(BREAK.pattern + rb"\Z")
LONGEST_LINE = 1024
MOST_LINES = 400
MOST_BYTES = 32_768
TOKEN = re.compile(rb"[A-Za-z0-9_.~+/=%-]+")
_TOKEN_BYTES = bytes(byte for byte in range(0x80) if TOKEN.match(bytes((byte,))))
_PREFIX = re.compile(
    rb"(?:[ \t>|#*;\"'`\x01]|//(?=[ ])|--(?=[ ])|[+-](?=[ ])|\xe2[\x80-\xbf]{2})*"
    rb"(?:[0-9]{1,7}(?:\xe2\x86\x92|\x01+|[\t:|]|[ ]{1,3}(?:\| ?)?))?[ ]{0,8}"
)
_ESCAPED = re.compile(rb"\\+(?:u[0-9a-fA-F]{4}|.)?", re.DOTALL)
_PART = re.compile(rb"[0-9 ]+|[^0-9 ]")
_WIDE = re.compile(rb"\x01+|[\xc0-\xff][\x80-\xbf]+")
# It begins with a literal, so that `re` skips to the next candidate.
_OPENING = re.compile(rb"\"(?:(?<=[:,\[{]\")|(?<=[:,\[{][ ]\"))|\x01(?:(?<=[:,\[{]\x01)|(?<=[:,\[{][ ]\x01))\x01*")
_MOST_OPENINGS = 8
_LONGEST_PREFIX = 200  # bytes of a line that may be a prefix
_NUMBER = frozenset(b"0123456789 ")


def prefix_length(before: bytes, line: bytes) -> int:
    """Return how much of a line is the decoration that the line before it has as well, or one that is well known."""
    if not before:
        return _PREFIX.match(line).end()  # type: ignore[union-attr]  # it may be empty
    position = common = 0  # the end of the same parts in each of the lines
    while True:
        if before[position : position + 8] == line[common : common + 8]:
            same = _same(before[position:_LONGEST_PREFIX], line[common:_LONGEST_PREFIX])
            position, common = position + same, common + same
        earlier = _PART.match(before, position, _LONGEST_PREFIX)
        found = _PART.match(line, common, _LONGEST_PREFIX)
        if earlier is None or found is None:
            break
        old, new = earlier[0], found[0]
        if old != new and not (old[0] in _NUMBER and new[0] in _NUMBER) and not (old in b":-" and new in b":-"):
            break
        position, common = earlier.end(), found.end()
    if common and (length := _decoration(line[:common])):
        return length
    for signs in (2, 1):
        if before[:signs] == line[:signs] and not before[:signs].strip(b"+-"):
            return signs
    known = _PREFIX.match(line)
    return known.end() if known else 0


def _same(first: bytes, second: bytes) -> int:
    """Return the length of the parts at the beginning of two texts that are the same bytes."""
    length = min(len(first), len(second))
    first, second = first[:length], second[:length]
    if first != second:
        length -= ((int.from_bytes(first, "big") ^ int.from_bytes(second, "big")).bit_length() + 7) // 8
    return len(first[:length].rstrip(b"0123456789 "))


def _decoration(text: bytes) -> int:
    """Return the start of the token at the end of a text. A number and "-" before the token are no part of it."""
    begin = len(text.rstrip(_TOKEN_BYTES))
    dash = text.rfind(b"-", begin)
    while dash > 0 and not text[dash - 1 : dash].isdigit():
        dash = text.rfind(b"-", begin, dash)
    return dash + 1 if dash > 0 else begin


def text_start(head: bytes, line: bytes) -> tuple[int, int]:
    """Return the start of the text in a line, and the length of the prefix of the next line.

    The text of the first line of a JSON string begins after the quote, any other text at 0. But a quote may also begin
    a value within the line. So a quote counts only if the text after it has a prefix in common with the next line, and
    the whole line has no longer one. Otherwise the prefix of the next line could be taken for a part of the value, or
    the line for wider than its text, and the rest of the value would stay readable.
    """
    best, most = 0, prefix_length(head, line)
    for start in openings(head) if line else ():
        first = head[start : start + 1]
        if first and (first == line[:1] or (first[0] in _NUMBER and line[0] in _NUMBER)):
            length = prefix_length(head[start:], line)
            # A digit and a space only resemble each other: a value may begin with either.
            if length > most or (length and length == most and first.isspace() == line[:1].isspace()):
                best, most = start, length
    return best, most


def openings(head: bytes) -> list[int]:
    """Return the positions behind the last quotes of a line that may begin a JSON string, escaped ones included."""
    return [opening.end() for opening in _OPENING.finditer(head)][-_MOST_OPENINGS:]


def plain(line: bytes) -> bytes:
    """Replace escapes by a byte that no prefix and no token holds, so that neither begins within one."""
    return _ESCAPED.sub(lambda match: b"\x01" * len(match[0]), line) if b"\\" in line else line


def line_start(data: bytes, position: int) -> int:
    """Return where the line begins that a place is in; no line is longer than `LONGEST_LINE` bytes."""
    low = max(0, position - LONGEST_LINE)
    newline, escaped = data.rfind(b"\n", low, position), data.rfind(b"\\n", low, position)
    return max(low, newline + 1, escaped + 2 if escaped >= 0 else 0)


def line_end(data: bytes, position: int) -> int:
    """Return where the line ends that a place is in; no line is longer than `LONGEST_LINE` bytes."""
    most = position + LONGEST_LINE
    for newline in (b"\n", b"\\n"):
        found = data.find(newline, position, most)
        most = found if found >= 0 else most
    return most


def columns(line: bytes) -> int:
    """Return the columns of a line: an escape or a character of several bytes takes one."""
    if line.isascii() and b"\x01" not in line:
        return len(line)
    return len(_WIDE.sub(b".", line))
