"""Escapes blanked in place, so that a rule written for plain text finds what lies in JSON.

A transcript is JSON, and what a tool printed is often JSON within it: `"` arrives as `\\"` or `\\\\\\"`,
a newline as a backslash and an `n` that sticks to the next word. `blank()` makes plain text of it without
moving a byte; `widen()` says which raw bytes a blanked one may come from, so that a trigger over
raw bytes can be derived from a rule over blanked ones.
"""

from __future__ import annotations

import re

_HEX = frozenset(b"0123456789abcdefABCDEF")
_HIGH = frozenset(range(0x80, 0xC0)) | frozenset(b"\xc2\xe2\xe3")
"""The bytes of the symbols that become spaces, in UTF-8."""
_KEEP = {0x22, 0x27, 0x26, 0x3C, 0x3E, 0x3D}  # " ' & < > =: what HTML-safe JSON encoders write as \u00XX
_REMOVED = re.compile(rb"(\\n|\n|: ?\\{0,7}\")-(?=[A-Za-z0-9])")
_UNICODE = re.compile(rb"\\u(?:00([0-9a-fA-F]{2})|2(?:0[0-7]|[1-9a-fA-F][0-9a-fA-F])[0-9a-fA-F])")
_LONE = re.compile(rb"\\(?!u[0-9a-fA-F]{4})")
_COLOUR = re.compile(rb"(?:\x1b|\\+u001[bB])\[[0-9;]{0,16}[mK]")
_PERCENT = re.compile(rb"%(?:3[ADad]|2[0267]|0[ADad])")

_WIDE = (
    rb"(?:\x80[\x80-\x9b\x9f-\xbf]|[\x81\x86-\x93\x96-\xaf][\x80-\xbf]"
    rb"|\x94[\x80\x81\x84-\xbf]|\x95[\x80-\x90\x92-\xbf])"
)
_SYMBOLS = re.compile(
    # It begins with a set of bytes, for which `re` searches six times as fast as for a choice of words.
    rb"[\xc2\xe2\xe3\xef](?:"
    rb"(?:(?<=\xe2)" + _WIDE + rb"|(?<=\xc2)\xa0|(?<=\xe3)\x80\x80)(?:\xe2" + _WIDE + rb"|\xc2\xa0|\xe3\x80\x80)*"
    rb"|(?<=\xef)\xbc[\x9a\x9d]|(?<=\xe2)(?:\x80[\x9c-\x9e]|\x94[\x82\x83]|\x95\x91))"
)  # fmt: skip
"""Runs of arrows, lines, bullets and wide spaces (U+2000 to U+206F, U+2190 to U+2BFF), and the signs of `_SIGNS`."""
_ENDS_BEFORE = frozenset(b" \t\n\r\f\v\"':=")
_ENDS_AFTER = _ENDS_BEFORE | frozenset(b"\\")
"""The bytes beside a run that show that it ends a word. Between the letters of a word it belongs to the word."""
_SIGNS = {
    **dict.fromkeys((b"\xe2\x80\x9c", b"\xe2\x80\x9d", b"\xe2\x80\x9e"), b'"  '),
    **dict.fromkeys((b"\xe2\x94\x82", b"\xe2\x94\x83", b"\xe2\x95\x91"), b"|  "),
    b"\xef\xbc\x9a": b":  ",
    b"\xef\xbc\x9d": b"=  ",
}
_ESCAPED_SIGNS = {
    **dict.fromkeys((b"201c", b"201d", b"201e"), b'   "  '),
    **dict.fromkeys((b"2502", b"2503", b"2551"), b" |    "),
}
"""Quotes, lines of tables, the wide colon and equals sign, and the ASCII character for each."""

_LINES = ((b"\\n", b" \n"), (b"\\r", b" \r"), (b"\\t", b" \t"))
# The slashes of a URL stay together: "https:\/\/" is how PHP writes them.
_SLASHES = ((b"\\\\\\/", b"////"), (b"\\\\/", b"///"), (b"\\/", b"//"))

SOURCES: dict[int, frozenset[int]] = {
    0x20: _HEX | frozenset(b"\\u%\x1b[;mK-") | _HIGH,
    0x0A: frozenset(b"n%"),
    0x0D: frozenset(b"r%"),
    0x09: frozenset(b"t"),
    0x22: frozenset(b"0%\xe2"),
    0x27: frozenset(b"0%"),
    0x26: frozenset(b"0%"),
    0x3C: frozenset(b"0"),
    0x3E: frozenset(b"0"),
    0x3D: frozenset(b"0%\xef"),
    0x3A: frozenset(b"%\xef"),
    0x2F: frozenset(b"\\"),
    0x7C: frozenset(b"u\xe2"),
}
"""For a byte of blanked text, the raw bytes that it may come from beside itself."""

ESCAPING = _HEX | frozenset(b"\\%unrt\xef") | _HIGH
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
    if not raw.isascii():
        raw = _SYMBOLS.sub(_unescape_symbols, raw)
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
    """Return a set of blanked bytes, and the raw bytes that blanking may turn into one of them."""
    return plain.union(*(SOURCES[byte] for byte in plain & SOURCES.keys()))


def _unescape_symbols(match: re.Match[bytes]) -> bytes:
    sign = _SIGNS.get(match[0])
    if sign is not None:
        return sign
    text, start, end = match.string, match.start(), match.end()
    ends_word = (start and text[start - 1] in _ENDS_BEFORE) or (end < len(text) and text[end] in _ENDS_AFTER)
    return _spaces(match) if ends_word else match[0]


def _unescape_unicode(match: re.Match[bytes]) -> bytes:
    # The character takes the place of the first 0 and not that of the last digit: a trigger in which "=" may
    # be a "d" is met in every other line of English.
    if match[1] is None or match[1] in (b"a0", b"A0"):
        # An arrow, a line, a bullet: it ends a word, and is none itself.
        return _ESCAPED_SIGNS.get(match[0][2:].lower(), b"      ")
    code = int(match[1], 16)
    if code in _KEEP:
        return b"  %c   " % code
    return b"      " if code < 0x20 else match[0]


def _unescape_percent(match: re.Match[bytes]) -> bytes:
    return b"%c  " % int(match[0][1:], 16)
