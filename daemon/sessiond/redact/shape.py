"""Derives from the expression of a rule a cheap trigger that never misses it.

A rule is written once, for plain text. A scanner searches the raw bytes for its trigger, which is the same expression
without conditions. Each class of bytes is widened by the escapes that may be decoded to one of it. The end is cut to
its shortest form, so that one secret is reported once and not for each of its bytes. The trigger ends at the first
long repeat. Each step accepts more and never less: wherever the rule matches, the trigger matches too.
"""

from __future__ import annotations

import functools
from collections.abc import Set

import msgspec

from sessiond.redact.syntax import ALL, WORD, Anchor, Choice, Group, Look, Node, OneByte, Repeat, Sequence, parse, width
from sessiond.redact.text import ESCAPING, widen

LONGEST_REPEAT = 160
"""Bytes by which the length of a repeat may vary. A longer one ends the trigger: each of its states costs time."""
LONGEST_MATCH = 32_768  # a PEM key of 16,384 bits is 13 KB
OPEN_REACH = 4096
"""Bytes that an expression without an upper bound may examine."""
MOST_AHEAD = 64
"""Bytes that a condition may examine behind a barrier; a wider one is taken as a part of the expression."""


class Shape(msgspec.Struct, frozen=True):
    """The trigger of a rule, and the bytes around the trigger that the rule may examine."""

    trigger: str
    low: int
    """The least width of the trigger, in bytes."""
    high: int
    """The greatest width of the trigger, in bytes."""
    first: str
    """The class of the trigger's first byte."""
    reach: int
    """The number of bytes that the rule may examine from its beginning on."""
    barrier: str
    """A class of bytes of which no escape holds one, and which the rule does not match after its first `tail` bytes. So
    it examines at most `ahead` bytes after one. "" if there is none."""
    tail: int
    ahead: int
    front: str
    """An expression for the text before a trigger that does not begin the data; "" if any text may be there."""
    heads: tuple[bytes, ...]
    """The possible beginnings of the trigger in lower case, if they are few."""
    scanned: str = ""
    """A cheaper expression that is searched for instead of the trigger; it ends within `before` bytes of the beginning
    of the trigger."""
    before: int = 0
    behind: str = ""
    """The class of the byte before, if the expression begins with a look-behind for one byte."""


Heads = frozenset[tuple[bytes, bool]]
"""The beginnings that something may have, in lower case, and whether each is all of it."""
HEAD, _MOST_HEADS = 3, 64


class _Part(msgspec.Struct, frozen=True):
    text: str
    low: int
    high: int
    first: frozenset[int] = frozenset()
    stop: bool = False
    nodes: int = 0
    """The number of nodes of a sequence that it was made of."""
    heads: Heads = frozenset()


_ANYTHING: Heads = frozenset({(b"", False)})
_NOTHING: Heads = frozenset({(b"", True)})
_EMPTY = _Part("", 0, 0, heads=_NOTHING)


def derive(pattern: bytes, cheap: bytes = b"") -> Shape:
    """Return the trigger of an expression, or of a `cheap` one that matches wherever the expression matches.

    Raises: ValueError if the expression may match no byte, or uses syntax from which no trigger can be derived.
    """
    nodes = parse(pattern)
    while len(nodes) == 1 and isinstance(nodes[0], Group):  # flags for all of it
        nodes = nodes[0].body
    part = _sequence(nodes, tail=True)
    if part.low == 0:
        raise ValueError("it can match without a single character of its own")
    widest, ahead = width(nodes), _ahead(nodes)
    barrier = ALL - _alphabet(nodes[part.nodes - 1 :]) - ESCAPING
    shape = Shape(
        part.text,
        part.low,
        part.high,
        write_class(part.first),
        OPEN_REACH if widest > LONGEST_MATCH else widest + 2,
        write_class(barrier) if barrier and ahead <= MOST_AHEAD else "",
        part.high,
        ahead,
        _front(nodes[0], part.first),
        _beginnings(part.heads),
        behind=_behind(nodes[0]),
    )
    if not cheap:
        return shape
    own = derive(cheap)
    return msgspec.structs.replace(
        own, reach=shape.reach, barrier=shape.barrier, tail=shape.tail, ahead=shape.ahead, front=shape.front
    )


def forget() -> None:
    """Clear the cache that makes it fast to derive many triggers: only the start needs it."""
    _one.cache_clear()


def _beginnings(heads: Heads) -> tuple[bytes, ...]:
    """Return the beginnings without those that begin with another one; none if something else is possible."""
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


def _front(node: Node, first: frozenset[int]) -> str:
    """Return what may come before an expression that begins with a boundary or a look-behind for one byte.

    A whole escape is written and not its last byte alone: otherwise a hex digit would be a boundary, and the rule would
    be tried at each byte of a run of one letter.
    """
    allowed: frozenset[int] = frozenset()
    if isinstance(node, Anchor) and node.kind == "boundary" and first <= WORD:
        allowed = ALL - WORD
    elif isinstance(node, Look) and node.negative:
        allowed = ALL - _byte_before(node) if _byte_before(node) else allowed
    # A newline comes before each record. Decoded escapes leave white space, a quote, or one of "&<>=:/".
    return f"{write_class(allowed)}|{_ESCAPES}" if 0x0A in allowed else ""


def _behind(node: Node) -> str:
    """Return the class of raw bytes before an expression that begins with a look-behind for one byte."""
    while isinstance(node, Group) and node.body:
        node = node.body[0]
    if isinstance(node, Look) and not node.negative and _byte_before(node):
        return write_class(widen(_byte_before(node)))
    return ""


def _byte_before(look: Look) -> frozenset[int]:
    """Return the class of a look-behind for one byte; an empty one for other conditions."""
    only = look.body[0] if len(look.body) == 1 and not look.ahead else None
    return only.members if isinstance(only, OneByte) else frozenset()


_ESCAPES = r"\\[bfnrt]|\\u[0-9a-fA-F]{4}|%[0-9a-fA-F]{2}|(?:\n|\\n|\x22)-"


def _alphabet(nodes: Sequence) -> frozenset[int]:
    """Return all bytes that a part of an expression may match, except for conditions."""
    found: frozenset[int] = frozenset()
    for node in nodes:
        match node:
            case OneByte():
                found |= node.members
            case Group() | Repeat():
                found |= _alphabet(node.body)
            case Choice():
                found = found.union(*map(_alphabet, node.arms))
            case Anchor(kind="end"):
                return ALL  # where the text ends decides
    return found


def _ahead(nodes: Sequence) -> int:
    """Return how many bytes behind its own place a condition in an expression may examine."""
    most = 0
    for node in nodes:
        match node:
            case Anchor():
                most = max(most, 1)
            case Look():
                most = max(most, width(node.body) + _ahead(node.body) if node.ahead else 1)
            case Group() | Repeat():
                most = max(most, _ahead(node.body))
            case Choice():
                most = max(most, *map(_ahead, node.arms))
    return most


def _sequence(nodes: Sequence, *, tail: bool) -> _Part:
    parts: list[_Part] = []
    for node in nodes:
        parts.append(_node(node, tail=False))
        if parts[-1].stop:
            break
    stop = bool(parts) and parts[-1].stop
    if tail or stop:
        while parts:
            last = _node(nodes[len(parts) - 1], tail=True)
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


def _node(node: Node, *, tail: bool) -> _Part:
    match node:
        case OneByte():
            return _one(node.members)
        case Repeat():
            return _repeat(node, tail=tail)
        case Group():
            inner = _sequence(node.body, tail=tail)
            text = f"(?:{inner.text})" if inner.text else ""
            return _Part(text, inner.low, inner.high, inner.first, inner.stop, heads=inner.heads)
        case Choice():
            arms = [_sequence(arm, tail=tail) for arm in node.arms]
            text = "|".join(arm.text for arm in arms)
            low, high = min(arm.low for arm in arms), max(arm.high for arm in arms)
            first = frozenset[int]().union(*(arm.first for arm in arms))
            heads = frozenset[tuple[bytes, bool]]().union(*(arm.heads for arm in arms))
            return _Part(f"(?:{text})", low, high, first, any(arm.stop for arm in arms), heads=heads)
    return _EMPTY  # conditions


@functools.lru_cache(1024)
def _one(plain: frozenset[int]) -> _Part:
    """Return the part that is one byte of a class. Rules share few classes, and to write one takes a while."""
    members = widen(plain)
    letters = {bytes((byte,)).lower() for byte in members}
    heads = frozenset((letter, True) for letter in letters) if len(letters) <= 4 else _ANYTHING
    return _Part(write_class(members), 1, 1, members, heads=heads)


def _repeat(node: Repeat, *, tail: bool) -> _Part:
    inner, least, most = _sequence(node.body, tail=False), node.least, node.most
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


def write_class(members: Set[int]) -> str:
    """Return a class of bytes in a syntax that `re` and hyperscan read alike."""
    ranges: list[list[int]] = []
    for byte in sorted(members):
        if ranges and byte == ranges[-1][1] + 1:
            ranges[-1][1] = byte
        else:
            ranges.append([byte, byte])
    return "[" + "".join(f"\\x{a:02x}" if a == b else f"\\x{a:02x}-\\x{b:02x}" for a, b in ranges) + "]"
