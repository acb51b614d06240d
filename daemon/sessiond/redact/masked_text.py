"""Masking of text for people: what commands print and the daemon logs."""

from __future__ import annotations

from sessiond.redact.prefilter import may_hold_secret

TYPE_CHECKING = False  # like `typing.TYPE_CHECKING`, without the import: `status` has a budget of 100 ms
if TYPE_CHECKING:
    from collections.abc import Callable

    Mask = Callable[[str], str]


class TextMask:
    """Masks the secrets in text. The rules are loaded with the first text that may hold one.

    Titles, paths, branches and errors were masked when they were captured, but with `redact = "off"`, or by older
    rules with gaps, they are stored as they were.
    """

    def __init__(self, load: Callable[[], Mask], is_selective: Callable[[], bool]) -> None:
        """`load` returns the function that masks. `is_selective` returns whether only the built-in rules apply; the
        user's own rules and secrets may match any text."""
        self._load = load
        self._is_selective = is_selective
        self._selective: bool | None = None
        self._mask: Mask | None = None

    def __call__(self, text: str) -> str:
        """Return the text with its secrets masked; its length in bytes is unchanged."""
        if self._selective is None:
            self._selective = self._is_selective()
        if not text or (self._selective and not may_hold_secret(text)):
            return text
        if self._mask is None:
            self._mask = self._load()
        return self._mask(text)
