"""From a rule's expression the cheap trigger that can't miss it, and how wide both are.

A rule is written once, for plain text. What scans the raw bytes is derived from it: assertions are
dropped, each byte class is widened by the escapes it may stand for, the end is cut to its shortest form (so
that one secret is one hit and not one for each of its bytes), and at the first long repeat the trigger
ends. Every step accepts more, never less: wherever the rule matches, the trigger has.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Sequence, Set
from typing import Any

import msgspec

from sessiond.redact.text import ESCAPING, widen

# The parser of `re` has no public name. What is used of it is unchanged since 3.11; a new kind of node is refused.
_parser: Any = importlib.import_module("re._parser")

LONGEST_REPEAT = 160
"""A repeat more elastic than this ends the trigger: hyperscan pays for each of its states."""
LONGEST_MATCH = 32_768  # a PEM key of 16,384 bits is 13 KB
OPEN_REACH = 4096
"""How far an expression without an upper bound may look."""


class Shape(msgspec.Struct, frozen=True):
    """The trigger of a rule: what it matches, its least and greatest width, and what it may begin with.

    `reach` is how far the rule itself may look. From `tail` bytes behind its beginning it never looks past a
    byte of the class `barrier` (which may be empty): no part of it matches one there, and no escape holds one.
    Before it comes what the expression `front` matches (or nothing), if that is not empty. `heads` are the beginnings
    that a trigger may have, in lower case, if they are few.
    """

    trigger: str
    low: int
    high: int
    first: str
    reach: int
    barrier: str
    tail: int
    front: str
    heads: tuple[bytes, ...]
    scanned: str = ""
    """A cheaper expression that is searched for instead of the trigger; it ends within `before` bytes of where the
    trigger begins."""
    before: int = 0
    behind: str = ""
    """The class of bytes of which one comes before, where the expression begins with a look-behind for it."""


Heads = frozenset[tuple[bytes, bool]]
"""How something may begin, in lower case, and whether that is all of it; none: in too many ways to tell."""
HEAD, _MOST_HEADS = 3, 64


class _Part(msgspec.Struct, frozen=True):
    text: str
    low: int
    high: int
    first: frozenset[int] = frozenset()
    stop: bool = False
    nodes: int = 0
    """How many parts of a sequence it was made of."""
    heads: Heads = frozenset()


_ANYTHING: Heads = frozenset({(b"", False)})
_NOTHING: Heads = frozenset({(b"", True)})
_EMPTY = _Part("", 0, 0, heads=_NOTHING)
_ALL = frozenset(range(256))


def derive(pattern: bytes, cheap: bytes = b"") -> Shape:
    """Derive the trigger of an expression, or of a `cheap` one that matches from wherever that does.

    Raises: ValueError where the expression could match nothing at all, or uses what can't be derived from.
    """
    tree = _parser.parse(pattern)
    width, flags, nodes = int(tree.getwidth()[1]), int(tree.state.flags), list(tree)
    part = _sequence(nodes, flags, tail=True)
    if part.low == 0:
        raise ValueError("it can match without a single character of its own")
    reach = OPEN_REACH if width > LONGEST_MATCH else width + 2
    barrier = _ALL - _alphabet(nodes[part.nodes - 1 :], flags) - ESCAPING
    shape = Shape(
        part.text,
        part.low,
        part.high,
        write_class(part.first),
        reach,
        write_class(barrier) if barrier else "",
        part.high,
        _front(nodes[0], flags, part.first),
        _beginnings(part.heads),
        behind=_behind(nodes[0], flags),
    )
    if not cheap:
        return shape
    own = derive(cheap)
    return msgspec.structs.replace(own, reach=reach, barrier=shape.barrier, tail=shape.tail, front=shape.front)


def forget() -> None:
    """Drop the caches that make deriving many rules fast: a megabyte that only the start needs."""
    _one.cache_clear()
    _members.cache_clear()


def _beginnings(heads: Heads) -> tuple[bytes, ...]:
    """List the beginnings, those that begin with another one left out; none where there would be no end of it."""
    texts = {text for text, _ in heads}
    if b"" in texts:
        return ()
    return tuple(sorted(text for text in texts if not any(text[:n] in texts for n in range(1, len(text)))))


def _join(left: Heads, right: Heads) -> Heads:
    joined = {
        ((text + more)[:HEAD], last and len(text + more) < HEAD) if whole else (text, False)
        for text, whole in left
        for more, last in (right if whole else ((b"", False),))
    }
    return frozenset(joined) if len(joined) <= _MOST_HEADS else _ANYTHING


def _front(node: Any, flags: int, first: frozenset[int]) -> str:
    """Return what may come before an expression that begins with a boundary or a look-behind for one byte.

    An escape is written out and not reduced to its last byte: otherwise a hex digit would be a boundary, and a run
    of one letter would be confirmed at each of its bytes.
    """
    kind, value = str(node[0]), node[1]
    allowed: frozenset[int] = frozenset()
    if kind == "AT" and str(value) == "AT_BOUNDARY" and first <= _CATEGORIES["CATEGORY_WORD"]:
        allowed = _CATEGORIES["CATEGORY_NOT_WORD"]
    elif kind == "ASSERT_NOT" and value[0] < 0 and len(value[1]) == 1 and str(value[1][0][0]) in ("LITERAL", "IN"):
        allowed = _ALL - _bytes(str(value[1][0][0]), value[1][0][1], flags)
    # A newline comes before each record. Blanked escapes leave whitespace, a quote, or one of "&<>=:/".
    return f"{write_class(allowed)}|{_ESCAPES}" if 0x0A in allowed else ""


def _behind(node: Any, flags: int) -> str:
    """Return the class of raw bytes before an expression that begins with a look-behind for one byte."""
    while str(node[0]) == "SUBPATTERN" and len(node[1][3]):
        node = node[1][3][0]
    kind, value = str(node[0]), node[1]
    if kind == "ASSERT" and value[0] < 0 and len(value[1]) == 1 and str(value[1][0][0]) in ("LITERAL", "IN"):
        return write_class(widen(_bytes(str(value[1][0][0]), value[1][0][1], flags)))
    return ""


_ESCAPES = r"\\[bfnrt]|\\u[0-9a-fA-F]{4}|%[0-9a-fA-F]{2}|(?:\n|\\n)-"


def _alphabet(nodes: Sequence[Any], flags: int) -> frozenset[int]:
    """Collect all bytes that any part of an expression may match, or look at to go on."""
    found: frozenset[int] = frozenset()
    for kind, value in ((str(node[0]), node[1]) for node in nodes):
        if kind in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            found |= _bytes(kind, value, flags)
        elif kind == "AT":
            if str(value) in ("AT_END", "AT_END_STRING", "AT_END_LINE"):
                return _ALL  # where the text ends decides
        elif kind == "SUBPATTERN":
            found |= _alphabet(list(value[3]), (flags | value[1]) & ~value[2])
        elif kind == "BRANCH":
            found = found.union(*(_alphabet(list(arm), flags) for arm in value[1]))
        elif kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT", "ASSERT", "ASSERT_NOT"):
            found |= _alphabet(list(value[-1]), flags)
        else:
            return _ALL
    return found


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
    first, heads = frozenset[int](), _NOTHING
    for part in reversed(parts):
        first = part.first if part.low else part.first | first
    for part in parts:
        heads = _join(heads, part.heads)
    text, low, high = "".join(p.text for p in parts), sum(p.low for p in parts), sum(p.high for p in parts)
    return _Part(text, low, high, first, stop, len(parts), heads if not stop else _join(heads, _ANYTHING))


def _node(node: Any, flags: int, *, tail: bool) -> _Part:
    kind, value = str(node[0]), node[1]
    if kind in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
        return _one(_bytes(kind, value, flags))
    if kind in ("AT", "ASSERT", "ASSERT_NOT"):
        return _EMPTY
    if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        return _repeat(int(value[0]), int(value[1]), value[2], flags, tail=tail)
    if kind == "SUBPATTERN":
        inner = _sequence(list(value[3]), (flags | value[1]) & ~value[2], tail=tail)
        text = f"(?:{inner.text})" if inner.text else ""
        return _Part(text, inner.low, inner.high, inner.first, inner.stop, heads=inner.heads)
    if kind == "ATOMIC_GROUP":
        return _sequence(list(value), flags, tail=tail)
    if kind == "BRANCH":
        arms = [_sequence(list(arm), flags, tail=tail) for arm in value[1]]
        text = "|".join(arm.text for arm in arms)
        low, high = min(arm.low for arm in arms), max(arm.high for arm in arms)
        first = frozenset().union(*(arm.first for arm in arms))
        heads = frozenset[tuple[bytes, bool]]().union(*(arm.heads for arm in arms))
        return _Part(f"(?:{text})", low, high, first, any(arm.stop for arm in arms), heads=heads)
    raise ValueError(f"{kind.lower().replace('_', ' ')} is not supported")


@functools.lru_cache(1024)
def _one(plain: frozenset[int]) -> _Part:
    """Make the part that is one byte of a class. Rules share few classes, and to write one costs a tenth of a rule."""
    members = widen(plain)
    letters = {bytes((byte,)).lower() for byte in members}
    heads = frozenset((letter, True) for letter in letters) if len(letters) <= 4 else _ANYTHING
    return _Part(write_class(members), 1, 1, members, heads=heads)


def _repeat(least: int, most: int, body: Any, flags: int, *, tail: bool) -> _Part:
    inner = _sequence(list(body), flags, tail=False)
    if inner.stop:
        return inner if least else _Part("", 0, 0, stop=True, heads=_ANYTHING)
    elastic = (most - least) * max(inner.high, 1) > LONGEST_REPEAT
    if tail or elastic:
        most = least
    if most == 0 or not inner.text:
        return _Part("", 0, 0, stop=elastic, heads=_ANYTHING if elastic else _NOTHING)
    count = "" if least == most == 1 else f"{{{least}}}" if least == most else f"{{{least},{most}}}"
    body_text = inner.text if inner.high == 1 and inner.text.startswith("[") else f"(?:{inner.text})"
    heads = inner.heads if most == 1 else frozenset((text, False) for text, _ in inner.heads)
    if least == 0:
        heads |= _NOTHING
    return _Part(f"{body_text}{count}", inner.low * least, inner.high * most, inner.first, elastic, heads=heads)


def _bytes(kind: str, value: Any, flags: int) -> frozenset[int]:
    if kind == "ANY":
        return _ALL if flags & re.DOTALL else _ALL - {0x0A}
    members = tuple((str(what), inner) for what, inner in value) if kind == "IN" else (("LITERAL", value),)
    return _members(kind == "NOT_LITERAL", members, bool(flags & re.IGNORECASE))


@functools.lru_cache(1024)
def _members(negated: bool, members: tuple[tuple[str, Any], ...], any_case: bool) -> frozenset[int]:
    found: set[int] = set()
    for what, inner in members:
        if what == "NEGATE":
            negated = True
        elif what == "LITERAL":
            found.add(int(inner))
        elif what == "RANGE":
            found.update(range(int(inner[0]), int(inner[1]) + 1))
        else:
            found.update(_CATEGORIES[str(inner)])
    if any_case:
        found |= {ord(chr(byte).swapcase()) for byte in found if byte < 0x80}
    return _ALL - found if negated else frozenset(found)


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


def write_class(members: Set[int]) -> str:
    """Write a set of bytes so that `re` and hyperscan read it alike."""
    ranges: list[list[int]] = []
    for byte in sorted(members):
        if ranges and byte == ranges[-1][1] + 1:
            ranges[-1][1] = byte
        else:
            ranges.append([byte, byte])
    return "[" + "".join(f"\\x{a:02x}" if a == b else f"\\x{a:02x}-\\x{b:02x}" for a, b in ranges) + "]"
