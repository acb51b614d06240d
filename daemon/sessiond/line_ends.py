"""Where lines end, also in UTF-16, in which the byte of a newline is a part of other characters (U+010A, U+0A05) too.

A file counts as UTF-16 if it has a byte order mark. A tool may go on in UTF-8 behind it. Lines are cut after the byte
0x0A in both, so in little-endian text the other byte of a newline begins the next line.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Iterator

MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
FURTHER_RECORD = b"\0{\0"
"""How a record that is not the first one begins, in both orders of bytes."""
_AFTER = 8
"""Bytes behind a newline that are examined."""


def find_end(descriptor: int, offset: int, data: bytes) -> int:
    """Return where the first line in `data` ends, behind its newline; 0 if none ends there.

    `data` was read from the file at `offset`.
    """
    found = data.find(b"\n")
    if found >= 0 and b"\0" in data and _is_utf_16(descriptor):
        while found >= 0 and not _is_newline(descriptor, offset, data, found):
            found = data.find(b"\n", found + 1)
    return found + 1


def find_last_end(descriptor: int, offset: int, data: bytes) -> int:
    """Return where the last line in `data` ends, behind its newline; 0 if none ends there."""
    found = data.rfind(b"\n")
    if found >= 0 and b"\0" in data and _is_utf_16(descriptor):
        while found >= 0 and not _is_newline(descriptor, offset, data, found):
            found = data.rfind(b"\n", 0, found)
    return found + 1


def is_end(descriptor: int, offset: int) -> bool:
    """Return whether a line of the file ends at `offset`."""
    begin = max(0, offset - 2)
    data = os.pread(descriptor, 3, begin)
    at = offset - 1 - begin
    if data[at : at + 1] != b"\n":
        return False
    usual = data in (b"}\n{", b"}\n")
    return usual or not _is_utf_16(descriptor) or _is_newline(descriptor, begin, data, at)


def split_lines(data: bytes) -> Iterable[bytes]:
    """Return the lines in a part of a file. Not with splitlines(), which also cuts at U+2028 inside strings."""
    lines = data.split(b"\n")
    return join_lines(lines) if b"\0" in data else lines


def join_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Iterate lines that were cut at each byte 0x0A; those of UTF-16 that were cut inside a character are joined.

    An empty line in UTF-16 has at least a zero. What seems to be one is the middle of U+0A0A.
    """
    whole: list[bytes] = []
    for line in lines:
        if whole and not (line and _are_two_lines(whole[-1], line)):
            whole.append(line)
            continue
        if whole:
            yield b"\n".join(whole)
            whole.clear()
        if line.startswith(MARKS) or line.startswith(FURTHER_RECORD):
            whole.append(line)
        else:
            yield line
    if whole:
        yield b"\n".join(whole)


def _is_utf_16(descriptor: int) -> bool:
    return os.pread(descriptor, 2, 0) in MARKS


def _is_newline(descriptor: int, offset: int, data: bytes, at: int) -> bool:
    """Return whether the byte 0x0A at a position in `data` is a newline and no part of another character."""
    if 0 < at < len(data) - _AFTER:
        return _are_two_lines(data[at - 1 : at], data[at + 1 : at + 1 + _AFTER])
    around = os.pread(descriptor, 2 + _AFTER, offset + at - 1) if offset + at else b""
    return _are_two_lines(around[:1], around[2:])


def _are_two_lines(before: bytes, after: bytes) -> bool:
    """Return whether the byte 0x0A between these bytes of a UTF-16 file is a newline. The file may go on in UTF-8.

    In UTF-16, a newline has a zero on both sides: its own other byte, and one of the character beside it. In UTF-8, a
    newline is between two objects, and no zero is near.
    """
    if before.endswith(b"\0") and (not after or after.startswith(b"\0")):
        return True
    utf_8 = not after or (after.startswith(b'{"') and b"\0" not in after[:_AFTER])
    return utf_8 and before.endswith((b"}", b"\r", b" ", b"\0"))
