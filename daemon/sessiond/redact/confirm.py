"""Confirms hits: applies the rule where its trigger matched.

The result depends only on the record around a position: not on other hits, on how records were grouped, or on which
scanner matched the trigger. Therefore a rule is tried at each position where it may begin, and not only after the end
of its last match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec

from sessiond.redact.compiled import barrier_finder, seeker, trigger_finder, trigger_matcher
from sessiond.redact.cover import fit
from sessiond.redact.rules import Rule
from sessiond.redact.shape import HEAD
from sessiond.redact.sight import KEYWORD_REACH, LOOK_BEHIND, Sight
from sessiond.redact.text import blank
from sessiond.redact.values import entropy, identify, is_result, repeats_name

_MANY = 64
"""If a rule has more marks in one run of bytes, repeats are looked for: with fewer, that costs more than it saves."""
REFUSED = 3
"""Marks whose values are refused as they are, without trying the rule, for a unit of work."""
_AROUND = 8192  # bytes of a mark's surroundings that are compared at most
_REMEMBERED, _LONGEST_VALUE = 1024, 512


class Span(msgspec.Struct, frozen=True, order=True, gc=False):
    """A secret: its position, the number of its rule in the order of precedence, and its value without white space."""

    start: int
    end: int
    rank: int
    identity: bytes


Judge = Callable[[bytes, bytes], bool]
"""Returns whether a secret, raw and reduced, is left as it is: it is masked already, or the user allows it."""


class Case(msgspec.Struct, frozen=True, gc=False):
    """One rule with the bytes that it is tried on, their path, and the values that are left as they are.

    `refused` holds values that the rule refuses wherever they are. `spend` counts the work.
    """

    sight: Sight
    path: str
    rule: Rule
    rank: int
    allowed: Judge
    refused: set[bytes]
    spend: Callable[[int], None]


def confirm(case: Case, marks: list[int], low: int, high: int, *, ends: bool) -> Iterator[Span]:
    """Yield the secrets of one rule that begin `low` to `high` bytes before a mark, the end of a trigger if `ends`."""
    rule = case.rule
    if rule.path is not None and case.path and not rule.path.search(case.path):
        return
    if rule.inside and ends:
        case.spend(len(marks) // REFUSED + 1)
        marks = [mark for mark in marks if not _is_refused(case, mark - rule.inside)]
    if len(marks) > _MANY:
        marks = _without_repeats(case, marks, low, high)
    last: Span | None = None
    for place in _places(case, marks, low, high):
        span = _try(case, place, last)
        if span is not None:
            last = span
            yield from (span,) if rule.parts is None else _parts(case, span, rule.parts)


def _is_refused(case: Case, start: int) -> bool:
    """Return whether the rule refuses the value at a position wherever it is, as it does most names in source code."""
    value, result, call = case.sight.glance(start)
    if value is None:
        return result or (call and not case.rule.calls)
    if result or value in case.refused:
        return True
    if not any(one.target in ("", "secret") and one.applies(value, value, b"", "") for one in case.rule.exemptions):
        return False
    _refuse(case, value)
    return True


def _refuse(case: Case, value: bytes) -> None:
    """Remember a value that the rule refuses, if it does so in every place."""
    if len(value) <= _LONGEST_VALUE and case.rule.steady:
        if len(case.refused) > _REMEMBERED:
            case.refused.clear()
        case.refused.add(value)


def _parts(case: Case, span: Span, expression: re.Pattern[bytes]) -> Iterator[Span]:
    """Yield the parts of a secret that are masked, such as the values in a list of cookies."""
    data = case.sight.data
    for match in expression.finditer(blank(data[span.start : span.end])):
        case.spend(4)
        group = _first_group(match)
        start, end = fit(data, span.start + match.start(group), span.start + match.end(group))
        if end > start and not case.allowed(data[start:end], identify(match[group])):
            yield Span(start, end, span.rank, identify(match[group]))


def _places(case: Case, marks: list[int], low: int, high: int) -> Iterator[int]:
    """Yield where the rule may match: where its trigger does, among the places that a mark allows."""
    data, shape = case.sight.data, case.rule.shape
    if not marks:
        return  # all were the same, and none of them a secret
    if low == high:
        yield from dict.fromkeys([mark - low for mark in marks])
        return
    if not shape.heads:
        yield from _trigger_places(case, marks, low, high)
        return
    seek = seeker(shape.heads)
    match, matched = trigger_matcher(shape.trigger), case.sight.triggers[shape.trigger]
    for first, last in _ranges(marks, low, high):
        begin = max(0, first - 1)
        text = data[begin : last + HEAD]
        case.spend(1 + len(text) // 64)
        for found in seek(text.lower()):
            place = begin + found.start()
            if place < first:
                continue
            if place > last:
                break
            case.spend(1)
            if place not in matched:
                matched[place] = match(data, place) is not None
            if matched[place]:
                yield place


def _trigger_places(case: Case, marks: list[int], low: int, high: int) -> Iterator[int]:
    """Yield where a trigger matches that may begin with too many bytes: a step in Python for each would take longer."""
    data, shape = case.sight.data, case.rule.shape
    find = trigger_finder(shape.trigger, shape.behind)
    for first, last in _ranges(marks, low, high):
        case.spend(1 + (last - first) // 32)
        for found in find(data, first, last + shape.high):
            if found.start() > last:
                break
            case.spend(1)
            yield found.start()


def _ranges(marks: list[int], low: int, high: int) -> Iterator[tuple[int, int]]:
    """Make ranges of places of marks; those that touch become one."""
    first, last = max(0, marks[0] - high), marks[0] - low
    for mark in marks:
        if mark - high > last + 1:
            yield first, last
            first = mark - high
        last = mark - low
    yield first, last


def _without_repeats(case: Case, marks: list[int], low: int, high: int) -> list[int]:
    """Return the marks without repeats of refused ones, which have the same bytes around them: logs repeat lines.

    These bytes decide on a mark: from the first one of its look-behinds to the last one that the rule examines.
    """
    data, before = case.sight.data, high + case.rule.margin
    while len(marks) > _MANY:
        number = len(marks)
        mark = marks[number // 2]
        around = _around(case, mark, low, high)
        if around is None or any(_try(case, place) is not None for place in _places(case, [mark], low, high)):
            break
        case.spend(len(marks) // 8)
        marks = [mark for mark in marks if not data.startswith(around, mark - before)]
        if len(marks) > number * 0.9:
            break
    return marks


def _around(case: Case, mark: int, low: int, high: int) -> bytes | None:
    """Return all the bytes that decide on a mark; None if they are too many, or if others decide as well."""
    data, rule = case.sight.data, case.rule
    begin, most = mark - high - rule.margin, min(mark - low + rule.shape.reach, mark + _AROUND)
    if begin < 0 or not rule.steady:
        return None
    barrier = rule.shape.barrier
    stopped = barrier_finder(barrier)(data, max(mark - low + rule.shape.tail, mark), most) if barrier else None
    end = most if stopped is None else _last(stopped, rule.shape.ahead)
    whole = stopped is not None or most == mark - low + rule.shape.reach
    return data[begin:end] if whole and end <= len(data) else None


def _last(stopped: re.Match[bytes], ahead: int) -> int:
    """Return where the last byte ends that a rule examines, given the barrier or the end of the record behind it."""
    return stopped.end() if len(stopped[0]) > 1 else stopped.end() + ahead


def _try(case: Case, place: int, last: Span | None = None) -> Span | None:
    """Return the secret that begins at a place. One within `last`, a secret of the same rule, adds nothing to it."""
    rule, shape, sight = case.rule, case.rule.shape, case.sight
    stop = place + shape.reach
    # The bytes up to the barrier are enough. If the window holds more, a search for it would cost more than it saves.
    if shape.barrier and not sight.shows(place, stop):
        stopped = barrier_finder(shape.barrier)(sight.data, place + shape.tail, stop)
        stop = stop if stopped is None else min(_last(stopped, shape.ahead), stop)
    text, left, stop = sight.see(place, LOOK_BEHIND, stop)
    match = rule.regex.match(text, place - left, stop)
    # How far an attempt got that failed can't be known.
    case.spend(4 + ((match.end() - match.start()) // 64 if match else min((left + stop - place) // 256, 32)))
    return None if match is None else _judge(case, match, text, left, last)


def _judge(case: Case, match: re.Match[bytes], text: bytes, left: int, last: Span | None) -> Span | None:
    """Return the secret of a match in a window that begins at `left`, if it is one."""
    rule = case.rule
    case.spend(8)
    group = rule.group
    if not group and match.re.groups:
        group = _first_group(match)
    if last is not None and last.start <= left + match.start(group) and left + match.end(group) <= last.end:
        return None
    value = match[group]
    if not value or value in case.refused:
        return None
    identity = identify(value)
    if not identity or (rule.entropy and entropy(identity) < rule.entropy) or _exempt(case, text, match, group):
        _refuse(case, value)
        return None
    if rule.keywords and not _has_keyword(case, left + match.start(), match[0]):
        return None
    data, start = case.sight.data, left + match.start(group)
    if rule.contextual and (is_result(data, start) or repeats_name(value, text[: match.start(group)])):
        return None
    start, end = fit(data, start, left + match.end(group))
    known = end <= start or case.allowed(data[start:end], identity)
    return None if known else Span(start, end, case.rank, identity)


def _first_group(match: re.Match[bytes]) -> int:
    """Return the number of the first group that matched something, or 0 for the whole match."""
    return next((number for number in range(1, match.re.groups + 1) if match[number]), 0)


def _exempt(case: Case, text: bytes, match: re.Match[bytes], group: int) -> bool:
    return any(
        exemption.applies(
            match[group],
            match[0],
            _line(text, match.start(), match.end()) if exemption.target == "line" else b"",
            case.path,
        )
        for exemption in case.rule.exemptions
    )


def _has_keyword(case: Case, place: int, match: bytes) -> bool:
    """Return whether a match, or the text just before it, holds a keyword of the rule."""
    words, found = case.rule.keywords, match.lower()
    if any(word in found for word in words):
        return True
    text, left, _ = case.sight.see(place, KEYWORD_REACH + LOOK_BEHIND, place + 1)
    around = text[max(0, place - left - KEYWORD_REACH) : place - left].lower() + found
    return any(word in around for word in words)


def _line(text: bytes, start: int, end: int) -> bytes:
    end = text.find(b"\n", end)
    return text[text.rfind(b"\n", 0, start) + 1 : end if end >= 0 else len(text)]
