"""Covers a secret: the length stays, valid JSON stays valid, and covering twice changes nothing.

Escapes, quotes and control characters inside a secret are kept, so a key of many lines keeps its lines; an escaped
letter becomes an escaped star. A masked value consists of `*`. A hashed one is `*` and then hex digits of a keyed hash:
only who has the key can see where the same secret appears again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b

_KEPT = re.compile(rb"\\+(?:u[0-9a-fA-F]{4}|[\"'/bfnrtu])?|[\"\x00-\x1f\x7f]+")
_ESCAPED_LETTER = re.compile(rb"(\\+)u00(?:3[0-9]|[46][1-9a-fA-F]|[57][0-9aA])")
"""A letter or digit that JSON need not have escaped. It becomes the escape of a star; what else is escaped stays."""
_FIRST = b'*\\"\x7f' + bytes(range(0x20))
_COVERED = re.compile(rb"\*+")
_HASHED = re.compile(rb"\*[0-9a-f]*")
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_HEX4 = re.compile(rb"[0-9a-fA-F]{0,4}")
# What is between the strings of a JSON text. A star there would make the JSON invalid.
# Possessive: a run of digits can be divided into numbers in many ways, and `re` would try all of them.
_STRUCTURE = re.compile(rb"(?:[\s,:{}\[\]]|-?\d[\d.eE+-]*+|true|false|null|-?Infinity|NaN)++")
_BEFORE_NUMBER = frozenset(b" \t\r\n:,[{.-+eE0123456789")
_AFTER_NUMBER = frozenset(b" \t\r\n,]}:.-+eE0123456789")


def fit(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Move the ends of a secret so that they cut neither an escape nor a character of UTF-8."""
    cut = _CUT_ESCAPE.search(data[max(0, start - 6) : start])
    if cut is not None:
        if len(cut[0]) > 1:
            start += len(_HEX4.match(data[start : start + 6 - len(cut[0])])[0])  # type: ignore[index]  # it may be empty
        elif data[start : start + 1] == b"u":
            start += 1 + len(_HEX4.match(data[start + 1 : start + 5])[0])  # type: ignore[index]  # it may be empty
        elif data[start : start + 1] in b'bfnrt/"':
            start += 1
    for _ in range(3):
        if start < end and data[start] & 0xC0 == 0x80:
            start += 1
        if end < len(data) and end > start and data[end] & 0xC0 == 0x80:
            end += 1
    return start, max(start, end)


def covered(secret: bytes, hashed: bool) -> bool:
    """Return whether a text is covered already: by stars or, if `hashed`, by a hash."""
    if secret[:1] not in _FIRST:
        return False
    bare = _KEPT.sub(b"", secret)
    return _COVERED.fullmatch(bare) is not None or (hashed and _HASHED.fullmatch(bare) is not None)


def cover(data: bytes, start: int, end: int, key: bytes | None, identity: bytes) -> bytes:
    """Return the text that replaces `data[start:end]`: a hash of `identity` if there is a key, stars otherwise."""
    secret = data[start:end]
    filler = _filler(key, identity)
    out: list[bytes] = []
    position = 0
    for part in secret.split(b'"'):
        stop = position + len(part)
        if position:
            out.append(b'"')
        before = data[start + position - 1] if start + position else 0x20
        after = data[start + stop] if start + stop < len(data) else 0x20
        if _STRUCTURE.fullmatch(part) and _is_structure(before, after, position > 0, stop < len(secret)):
            out.append(re.sub(rb"\d", b"1", part))
        else:
            out.append(_cover_part(part, filler))
        position = stop + 1
    return b"".join(out)


def _is_structure(before: int, after: int, inner_left: bool, inner_right: bool) -> bool:
    return (inner_left or before in _BEFORE_NUMBER) and (inner_right or after in _AFTER_NUMBER)


def _cover_part(part: bytes, filler: Iterator[int] | None) -> bytes:
    out: list[bytes] = []
    position = 0
    for kept in _KEPT.finditer(part):
        out += (_take(kept.start() - position, filler), _ESCAPED_LETTER.sub(rb"\1u002a", kept[0]))
        position = kept.end()
    out.append(_take(len(part) - position, filler))
    return b"".join(out)


def _take(count: int, filler: Iterator[int] | None) -> bytes:
    return b"*" * count if filler is None else bytes(next(filler) for _ in range(count))


def _filler(key: bytes | None, identity: bytes) -> Iterator[int] | None:
    if key is None:
        return None
    return _digits(key, identity)


def _digits(key: bytes, identity: bytes) -> Iterator[int]:
    yield 0x2A
    counter = 0
    while True:
        # A long secret needs more than one block; blake2b accepts at most 64 bytes of key.
        block = blake2b(identity, digest_size=32, key=key[:64], salt=counter.to_bytes(8, "big"))
        yield from block.hexdigest().encode()
        counter += 1
