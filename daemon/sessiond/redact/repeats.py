"""Long repeats: text that repeats itself is searched once, not once for each repetition.

Padding, black images in Base64, progress bars and endless loops fill megabytes with the same few bytes. Whether a
byte belongs to a secret depends on less than `KEPT` bytes around it. So where a run repeats with one period, its middle
holds a secret exactly if a much shorter run with the same beginning and the same end does.
"""

from __future__ import annotations

import msgspec

from sessiond.redact.lines import LONGEST_LINE, MOST_BYTES
from sessiond.redact.policy import Finding, Masked
from sessiond.redact.shape import LONGEST_MATCH

LONGEST_PERIOD = 4096
"""Bytes after which a run may repeat itself."""
KEPT = max(LONGEST_MATCH, MOST_BYTES) + LONGEST_PERIOD + 4 * LONGEST_LINE
"""Bytes at each end of a run that are kept: no rule and no walk over lines looks further than this less a period."""
_PROBE = 512  # bytes that have to come again
_BEGIN = 64  # of these, bytes that are searched for
_STRIDE = 2 * KEPT  # a run that is worth the effort is longer
_BLOCK = 1 << 16  # bytes that are compared at a time


class Cut(msgspec.Struct, frozen=True):
    """Bytes that are left out: where in the shorter text, and how many."""

    position: int
    length: int


class Folded(msgspec.Struct, frozen=True):
    """A text without the middle of each long repeat."""

    data: bytes
    cuts: tuple[Cut, ...]

    def unfold(self, original: bytes, masked: Masked) -> Masked | None:
        """Return the whole text masked, given the short one; None if the repeat itself holds a secret."""
        findings: list[Finding] = []
        parts: list[bytes] = []
        done = shift = 0
        each = iter(sorted(masked.findings))
        finding = next(each, None)
        for cut in self.cuts:
            while finding is not None and finding.start < cut.position + LONGEST_PERIOD:
                if finding.start + finding.length > cut.position - LONGEST_PERIOD:
                    return None
                findings.append(Finding(finding.start + shift, finding.length, finding.rule))
                finding = next(each, None)
            parts += (masked.data[done : cut.position], original[cut.position + shift :][: cut.length])
            done, shift = cut.position, shift + cut.length
        while finding is not None:
            findings.append(Finding(finding.start + shift, finding.length, finding.rule))
            finding = next(each, None)
        if not findings:
            return Masked(original)
        return Masked(b"".join((*parts, masked.data[done:])), tuple(findings))


def fold(data: bytes) -> Folded | None:
    """Return a text without the middle of each long repeat; None if there is none."""
    if len(data) < KEPT + _PROBE + LONGEST_PERIOD:
        return None
    cuts: list[Cut] = []
    parts: list[bytes] = []
    done = dropped = 0
    place = KEPT
    while place + _PROBE + LONGEST_PERIOD <= len(data):
        period = _period(data, place)
        if period:
            low, high = _extent(data, place, period, done)
            length = (high - low - 2 * KEPT) // period * period
            if length >= KEPT:
                parts.append(data[done : low + KEPT])
                cuts.append(Cut(low + KEPT - dropped, length))
                done = low + KEPT + length
                dropped += length
                place = high
        place += _STRIDE
    return Folded(b"".join((*parts, data[done:])), tuple(cuts)) if cuts else None


def _period(data: bytes, place: int) -> int:
    """Return after how many bytes a run around a place repeats itself, or 0 if it doesn't."""
    begin, found = data[place : place + _BEGIN], place
    while (found := data.find(begin, found + 1, place + LONGEST_PERIOD + _BEGIN)) >= 0:
        # A search for all of the probe at once would take longer than everything else in ordinary text.
        if data[found : found + _PROBE] == data[place : place + _PROBE]:
            return found - place
    return 0


def _extent(data: bytes, place: int, period: int, least: int) -> tuple[int, int]:
    """Return where the run around a place begins and ends in which each byte equals the one a period before it."""
    low, high = place, place
    while low > least:
        start = max(least, low - _BLOCK)
        if data[start:low] != data[start + period : low + period]:
            low = _first_equal(data, start, low, period)
            break
        low = start
    most = len(data) - period
    while high < most:
        stop = min(most, high + _BLOCK)
        if data[high:stop] != data[high + period : stop + period]:
            high = _last_equal(data, high, stop, period)
            break
        high = stop
    return low, high + period


def _first_equal(data: bytes, low: int, high: int, period: int) -> int:
    """Return the least start from which on all bytes up to `high` equal those a period behind."""
    while low < high:
        middle = (low + high) // 2
        if data[middle:high] == data[middle + period : high + period]:
            high = middle
        else:
            low = middle + 1
    return high


def _last_equal(data: bytes, low: int, high: int, period: int) -> int:
    """Return the greatest end up to which all bytes from `low` on equal those a period behind."""
    while low < high:
        middle = (low + high + 1) // 2
        if data[low:middle] == data[low + period : middle + period]:
            low = middle
        else:
            high = middle - 1
    return low
