"""Text from outside on its way to a person's screen."""

from __future__ import annotations


def escape(text: str) -> str:
    """Make text harmless on a terminal: control and direction characters and undecodable bytes become escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
