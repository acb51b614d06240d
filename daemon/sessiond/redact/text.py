"""Escapes blanked in place, so that a rule written for plain text finds what lies in JSON.

A transcript is JSON, and what a tool printed is often JSON within it: `"` arrives as `\\"` or `\\\\\\"`,
a newline as a backslash and an `n` that sticks to the next word. `blank()` makes plain text of it without
moving a byte; `widen()` says which raw bytes a blanked one may come from, so that a trigger over
raw bytes can be derived from a rule over blanked ones.
"""

from __future__ import annotations

import re

_HEX = frozenset(b"0123456789abcdefABCDEF")
_KEEP = {0x22, 0x27, 0x26, 0x3C, 0x3E, 0x3D}  # " ' & < > =: what HTML-safe JSON encoders write as \u00XX
_REMOVED = re.compile(rb"(\\n|\n|: ?\\{0,7}\")-(?=[A-Za-z0-9])")
_UNICODE = re.compile(rb"\\u(?:00([0-9a-fA-F]{2})|2[0-9a-fA-F]{3})")
_LONE = re.compile(rb"\\(?!u[0-9a-fA-F]{4})")
_COLOUR = re.compile(rb"(?:\x1b|\\+u001[bB])\[[0-9;]{0,16}[mK]")
_PERCENT = re.compile(rb"%(?:3[ADad]|2[0267]|0[ADad])")

_LINES = ((b"\\n", b" \n"), (b"\\r", b" \r"), (b"\\t", b" \t"))
# The slashes of a URL stay together: "https:\/\/" is how PHP writes them.
_SLASHES = ((b"\\\\\\/", b"////"), (b"\\\\/", b"///"), (b"\\/", b"//"))

SOURCES: dict[int, frozenset[int]] = {
    0x20: _HEX | frozenset(b"\\u%\x1b[;mK-"),
    0x0A: frozenset(b"n%"),
    0x0D: frozenset(b"r%"),
    0x09: frozenset(b"t"),
    0x22: frozenset(b"0%"),
    0x27: frozenset(b"0%"),
    0x26: frozenset(b"0%"),
    0x3C: frozenset(b"0"),
    0x3E: frozenset(b"0"),
    0x3D: frozenset(b"0%"),
    0x3A: frozenset(b"%"),
    0x2F: frozenset(b"\\"),
}
"""For a byte of blanked text, the raw bytes that it may come from beside itself."""

ESCAPING = _HEX | frozenset(b"\\%unrt")
"""The raw bytes that an escape may hold and that are something else when it is blanked."""

REACH = 32
"""How many bytes before a byte decide what it is blanked to."""


def blank(raw: bytes) -> bytes:
    """Replace JSON and URL escapes by what they stand for, padded with spaces to the same length.

    What a byte becomes depends on the few bytes around it only, so a window of the text can be blanked alone.
    """
    if b"\x1b[" in raw or b"u001" in raw:
        raw = _COLOUR.sub(_spaces, raw)
    if b"n-" in raw or b"\n-" in raw or b'"-' in raw:
        # A removed line of a diff, which may be the first one of a JSON string: several rules take "-" for a part of a
        # word. In a list, '"-' begins an option of a command.
        raw = _REMOVED.sub(rb"\1 ", raw)
    if b"%" in raw:
        raw = _PERCENT.sub(_unescape_percent, raw)
    if b"\\" not in raw:
        return raw
    if b"\\u" in raw:
        raw = _UNICODE.sub(_unescape_unicode, raw)
    for escape, plain in _LINES:
        raw = raw.replace(escape, plain)
    if b"\\/" in raw:
        for escape, plain in _SLASHES:
            raw = raw.replace(escape, plain)
    if b"\\u" in raw:
        return _LONE.sub(b" ", raw)  # \u00e9 is a letter of a password and no place to end it
    return raw.replace(b"\\", b" ")


def _spaces(match: re.Match[bytes]) -> bytes:
    return b" " * len(match[0])


def widen(plain: frozenset[int]) -> frozenset[int]:
    """Add to a set of blanked bytes all raw ones that may become one of them."""
    return plain.union(*(SOURCES[byte] for byte in plain & SOURCES.keys()))


def _unescape_unicode(match: re.Match[bytes]) -> bytes:
    # The character takes the place of the first 0 and not that of the last digit: a trigger in which "=" may
    # be a "d" is met in every other line of English.
    if match[1] is None:
        return b"      "  # an arrow, a line, a bullet: it ends a word, and is none itself
    code = int(match[1], 16)
    if code in _KEEP:
        return b"  %c   " % code
    return b"      " if code < 0x20 else match[0]


def _unescape_percent(match: re.Match[bytes]) -> bytes:
    return b"%c  " % int(match[0][1:], 16)
