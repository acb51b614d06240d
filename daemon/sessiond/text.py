"""Text for people: counts, and text of unknown origin that is made safe for a terminal or JSON."""

from __future__ import annotations

_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Characters that count as printable and draw nothing: fillers, joiners and variation selectors of rare scripts."""


def count(number: int, noun: str) -> str:
    """Format a count with its noun: "1 file", "2 files"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def visible(character: str) -> bool:
    """Return whether a character is visible: not a control, bidi or other format character, and not a filler."""
    supplement = "\U000e0100" <= character <= "\U000e01ef"  # variation selectors that hide data in names
    return character.isprintable() and character not in _INVISIBLE and not supplement


def escape(text: str) -> str:
    """Return text that is safe on a terminal: invisible characters and undecodable bytes become escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if visible(c) else c.encode("unicode_escape").decode() for c in text)


def escape_json(document: str) -> str:
    """Return a JSON document that means the same, with invisible characters of its strings as `\\uXXXX`.

    In a JSON document such characters are inside strings only, besides line feeds and spaces, which are kept.
    """
    if document.isascii() and "\x7f" not in document:
        return document
    return "".join(c if visible(c) or c == "\n" else _json_escape(c) for c in document)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
