"""Secrets inside Base64: where to decode, and where in the encoded text a secret is."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

import msgspec

from sessiond.redact.confirm import Span

LONGEST_WRAPPED = 32_768
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]*")
_STANDARD = bytes.maketrans(b"-_", b"+/")


class Fragment(msgspec.Struct, frozen=True, gc=False):
    """A part of the base64 form of a prefix that is the same whatever is around it.

    It begins `skip` characters into a group of four.
    """

    text: bytes
    skip: int


def fragments(prefixes: Iterable[str]) -> tuple[Fragment, ...]:
    """Make the three forms that each prefix has in base64, one for each place in a group of three bytes."""
    made: dict[bytes, Fragment] = {}
    for prefix in prefixes:
        raw = prefix.encode()
        for shift, skip in ((0, 0), (1, 2), (2, 3)):
            whole = (shift + len(raw)) * 8 // 6
            text = base64.b64encode(b"\0" * shift + raw + b"\0\0")[skip:whole]
            made.setdefault(text, Fragment(text, skip))
    return tuple(made.values())


def unwrap(data: bytes, start: int, skip: int) -> tuple[int, bytes]:
    """Decode the base64 around a fragment that starts at `start`; with it goes where the decoded part begins."""
    begin = start - skip
    # A little of what stands before it tells a name from a value ("password=" in front).
    for _ in range(16):
        if begin < 4 or _BASE64.fullmatch(data[begin - 4 : begin]) is None:
            break
        begin -= 4
    run = _BASE64.match(data, max(begin, 0), max(begin, 0) + LONGEST_WRAPPED)
    if begin < 0 or run is None:
        return start, b""
    text = run[0].translate(_STANDARD)
    if len(text) % 4 == 1:
        text = text[:-1]
    return begin, base64.b64decode(text + b"=" * (-len(text) % 4))


def rewrap(begin: int, span: Span, data: bytes) -> Span:
    """Place a secret that was found in decoded base64: the groups of four characters that hold it."""
    start, end = begin + span.start // 3 * 4, begin + -(-span.end // 3) * 4
    run = _BASE64.match(data, start, end)
    return Span(start, run.end() if run is not None else start, span.rank, span.identity)
