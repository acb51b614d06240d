"""From hits to secrets: the rule itself, applied where its trigger was met.

What is found depends on the record around a place and on nothing else: not on what else was hit,
nor on how the records were grouped, nor on which scanner met the trigger. Therefore a rule is tried at each
place where it may begin, instead of going on behind the last match.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from sessiond.redact.cover import fit
from sessiond.redact.rules import Rule
from sessiond.redact.text import REACH, blank

LOOK_BEHIND = 16 + REACH
"""Bytes before a match that may decide on it: its look-behinds and what they are blanked from."""
KEYWORD_REACH = 256
"""How far before a match one of its rule's keywords may be."""
LONGEST_WRAPPED = 32_768
_AHEAD = 1 << 18  # what is blanked beyond a place, for the next one
_FEW, _MANY = 64, 1024  # places of one rule before and between which it is decided whether to remember them
_LONGEST_KEY = 2048
_SPACE = re.compile(rb"\s+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]*")
_STANDARD = bytes.maketrans(b"-_", b"+/")


class Span(msgspec.Struct, frozen=True, order=True, gc=False):
    """A secret: where, the place of its rule in the order of precedence, and what makes it itself."""

    start: int
    end: int
    rank: int
    identity: bytes


Judge = Callable[[bytes, bytes], bool]
"""Says of a secret, raw and reduced, whether it stays: it is covered already, or the user allows it."""


def entropy(value: bytes) -> float:
    """Measure the Shannon entropy of a value in bits a character."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in (value.count(byte) for byte in set(value))) if total else 0.0


def identify(value: bytes) -> bytes:
    """Reduce a blanked value to what is the same however deep it was escaped."""
    return _SPACE.sub(b"", value)


class Case(msgspec.Struct, frozen=True, gc=False):
    """What a rule is tried on: the bytes, where they come from, its place in the order, and who allows what."""

    data: bytes
    path: str
    rule: Rule
    rank: int
    allowed: Judge


def confirm(case: Case, hits: Sequence[tuple[int, int]]) -> Iterator[Span]:
    """Yield the secrets of one rule among its hits: ranges of places where it may begin, in order and apart."""
    data, rule = case.data, case.rule
    if rule.path is not None and case.path and not rule.path.search(case.path):
        return
    reach = rule.shape.reach
    margin = LOOK_BEHIND + (KEYWORD_REACH if rule.keywords else 0)
    begin = end = left = right = ahead = 0
    text = b""
    memory = _Memory(rule)
    for position in _places(data, rule, hits):
        if position >= end:
            begin = data.rfind(b"\n{", 0, position + 1) + 1
            end = data.find(b"\n{", position) + 1 or len(data)
            right = 0
        low, stop = position - margin, position + reach
        low = max(low, begin)
        stop = min(stop, end)
        place = memory.key(data, low, position, stop)
        if place is not None:
            known = memory.verdicts.get(place)
            if known is not None:
                yield from (Span(s.start + position, s.end + position, s.rank, s.identity) for s in known)
                continue
        if stop > right:
            # One window serves many places where they lie dense, and is no longer than needed where they don't.
            ahead = min(2 * ahead + 256, _AHEAD) if position < right else 0
            left = low
            right = min(end, stop + ahead)
            text = blank(data[left : right + REACH])
        match = rule.regex.match(text, position - left, stop - left)
        span = None if match is None else _judge(case, left, text, match)
        if place is not None:
            memory.verdicts[place] = (
                () if span is None else (Span(span.start - position, span.end - position, span.rank, span.identity),)
            )
        if span is not None:
            yield span


class _Memory:
    """What became of the places of one rule, by all the bytes that decide on it: log files repeat themselves.

    It begins where places are many and ends where none is met twice.
    """

    __slots__ = ("_able", "_asked", "verdicts")

    def __init__(self, rule: Rule) -> None:
        # A line may be longer than what is compared.
        self._able = not any(exemption.target == "line" for exemption in rule.exemptions)
        self._asked = 0
        self.verdicts: dict[tuple[int, bytes], tuple[Span, ...]] = {}

    def key(self, data: bytes, low: int, position: int, stop: int) -> tuple[int, bytes] | None:
        """Name a place by what decides on it; None where remembering it would not pay."""
        self._asked += 1
        if not self._able or self._asked < _FEW or stop - low > _LONGEST_KEY:
            return None
        if len(self.verdicts) > _MANY:
            self._able = len(self.verdicts) * 2 < self._asked - _FEW
            self.verdicts.clear()
            self._asked = _FEW
        return position - low, data[low : stop + REACH]


def _places(data: bytes, rule: Rule, hits: Sequence[tuple[int, int]]) -> Iterator[int]:
    """Yield where the rule may match: where its trigger does, among the places that a hit allows."""
    match, width = rule.trigger.match, rule.shape.high
    known: dict[bytes, list[int]] = {}
    asked = 0
    for low, high in hits:
        if low == high:
            yield low
            continue
        asked += 1
        # A trigger looks at the bytes of its match and no others.
        key = data[low : high + width] if asked > _FEW and high - low < _LONGEST_KEY else b""
        places = known.get(key) if key else None
        if places is None:
            places = [
                first.start() - low for first in rule.first.finditer(data, low, high + 1) if match(data, first.start())
            ]
            if key:
                if len(known) > _MANY:
                    known.clear()
                known[key] = places
        for place in places:
            yield low + place


def _judge(case: Case, left: int, text: bytes, match: re.Match[bytes]) -> Span | None:
    rule = case.rule
    group = rule.group or next((n for n in range(1, rule.regex.groups + 1) if match[n]), 0)
    start, end = fit(case.data, left + match.start(group), left + match.end(group))
    identity = identify(match[group] or b"")
    if end <= start or not identity or (rule.entropy and entropy(identity) < rule.entropy):
        return None
    if case.allowed(case.data[start:end], identity) or _exempt(case, text, match, match[group]):
        return None
    return Span(start, end, case.rank, identity)


def _exempt(case: Case, text: bytes, match: re.Match[bytes], value: bytes) -> bool:
    rule = case.rule
    if rule.keywords:
        around = text[max(0, match.start() - KEYWORD_REACH) : match.end()].lower()
        if not any(word in around for word in rule.keywords):
            return True
    return any(
        exemption.applies(value, match[0], _line(text, match) if exemption.target == "line" else b"", case.path)
        for exemption in rule.exemptions
    )


def _line(text: bytes, match: re.Match[bytes]) -> bytes:
    end = text.find(b"\n", match.end())
    return text[text.rfind(b"\n", 0, match.start()) + 1 : end if end >= 0 else len(text)]


class Fragment(msgspec.Struct, frozen=True, gc=False):
    """A part of the base64 form of a prefix that is the same whatever stands around it.

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
