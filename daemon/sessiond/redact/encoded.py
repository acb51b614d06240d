"""Text in which characters are encoded: as entities of XML, as `%3A` of a URL, or as `\\u0070` of JSON.

`text.blank()` decodes what JSON and forms of a URL contain everywhere. What is here is rarer, so it is decoded only
around a place that may concern a secret: a name of a secret before an entity, an encoded `://`, or an ASCII letter that
JSON need not have escaped. The entities are those of XML (https://www.w3.org/TR/xml/#sec-predefined-ent), encoded once
or more often, and numeric references (https://www.w3.org/TR/xml/#sec-references).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator

from sessiond.redact.layout import View

ENCODED_TRIGGER = (
    r"(?i:pass|pwd|secret|token|key|cred|salt)[\w.-]{0,20}&(?:amp;){0,2}(?:gt|quot|apos|#)"
    r"|%(?:25)?3[Aa]%(?:25)?2[Ff]%(?:25)?2[Ff]|u00[46][1-9A-Fa-f]|u00[57][0-9Aa]"
)
"""What may be the name of a secret, or a URL, in encoded text."""
_NAMED = {b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
_ENCODED = re.compile(
    rb"&(?:amp;){0,3}(?:lt|gt|quot|apos|amp|#[0-9]{2,3}|#[xX][0-9A-Fa-f]{2});"
    rb"|%(?:25){0,2}[2-7][0-9A-Fa-f]|\\{1,8}u00[2-7][0-9A-Fa-f]"
)
_DIVIDED = re.compile(rb"(" + _ENCODED.pattern + rb")")
_BACK, _AHEAD = 256, 1024
"""Bytes before the first place and after the last one that a view holds: more than a name and its value have."""
_MARGIN_BACK, _MARGIN_AHEAD = 16, 64
"""Bytes at the cut ends of a view in which no match is believed."""


def without_encoding(data: bytes, marks: Iterable[int], spend: Callable[[int], None]) -> Iterator[View]:
    """Iterate over views of the decoded text around the marks, which are in order; no two views overlap."""
    for low, high in _windows(data, marks):
        parts = _DIVIDED.split(data[low:high])
        spend(8 + (high - low) // 256 + len(parts) // 8)
        if len(parts) == 1:
            continue
        origins = list(itertools.accumulate(map(len, parts), initial=low))[:-1]
        parts[1::2] = map(_decode, parts[1::2])
        starts = list(itertools.accumulate(map(len, parts), initial=0))
        length = starts.pop()
        begins = low == 0 or data[low - 1 : low + 1] == b"\n{"
        ends = high == len(data) or data[high : high + 2] == b"\n{"
        left, right = 0 if begins else _MARGIN_BACK, 0 if ends else _MARGIN_AHEAD
        yield View(b"".join(parts), starts, origins, left, length - right, decoded=True)


def _decode(encoded: bytes) -> bytes:
    """Return the one character that an escape stands for; the name of an entity may be encoded itself."""
    if encoded[:1] in (b"%", b"\\"):
        return _character(int(encoded[-2:], 16))
    name = encoded[1:-1].replace(b"amp;", b"")
    if name[:1] == b"#":
        return _character(int(name[2:], 16) if name[1:2] in b"xX" else int(name[1:]))
    return _NAMED.get(name, b"&")


def _character(code: int) -> bytes:
    return b"%c" % code if 0x20 <= code < 0x7F else b" "


def _windows(data: bytes, marks: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Iterate over the parts of the data around the marks, each within a record."""
    low = high = -1
    for mark in marks:
        begin = max(0, mark - _BACK)
        begin = data.rfind(b"\n{", begin, mark) + 1 or begin
        if begin <= high - _MARGIN_AHEAD and low >= 0:
            high = max(high, _end(data, mark))
            continue
        if high >= 0:
            yield low, high
        low, high = max(begin, high), _end(data, mark)
    if high >= 0:
        yield low, high


def _end(data: bytes, mark: int) -> int:
    end = min(len(data), mark + _AHEAD)
    found = data.find(b"\n{", mark, end)
    return end if found < 0 else found
