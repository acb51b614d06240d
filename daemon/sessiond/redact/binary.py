"""Binary data: only the text in it can be a secret.

Compressed or encrypted bytes look like the beginning of a secret in thousands of places. To examine them all is slow,
and a part with too many of them would be masked as a whole, which destroys an image. So only runs of text are searched.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from sessiond.redact.policy import Finding

SHORTEST = 8
"""Bytes of the shortest run of text: the name of a password, the sign after it, and the password."""
CONTROL = 33
"""Data is binary if more than one byte in so many is a control character that text does not contain."""
_PART = 1 << 14
"""Bytes that are counted in one go."""
_TEXT = bytes([*range(0x20, 0x7F), 0x09, 0x0A, 0x0D, 0x1B])
_NOT_CONTROL = bytes({*_TEXT, 0x08, 0x0C, *range(0x80, 0x100)})
_CLASSES = bytes(1 if byte in _TEXT else 0 for byte in range(256))
_RUN = b"\x01" * SHORTEST
SEPARATOR = b"\n{"
"""What ends a record for the redactor."""
Runs = list[tuple[int, int]]


def is_binary(data: bytes) -> bool:
    """Return whether data is binary. It has NUL bytes, which is found without reading text byte by byte."""
    if b"\0" not in data:
        return False
    found, most = 0, len(data) // CONTROL
    for start in range(0, len(data), _PART):  # a quarter of an image has more than enough
        found += len(data[start : start + _PART].translate(None, _NOT_CONTROL))
        if found > most:
            return True
    return False


def find_runs(data: bytes) -> Runs:
    """Return the runs of text in binary data, as (start, end)."""
    classes, runs, position = data.translate(_CLASSES), Runs(), 0
    while (start := classes.find(_RUN, position)) >= 0:
        end = classes.find(b"\0", start + SHORTEST)
        position = len(data) if end < 0 else end
        runs.append((start, position))
    return runs


def join_runs(data: bytes, runs: Runs) -> bytes:
    """Return the runs as one text in which nothing is found across two of them: each is like a record."""
    return SEPARATOR.join([data[start:end] for start, end in runs])


def replace_runs(data: bytes, runs: Runs, text: bytes) -> bytes:
    """Return binary data with its runs as they are in a joined text that was masked."""
    whole, position = bytearray(data), 0
    for start, end in runs:
        whole[start:end] = text[position : position + end - start]
        position += end - start + len(SEPARATOR)
    return bytes(whole)


def place_findings(runs: Runs, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings in a joined text as they lie in the data."""
    offsets = list(accumulate((end - start + len(SEPARATOR) for start, end in runs), initial=0))
    placed = []
    for finding in findings:
        index = bisect_right(offsets, finding.start) - 1
        start = runs[index][0] + finding.start - offsets[index]
        placed.append(Finding(start, finding.length, finding.rule))
    return tuple(placed)
