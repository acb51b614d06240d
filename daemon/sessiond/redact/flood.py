"""Masks a window that may have too many secrets: all of its text, whatever it is.

It takes a few passes over the bytes and no step in Python for a secret, a string or an escape. Everything becomes
stars, names and ordinary words as well, and JSON stays valid. A record that lies in the window as a whole becomes an
object with one member, `{"****":1}`. Of a part of a longer record, the structure, line breaks and white space are kept,
and each digit of a number becomes 1.
"""

from __future__ import annotations

import re

from sessiond.redact.cover import fit

# Bytes that no text in UTF-8 holds. They stand for bytes that must not become stars.
_MARKERS = b"\xc0\xc1\xf5\xf6\xf7\xf8\xf9"
_WITHOUT_MARKERS = bytes.maketrans(_MARKERS, b"*" * len(_MARKERS))
_LINE_BREAK, _LITERALS = _MARKERS[:2], _MARKERS[2:]
_KEPT = bytes(range(0x21)) + b'"\x7f' + _LITERALS
_STARS = bytes(byte if byte in _KEPT else 0x2A for byte in range(256))
_STARS = _STARS[: _LINE_BREAK[0]] + b"\\n" + _STARS[_LINE_BREAK[1] + 1 :]
_ONES = bytes.maketrans(b"023456789", b"1" * 9)
_ONES_AND_E = bytes.maketrans(b"023456789E", b"1" * 9 + b"e")
_PUNCTUATION = b",:{}[].+-"
_ALL_BUT_PUNCTUATION = bytes(byte if byte in _PUNCTUATION or byte == 0x31 else _STARS[byte] for byte in range(256))
_ALL_BUT_SIGNS = _ONES.translate(_ALL_BUT_PUNCTUATION)
_SIGNS = _PUNCTUATION + b"0123456789 \t\r\n"
_OUTSIDE = _PUNCTUATION + b"0123456789eE \t\r\n"
_WORDS = [
    (word, bytes((marker,)) * len(word))
    for word, marker in zip((b"true", b"false", b"null", b"Infinity", b"NaN"), _LITERALS, strict=True)
]
_OUTSIDE_LETTERS = _OUTSIDE + b"".join(word for word, _ in _WORDS)
_SAMPLE = 64
"""Parts between quotes that are examined before all of them are: most text is no JSON from its first words on."""
_POWER = re.compile(rb"1e[+-]?1")
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_LITERAL_BEFORE = re.compile(rb"[A-Za-z0-9.+-]{0,16}\Z")
_LITERAL = re.compile(rb"[A-Za-z0-9.+-]{0,16}")
_BYTES_OF_A_STRING = 12  # on average, below which dividing the text at each quote takes too long
_SHORTEST_STRING = 8  # bytes on average, below which the parts would take too much memory
_SHORTEST_RECORD = 64  # bytes of a record on average, from which on each record may be treated by itself


def region(data: bytes, low: int, high: int, reach: int) -> tuple[int, int]:
    """Return the window from `low` to `high` with all that a secret in it may reach, without leaving its records.

    No escape and no character of UTF-8 is cut at the ends.
    """
    begin = max(0, low - reach)
    found_before = data.rfind(b"\n{", begin, low + 2) + 1
    start = found_before or begin
    stop = min(len(data), high + reach)
    found = data.find(b"\n{", max(high - 1, 0), stop) + 1
    end = found or stop
    while start > 0 and data[start - 1] == 0x5C:
        start -= 1
    cut = _CUT_ESCAPE.search(data[max(start, end - 6) : end])
    if cut is not None:
        end -= len(cut[0])
    while end > start and data[end - 1] == 0x5C:
        end -= 1
    if start > 0 and not found_before:
        start -= len(_LITERAL_BEFORE.search(data[max(0, start - 16) : start])[0])  # type: ignore[index]  # may be empty
    end = _LITERAL.match(data, end).end() if end < len(data) else end  # type: ignore[union-attr]  # may be empty
    return fit(data, start, end)


def mask_all(data: bytes, start: int, end: int) -> bytes:
    """Return what is put instead of `data[start:end]`, which ends as `region()` makes it."""
    text = data[start:end]
    records = text.count(b"\n{")
    # Only at the top level does a line end with a brace and the next one begin with one.
    if not records or text.count(b"}\n{") != records or text.count(b"\n", 0, -1) != records:
        return _mask_text(text)
    first, *middle, last = text.split(b"\n{")
    begins = text[:1] == b"{" and (start == 0 or data[start - 2 : start] == b"}\n")
    first = b"{" + _members(len(first) - 1) if begins else _mask_text(first)
    ends = last.endswith((b"}", b"}\n")) and (end == len(data) or data[end : end + 1] == b"{")
    whole = len(last) - last.endswith(b"\n")
    last = _members(whole) + last[whole:] if ends else _mask_text(b"{" + last)[1:]
    return b"\n{".join([first, *[_members(len(record)) for record in middle], last])


def _members(size: int) -> bytes:
    """Return a member of an object and the end of the object, in `size` bytes."""
    return b'"' + b"*" * (size - 5) + b'":1}' if size >= 5 else b" " * (size - 1) + b"}"


def _mask_text(text: bytes) -> bytes:
    """Return a text without its letters and digits; it may be a part of a record."""
    if not text.isascii():
        text = text.translate(_WITHOUT_MARKERS)
    if b"\\" in text:
        # No quote is escaped any longer, and no escape but that of a line break is left.
        text = text.replace(b"\\\\", b"**").replace(b'\\"', b"**").replace(b"\\n", _LINE_BREAK)
    quotes = text.count(b'"')
    if quotes * _BYTES_OF_A_STRING > len(text):
        if quotes * _SHORTEST_STRING < len(text) and _is_without_words(text):
            return text.translate(_ALL_BUT_SIGNS)
        return _mask_words(text)
    whole = _mask_json(text)
    if whole is None and text.count(b"\n{") < len(text) // _SHORTEST_RECORD:
        # One that is no JSON must not make the others invalid.
        whole = b"\n".join([_mask_json(line) or line.translate(_STARS) for line in text.split(b"\n")])
    return whole or text.translate(_STARS)


def _is_without_words(text: bytes) -> bool:
    """Return whether a marked text is JSON with nothing but strings and plain numbers in it."""
    parts = text.split(b'"')
    outside = [b"".join(some) for some in (parts[::2], parts[1::2]) if _is_structure(some)]
    return bool(outside) and not any(some.translate(None, _SIGNS) for some in outside)


def _mask_words(text: bytes) -> bytes:
    """Return a marked text without its letters and digits, inside and outside of strings; JSON's punctuation stays."""
    words = []
    for word, marked in _WORDS:
        replaced = text.replace(word, marked)
        if replaced != text:  # for a word that does not occur, the pass back below is left out
            words.append((word, marked))
            text = replaced
    text = _POWER.sub(_ones, text.translate(_ONES_AND_E))
    text = text.translate(_ALL_BUT_PUNCTUATION)
    for word, marked in words:
        text = text.replace(marked, word)
    return text


def _ones(match: re.Match[bytes]) -> bytes:
    return b"1" * len(match[0])


def _mask_json(text: bytes) -> bytes | None:
    """Return a marked text with stars in its strings; None if the text outside of its strings is not JSON.

    Whether the text begins inside of a string is not known.
    """
    parts = text.split(b'"')
    outside = [first for first in (0, 1) if _is_structure(parts[first::2])]
    if not outside:
        return None
    if len(outside) == 2 and len(parts) > 1:
        return text.translate(_ONES)  # numbers, inside and outside
    first = outside[0]
    masked = text.translate(_STARS).split(b'"')
    if len(parts) > first:
        masked[first::2] = b'"'.join(parts[first::2]).translate(_ONES).split(b'"')
    return b'"'.join(masked)


def _is_structure(parts: list[bytes]) -> bool:
    """Return whether parts of a marked text may be what is between the strings of a JSON text."""
    for text in (b" ".join(parts[:_SAMPLE]), b" ".join(parts)):
        if text.translate(None, _OUTSIDE_LETTERS):
            return False
    for word, _ in _WORDS:
        text = text.replace(word, b"")
    return not text.translate(None, _OUTSIDE)
