"""Blanked windows of one run of bytes: what a rule sees of the record around a place."""

from __future__ import annotations

from collections import defaultdict

from sessiond.redact.text import REACH, blank
from sessiond.redact.values import Glance, glance

LOOK_BEHIND = 16 + REACH
"""Bytes before a match that may decide on it: its look-behinds and what they are blanked from."""
KEYWORD_REACH = 256
"""Bytes before a match in which a keyword of its rule may be."""
_AHEAD = 1 << 18  # what is blanked beyond a place, for the next one


class Sight:
    """Windows of the blanked text around places; each lies in one record.

    The rules that examine the same bytes share it. Where places are dense, one window serves many of them. Elsewhere it
    is no longer than needed.
    """

    __slots__ = ("_ahead", "_begins", "_ends", "_left", "_right", "_text", "_values", "data", "triggers")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = self._right = self._ahead = 0
        self._begins = self._ends = False
        self._text = b""
        self._values: dict[int, Glance] = {}
        self.triggers: defaultdict[str, dict[int, bool]] = defaultdict(dict)
        """Whether a trigger matches at a position, as far as that was tried: rules may have the same trigger."""

    def glance(self, start: int) -> Glance:
        """Return what is at the position of a value; computed once for all rules."""
        found = self._values.get(start)
        if found is None:
            found = self._values[start] = glance(self.data, start)
        return found

    def shows(self, position: int, stop: int) -> bool:
        """Return whether the present window shows a place and what follows it up to `stop`."""
        return self._left <= position < self._right and (stop <= self._right or self._ends)

    def see(self, position: int, margin: int, stop: int) -> tuple[bytes, int, int]:
        """Return a text with `margin` bytes before a position and what follows up to `stop`, within its record.

        Return also where the text begins in the bytes, and where in the text the part that may be examined ends.
        """
        low, inside = position - margin, self._left <= position < self._right
        if not inside or (low < self._left and not self._begins) or (stop > self._right and not self._ends):
            self._move(position, max(low, 0), stop, inside)
        return self._text, self._left, min(stop, self._right) - self._left

    def _move(self, position: int, low: int, stop: int, dense: bool) -> None:
        data = self.data
        self._ahead = min(2 * self._ahead + 256, _AHEAD) if dense else 0
        stop += self._ahead
        begin, end = data.rfind(b"\n{", max(low - 1, 0), position + 1) + 1, data.find(b"\n{", position, stop + 1) + 1
        self._left, self._right = begin or low, end or min(stop, len(data))
        self._begins, self._ends = begin > 0 or low == 0, end > 0 or stop >= len(data)
        self._text = blank(data[self._left : self._right + REACH])
