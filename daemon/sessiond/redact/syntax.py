"""A parser for the regular expressions of rules.

The syntax is that of Python's `re` for bytes (https://docs.python.org/3/library/re.html#regular-expression-syntax).
Back-references, conditions and comments are refused: no trigger can be derived from them. `re` itself compiles the
expressions for matching. This parser only describes them for `shape`, so it need not detect every error.
"""

from __future__ import annotations

import functools
import re
from typing import Literal, TypeAlias

import msgspec

ALL = frozenset(range(256))
UNBOUNDED = 1 << 32
"""The number of repetitions of `*` and `+`."""


class OneByte(msgspec.Struct, frozen=True):
    """One byte of a class."""

    members: frozenset[int]


class Anchor(msgspec.Struct, frozen=True):
    """A condition on a position, such as the one that `$` and `\\b` make."""

    kind: Literal["start", "line start", "end", "boundary", "not boundary"]


class Look(msgspec.Struct, frozen=True):
    """A condition on the bytes after a position, or before it."""

    body: tuple[Node, ...]
    ahead: bool
    negative: bool


class Repeat(msgspec.Struct, frozen=True):
    """A sequence that is repeated `least` to `most` times."""

    body: tuple[Node, ...]
    least: int
    most: int


class Group(msgspec.Struct, frozen=True):
    """A sequence in parentheses that capture, set flags or don't give back what they matched."""

    body: tuple[Node, ...]


class Choice(msgspec.Struct, frozen=True):
    """Alternatives: one of several sequences is matched."""

    arms: tuple[tuple[Node, ...], ...]


Node: TypeAlias = OneByte | Anchor | Look | Repeat | Group | Choice
Sequence: TypeAlias = tuple[Node, ...]


def parse(pattern: bytes) -> Sequence:
    """Return the parts of an expression. Raises: ValueError if it uses what is not supported."""
    parser = _Parser(pattern)
    found = tuple(parser.choice(0))
    if parser.position < len(pattern):
        raise ValueError(f"unbalanced parenthesis at position {parser.position}")
    return found


def is_anchored(pattern: bytes) -> bool:
    """Return whether an expression matches at the start of a text only. Raises: ValueError, as `parse()`."""
    nodes = parse(pattern)
    while nodes and isinstance(nodes[0], Group):
        nodes = nodes[0].body
    return bool(nodes) and nodes[0] == Anchor("start")


def width(nodes: Sequence) -> int:
    """Return the greatest number of bytes that a sequence matches; `UNBOUNDED` or more if there is no limit."""
    return sum(map(_width, nodes))


def _width(node: Node) -> int:
    match node:
        case OneByte():
            return 1
        case Repeat():
            return node.most * width(node.body)
        case Group():
            return width(node.body)
        case Choice():
            return max(map(width, node.arms))
    return 0


def _category(expression: bytes) -> frozenset[int]:
    return frozenset(b"".join(re.findall(expression, bytes(range(256)))))


WORD = _category(rb"\w")
_CATEGORIES = {name: _category(b"\\" + bytes((name,))) for name in b"dDsSwW"}
_CONTROLS = dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True))
_ANCHORS = {
    b"^": Anchor("start"),
    b"\\A": Anchor("start"),
    b"$": Anchor("end"),
    b"\\Z": Anchor("end"),
    b"\\b": Anchor("boundary"),
    b"\\B": Anchor("not boundary"),
}
_COUNT = re.compile(rb"\{(\d*)(,?)(\d*)\}")
_GROUP = re.compile(rb"\?(?:P<\w+>|>|(<?[=!])|([aimsx]*)(?:-([imsx]+))?([:)]))")
_HEX = re.compile(rb"x([0-9a-fA-F]{2})")
_OCTAL = re.compile(rb"0[0-7]{0,2}|[0-3][0-7]{2}")
_IGNORECASE, _DOTALL, _MULTILINE, _ASCII = 1, 2, 4, 8
_FLAGS = {ord("i"): _IGNORECASE, ord("s"): _DOTALL, ord("m"): _MULTILINE, ord("a"): _ASCII}


class _Parser:
    """Reads one expression from left to right."""

    def __init__(self, pattern: bytes) -> None:
        self._pattern = pattern
        self.position = 0

    def choice(self, flags: int) -> list[Node]:
        """Read sequences up to a parenthesis that closes, or to the end."""
        first, flags = self._sequence(flags)
        arms = [first]
        while self._next() == b"|":
            self.position += 1
            arms.append(self._sequence(flags)[0])
        return arms[0] if len(arms) == 1 else _join(arms)

    def _next(self) -> bytes:
        return self._pattern[self.position : self.position + 1]

    def _sequence(self, flags: int) -> tuple[list[Node], int]:
        """Read nodes up to `|` or `)`, and return the flags at their end: `(?i)` sets them for all that follows."""
        nodes: list[Node] = []
        while (sign := self._next()) not in (b"", b"|", b")"):
            if sign == b"(":
                found, flags = self._group(flags)
            else:
                found = [self._one(flags)]
            nodes += self._repeated(found)
        return nodes, flags

    def _repeated(self, body: list[Node]) -> list[Node]:
        sign, count = self._next(), _COUNT.match(self._pattern, self.position)
        if sign and sign in b"*+?":
            least, most, end = int(sign == b"+"), 1 if sign == b"?" else UNBOUNDED, self.position + 1
        elif sign == b"{" and count is not None and (count[1] or count[2]):
            least, end = int(count[1] or 0), count.end()
            most = int(count[3] or UNBOUNDED) if count[2] else least
        else:
            return body
        if not body:
            raise ValueError(f"nothing to repeat at position {self.position}")
        self.position = end
        if (sign := self._next()) and sign in b"?+":  # how much is tried first decides nothing here
            self.position += 1
        return [Repeat(tuple(body), least, most)]

    def _group(self, flags: int) -> tuple[list[Node], int]:
        """Read a group; without flags and a number it is no more than its parts."""
        self.position += 1
        plain, look = False, b""
        if self._next() == b"?":
            head = _GROUP.match(self._pattern, self.position)
            if head is None:
                raise ValueError(f"the group at position {self.position - 1} is not supported")
            self.position = head.end()
            look, added, removed = head[1] or b"", head[2] or b"", head[3] or b""
            inner = _change(flags, added, removed)
            if head[4] == b")":
                return [], inner
            plain = head[4] == b":" and not added and not removed
        else:
            inner = flags
        body = self.choice(inner)
        if self._next() != b")":
            raise ValueError("missing ), unterminated subpattern")
        self.position += 1
        if look:
            return [Look(tuple(body), look[:1] != b"<", look.endswith(b"!"))], flags
        return (list(body) if plain else [Group(tuple(body))]), flags

    def _one(self, flags: int) -> Node:
        sign = self._next()
        self.position += 1
        if sign in (b"*", b"+", b"?"):
            raise ValueError(f"nothing to repeat at position {self.position - 1}")
        anchor = _ANCHORS.get(sign + self._next() if sign == b"\\" else sign)
        if anchor is not None:
            self.position += sign == b"\\"
            return Anchor("line start") if sign == b"^" and flags & _MULTILINE else anchor
        if sign == b"[":
            return OneByte(self._class(flags))
        if sign == b".":
            return OneByte(ALL if flags & _DOTALL else ALL - {0x0A})
        return OneByte(_cases(self._escape() if sign == b"\\" else frozenset(sign), flags))

    def _escape(self) -> frozenset[int]:
        """Read what follows a backslash: one byte, or a category."""
        number = _HEX.match(self._pattern, self.position) or _OCTAL.match(self._pattern, self.position)
        if number is not None:
            self.position = number.end()
            return frozenset((int(number[1], 16) if number.re is _HEX else int(number[0], 8),))
        sign = self._next()
        self.position += 1
        if not sign or (sign.isalnum() and sign[0] not in _CATEGORIES and sign[0] not in _CONTROLS):
            raise ValueError(f"the escape at position {self.position - 2} is not supported")
        return _CATEGORIES.get(sign[0]) or frozenset((_CONTROLS.get(sign[0], sign[0]),))

    def _class(self, flags: int) -> frozenset[int]:
        negated = self._next() == b"^"
        self.position += negated
        found, first = frozenset[int](), self.position
        while (sign := self._next()) != b"]" or self.position == first:
            if not sign:
                raise ValueError("unterminated character set")
            low = self._member()
            following = self._pattern[self.position : self.position + 2]
            if following[:1] == b"-" and following[1:] not in (b"]", b""):
                self.position += 1
                high = self._member()
                found |= frozenset(range(min(low), max(high) + 1))
            else:
                found |= low
        self.position += 1
        found = _cases(found, flags)
        return ALL - found if negated else found

    def _member(self) -> frozenset[int]:
        sign = self._next()
        self.position += 1
        return self._escape() if sign == b"\\" else frozenset(sign)


def _change(flags: int, added: bytes, removed: bytes) -> int:
    for names, add in ((added, True), (removed, False)):
        for name in names:
            if name not in _FLAGS:
                raise ValueError(f"the flag {chr(name)} is not supported")
            flags = flags | _FLAGS[name] if add else flags & ~_FLAGS[name]
    return flags


@functools.lru_cache(1024)
def _cases(members: frozenset[int], flags: int) -> frozenset[int]:
    """Add the other case of each letter if the case does not matter."""
    if not flags & _IGNORECASE:
        return members
    return members | {ord(chr(byte).swapcase()) for byte in members if byte < 0x80}


def _join(arms: list[list[Node]]) -> list[Node]:
    """Return one choice of several sequences, with a common beginning in front of it."""
    common: list[Node] = []
    while all(arms) and all(arm[0] == arms[0][0] for arm in arms):
        common.append(arms[0][0])
        arms = [arm[1:] for arm in arms]
    if all(len(arm) == 1 and isinstance(arm[0], OneByte) for arm in arms):
        members = (arm[0].members for arm in arms if isinstance(arm[0], OneByte))
        return [*common, OneByte(frozenset[int]().union(*members))]
    return [*common, Choice(tuple(map(tuple, arms)))]
