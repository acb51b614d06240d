"""One long run of bytes, masked as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessiond.redact.policy import DENSE, Finding, Masked
from sessiond.redact.shape import LONGEST_MATCH

if TYPE_CHECKING:
    from sessiond.redact.redactor import Redactor

OVERLAP = 2 * LONGEST_MATCH
"""Bytes that are held back, and scanned again, where one record comes in pieces."""


class Pieces:
    """One long run of bytes, masked as it comes."""

    def __init__(self, redactor: Redactor, path: str) -> None:
        self._redactor = redactor
        self._path = path
        self._before = self._held = b""
        self._done = 0

    def add(self, piece: bytes) -> Masked:
        """Add the next piece, and return the masked bytes that no later piece can change; they may be none."""
        self._held += piece
        if len(self._held) <= OVERLAP * 2:
            return Masked(b"")
        masked = self._redactor.mask_any(self._before + self._held, self._path)
        skipped = len(self._before)
        cut = _choose_cut(masked, skipped, len(self._held))
        given = slice_masked(masked, skipped, skipped + cut, self._done)
        self._done += cut
        whole = self._before + self._held
        self._before, self._held = whole[max(0, skipped + cut - OVERLAP) : skipped + cut], self._held[cut:]
        return given

    def end(self) -> Masked:
        """Return the rest."""
        masked = self._redactor.mask_any(self._before + self._held, self._path)
        skipped = len(self._before)
        given = slice_masked(masked, skipped, skipped + len(self._held), self._done)
        self._done += len(self._held)
        self._before = self._held = b""
        return given


def mask_piece(redactor: Redactor, before: bytes, piece: bytes, after: bytes, path: str = "") -> Masked:
    """Cover the secrets in a piece of a record, given at least `OVERLAP` bytes on each side of it in the record.

    The result is the same as that of `Redactor.mask()` for the whole record. A secret that begins before the piece is
    covered, but counts as a finding of the piece in which it begins.
    """
    masked = redactor.mask_any(before + piece + after, path)
    return slice_masked(masked, len(before), len(before) + len(piece))


def _choose_cut(masked: Masked, skipped: int, length: int) -> int:
    """Return how many bytes may be given out: all but the overlap, and no part of a secret unless all is masked."""
    cut = skipped + length - OVERLAP
    for finding in masked.findings:
        if finding.rule != DENSE and finding.start < cut < finding.start + finding.length:
            cut = finding.start
    return max(0, cut - skipped)


def slice_masked(masked: Masked, start: int, end: int, done: int = 0) -> Masked:
    """Return a part of masked bytes and the findings that begin in it, moved by `done`."""
    findings = []
    for finding in masked.findings:
        if start <= finding.start < end:
            length = min(finding.length, end - finding.start) if finding.rule == DENSE else finding.length
            findings.append(Finding(finding.start - start + done, length, finding.rule))
    return Masked(masked.data[start:end], tuple(findings))
