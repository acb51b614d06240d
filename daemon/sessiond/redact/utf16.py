"""Makes text in UTF-16 searchable: each character becomes one byte, so that the rules find the same as in ASCII.

UTF-16 is found in transcripts that were saved again on Windows, in the output of Windows programs, and in strings of
binary files. Most rules are about ASCII, where each character is one byte and a zero. Any other character becomes the
byte OTHER.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sessiond.redact.binary import SEPARATOR
from sessiond.redact.policy import Finding, Masked

OTHER = 0xFF
"""The byte for a character that has no zero in it."""
_MARGIN = 128
"""Bytes on both sides of a run of ASCII that are searched with it: a secret may have other characters in it."""
_ASCII = bytes([0x09, 0x0A, 0x0D, *range(0x1B, 0x7F)])
_CLASSES = bytes(0 if byte == 0 else 1 if byte in _ASCII else 2 for byte in range(256))
_SHORTEST = b"\x01\0" * 8
"""The classes of the shortest run of ASCII that is searched for."""
_RUN = re.compile(rb"(?:[%b]\0)+" % re.escape(_ASCII))
_NOT_PRINTABLE = bytes([*range(0x20), *range(0x7F, 0x100)])
Regions = list[tuple[int, int]]


def byte_orders(data: bytes) -> Sequence[int]:
    """Return in which orders of bytes data with zeros has to be searched: first the one that gives more ASCII."""
    if b"\0" not in data or next(_runs(data), None) is None:
        return ()
    little, big = (len(to_narrow(data, find_regions(data, at), at).translate(None, _NOT_PRINTABLE)) for at in (0, 1))
    return (1, 0) if big > little else (0, 1)


def find_regions(data: bytes, at: int) -> Regions:
    """Return the regions with text in UTF-16, as (start, end) with whole characters.

    `at` is which byte of a character is not zero: 0 in little-endian text, 1 in big-endian text. Beside characters
    outside of ASCII, both readings are possible.
    """
    regions: Regions = []
    for start, end in _runs(data):
        low, high = max(0, start - at), end - at
        low -= min(_MARGIN, low & ~1)
        high += min(_MARGIN, (len(data) - high) & ~1)
        if regions and low <= regions[-1][1]:
            first, last = regions[-1]
            if (low - first) % 2 == 0:
                regions[-1] = first, high
                continue
            low = last + 1 - (last - low) % 2
        if low < high:
            regions.append((low, high - (high - low) % 2))
    return regions


def _runs(data: bytes) -> Iterator[tuple[int, int]]:
    """Iterate the runs of ASCII in UTF-16. An expression that searches an image for them takes thirty times as long."""
    classes, position = data.translate(_CLASSES), 0
    while (start := classes.find(_SHORTEST, position)) >= 0:
        position = _RUN.match(data, start).end()  # type: ignore[union-attr]  # it begins with the shortest run
        yield start, position


def to_narrow(data: bytes, regions: Regions, at: int) -> bytes:
    """Return the characters of the regions, a byte each. Nothing is found across two regions."""
    return SEPARATOR.join(_narrow(data[start:end], at) for start, end in regions)


def _narrow(text: bytes, at: int) -> bytes:
    characters, others = text[at::2], text[1 - at :: 2]
    if not others.strip(b"\0"):
        return characters
    return bytes(OTHER if other else character for character, other in zip(characters, others, strict=True))


def put_back(data: bytes, regions: Regions, at: int, narrow: bytes, masked: Masked) -> Masked:
    """Return the data with the characters that differ in `masked` from `narrow`."""
    whole, position = bytearray(data), 0
    findings: list[Finding] = []
    for start, end in regions:
        size = (end - start) // 2
        for index in range(position, position + size):
            if masked.data[index] != narrow[index]:
                begin = start + 2 * (index - position)
                whole[begin + at], whole[begin + 1 - at] = masked.data[index], 0
        findings += [
            Finding(start + 2 * (each.start - position), 2 * min(each.length, position + size - each.start), each.rule)
            for each in masked.findings
            if position <= each.start < position + size
        ]
        position += size + len(SEPARATOR)
    return Masked(bytes(whole), tuple(findings))
