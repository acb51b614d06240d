"""From a rule's expression the cheap trigger that can't miss it, and how wide both are.

A rule is written once, for plain text. What scans the raw bytes is derived from it: assertions are
dropped, each byte class is widened by the escapes it may stand for, the end is cut to its shortest form (so
that one secret is one hit and not one for each of its bytes), and at the first long repeat the trigger
ends. Every step accepts more, never less: wherever the rule matches, the trigger has.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence, Set
from typing import Any

import msgspec

from sessiond.redact.text import widen

# The parser of `re` has no public name. What is used of it is unchanged since 3.11, and tests hold each rule
# to its trigger; a new kind of node is refused by name.
_parser: Any = importlib.import_module("re._parser")

LONGEST_REPEAT = 160
"""A repeat more elastic than this ends the trigger: hyperscan pays for each of its states."""
LONGEST_MATCH = 32_768
"""No match is longer; a PEM key of 16,384 bits is 13 KB."""
OPEN_REACH = 4096
"""How far an expression without an upper bound may look."""


class Shape(msgspec.Struct, frozen=True):
    """The trigger of a rule: what it matches, its least and greatest width, and what it may begin with.

    `reach` is how far the rule itself may look.
    """

    trigger: str
    low: int
    high: int
    first: str
    reach: int


class _Part(msgspec.Struct, frozen=True):
    text: str
    low: int
    high: int
    first: frozenset[int] = frozenset()
    stop: bool = False


_EMPTY = _Part("", 0, 0)
_ALL = frozenset(range(256))


def derive(pattern: bytes) -> Shape:
    """Derive the trigger of an expression.

    Raises: ValueError where the expression could match nothing at all, or uses what can't be derived from.
    """
    tree = _parser.parse(pattern)
    reach = int(tree.getwidth()[1])
    part = _sequence(list(tree), int(tree.state.flags), tail=True)
    if part.low == 0:
        raise ValueError("it can match without a single character of its own")
    return Shape(part.text, part.low, part.high, _class(part.first), OPEN_REACH if reach > LONGEST_MATCH else reach + 2)


def _sequence(nodes: Sequence[Any], flags: int, *, tail: bool) -> _Part:
    parts: list[_Part] = []
    for node in nodes:
        parts.append(_node(node, flags, tail=False))
        if parts[-1].stop:
            break
    stop = bool(parts) and parts[-1].stop
    if tail or stop:
        while parts:
            last = _node(nodes[len(parts) - 1], flags, tail=True)
            if last.low:
                parts[-1] = last
                break
            parts.pop()
    first: frozenset[int] = frozenset()
    for part in parts:
        first |= part.first
        if part.low:
            break
    return _Part("".join(p.text for p in parts), sum(p.low for p in parts), sum(p.high for p in parts), first, stop)


def _node(node: Any, flags: int, *, tail: bool) -> _Part:
    kind, value = str(node[0]), node[1]
    if kind in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
        members = widen(_bytes(kind, value, flags))
        return _Part(_class(members), 1, 1, frozenset(members))
    if kind in ("AT", "ASSERT", "ASSERT_NOT"):
        return _EMPTY
    if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        return _repeat(int(value[0]), int(value[1]), value[2], flags, tail=tail)
    if kind == "SUBPATTERN":
        inner = _sequence(list(value[3]), (flags | value[1]) & ~value[2], tail=tail)
        return _Part(f"(?:{inner.text})" if inner.text else "", inner.low, inner.high, inner.first, inner.stop)
    if kind == "ATOMIC_GROUP":
        return _sequence(list(value), flags, tail=tail)
    if kind == "BRANCH":
        arms = [_sequence(list(arm), flags, tail=tail) for arm in value[1]]
        text = "|".join(arm.text for arm in arms)
        low, high = min(arm.low for arm in arms), max(arm.high for arm in arms)
        first = frozenset().union(*(arm.first for arm in arms))
        return _Part(f"(?:{text})", low, high, first, any(arm.stop for arm in arms))
    raise ValueError(f"{kind.lower().replace('_', ' ')} is not supported")


def _repeat(least: int, most: int, body: Any, flags: int, *, tail: bool) -> _Part:
    inner = _sequence(list(body), flags, tail=False)
    if inner.stop:
        return inner if least else _Part("", 0, 0, stop=True)
    elastic = (most - least) * max(inner.high, 1) > LONGEST_REPEAT
    if tail or elastic:
        most = least
    if most == 0 or not inner.text:
        return _Part("", 0, 0, stop=elastic)
    count = "" if least == most == 1 else f"{{{least}}}" if least == most else f"{{{least},{most}}}"
    body_text = inner.text if inner.high == 1 and inner.text.startswith("[") else f"(?:{inner.text})"
    return _Part(f"{body_text}{count}", inner.low * least, inner.high * most, inner.first, elastic)


def _bytes(kind: str, value: Any, flags: int) -> set[int]:
    if kind == "ANY":
        return set(_ALL) if flags & re.DOTALL else set(_ALL) - {0x0A}
    found: set[int] = set()
    negated = kind == "NOT_LITERAL"
    for item in value if kind == "IN" else [("LITERAL", value)]:
        what, inner = str(item[0]), item[1]
        if what == "NEGATE":
            negated = True
        elif what == "LITERAL":
            found.add(int(inner))
        elif what == "RANGE":
            found.update(range(int(inner[0]), int(inner[1]) + 1))
        else:
            found.update(_CATEGORIES[str(inner)])
    if flags & re.IGNORECASE:
        found |= {ord(chr(byte).swapcase()) for byte in found if byte < 0x80}
    return set(_ALL - found) if negated else found


def _category(expression: bytes) -> frozenset[int]:
    return frozenset(byte for byte in _ALL if re.match(expression, bytes((byte,))))


_CATEGORIES = {
    "CATEGORY_DIGIT": _category(rb"\d"),
    "CATEGORY_NOT_DIGIT": _category(rb"\D"),
    "CATEGORY_SPACE": _category(rb"\s"),
    "CATEGORY_NOT_SPACE": _category(rb"\S"),
    "CATEGORY_WORD": _category(rb"\w"),
    "CATEGORY_NOT_WORD": _category(rb"\W"),
}


def _class(members: Set[int]) -> str:
    """Write a set of bytes so that `re` and hyperscan read it alike."""
    ranges: list[list[int]] = []
    for byte in sorted(members):
        if ranges and byte == ranges[-1][1] + 1:
            ranges[-1][1] = byte
        else:
            ranges.append([byte, byte])
    return "[" + "".join(f"\\x{a:02x}" if a == b else f"\\x{a:02x}-\\x{b:02x}" for a, b in ranges) + "]"
