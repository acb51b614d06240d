"""Text without its layout (colour codes, line prefixes, hard wraps), and where each part of it is in the data.

A rule is written for one unbroken value. Terminals, pagers, `cat -n`, `grep -n`, diffs, quotes and logs break it up.
Here a *view* is made of the bytes around such a place: a list of pieces of the data, in order. The rules are applied to
the joined pieces, and what they find is masked piece by piece, so the decoration between them stays readable.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator

import msgspec

from sessiond.redact.lines import (
    BREAK,
    MOST_BYTES,
    MOST_LINES,
    TOKEN,
    columns,
    line_end,
    line_start,
    openings,
    plain,
    prefix_length,
    text_start,
)
from sessiond.redact.rules import Rule

_RECORD = re.compile(rb"\n\{")
_ESCAPE = rb"(?:\x1b|\\{1,8}u001[bB])"  # with `+` a run of backslashes would cost its square
_LINK = rb"\]8;[^\x07\x1b\\\s]{0,300}(?:\x07|\\+u0007|" + _ESCAPE + rb"\\+)"
COLOUR = re.compile(rb"(?:" + _ESCAPE + rb"(?:\[[0-9;:?]{0,24}[A-Za-z]|" + _LINK + rb"))+")
_DIVIDED = re.compile(rb"(" + COLOUR.pattern + rb")")
COLOUR_TRIGGER = r"(?:\x1b|u001[bB])(?:\[|\])"
_AROUND = 8192  # bytes on each side of a colour code that a view holds
_MARGIN = 512  # bytes at the cut end of a view in which matches are ignored
_NESTED = 4
"""Walks over the same lines that go on to the end of the value; further ones take only the next line."""
_SHORTEST = 16  # characters of a token
_TOKEN_BYTES = bytes(byte for byte in range(0x80) if TOKEN.match(bytes((byte,))))
_USUAL_WIDTHS = frozenset((64, 72, 76, 78, 79, 80, 100, 120, 132))
_FEW = 8
"""A value of which a line ends with fewer characters was wrapped only if the line has a usual width."""
_WIDE = 40
"""No terminal has fewer columns."""
_NARROWEST = 16
"""Lines that are equally wide were wrapped if they have so many columns."""
_MOST = 16
"""With so many characters at the end of a line of a usual width, what completes a token belongs to it, even a word."""
# Possessive: a run of letters can be divided into words in many ways, and `re` would try all of them.
_WORDS = re.compile(rb"(?:[A-Z]?[a-z]++[_.-]?+)++|[A-Z_.-]+|[A-Za-z_][A-Za-z0-9_.]{0,40}=.*", re.DOTALL)
_AFTER_WORD = re.compile(rb"[:;,.)]*(?:[\s\x01\"']|$)")


class View(msgspec.Struct, frozen=True):
    """Pieces of the data, joined. `starts` are their positions in the text, `origins` their positions in the data."""

    text: bytes
    starts: list[int]
    origins: list[int]
    low: int
    """A match that begins before this position is ignored, since the view begins within a record."""
    high: int
    widths: tuple[int, ...] = ()
    """For wrapped lines the columns of each, without its prefix."""
    line: int = 0
    """For wrapped lines the columns of the first one with its prefix."""
    commands: bool = False
    """Whether the text was made of lists of arguments, in which only rules for commands are applied."""
    decoded: bool = False
    """Whether each second piece is one encoded character, which is masked with the text around it."""

    def ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Iterate over the parts of the data that a part of the text comes from."""
        if self.decoded:
            yield self._origin(start), self._origin(end)
            return
        index = bisect.bisect_right(self.starts, start) - 1
        while start < end:
            stop = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.text)
            origin = self.origins[index] + start - self.starts[index]
            part = min(end, stop) - start
            if part > 0:
                yield origin, origin + part
            start, index = start + part, index + 1

    def _origin(self, place: int) -> int:
        index = bisect.bisect_right(self.starts, place) - 1
        return self.origins[index] + place - self.starts[index]

    def trim(self, start: int, end: int, complete: Callable[[int, int], bool], *, contextual: bool) -> int:
        """Return where a value on several lines ends.

        `complete(start, cut)` returns whether the value is complete without its last line. That line then belongs to
        it only if a terminal wrapped the text: the lines before are equally wide, and the last part is no word. If the
        line is needed, it must not be the first word of ordinary text. A value that only its name makes a secret
        (`contextual`) needs a first line of a usual width, and a part that is no word.
        """
        while (last := bisect.bisect_left(self.starts, end) - 1) > 0 and (cut := self.starts[last]) > start:
            first = max(0, bisect.bisect_right(self.starts, start) - 1)
            usual = self.widths[first] in _USUAL_WIDTHS or (first == 0 and self.line in _USUAL_WIDTHS)
            if contextual and cut - start < _FEW and not usual:
                end = cut
                continue
            if complete(start, cut) or (contextual and not usual):
                if self._is_wrapped(self.widths[first : last + 1], cut, end):
                    break
            elif self._completes(start, cut, end, usual=usual, contextual=contextual):
                break
            end = cut
        return end

    def _completes(self, start: int, cut: int, end: int, *, usual: bool, contextual: bool) -> bool:
        """Return whether the part of a line from `cut` to `end` completes the value before it."""
        if contextual and self._is_word(start, cut) and self._is_word(cut, end):
            return False
        return self._is_alone(end) or not self._is_word(cut, end) or (usual and cut - start >= _MOST)

    def _is_word(self, start: int, end: int) -> bool:
        """Return whether a part of the text is one or more words, or the beginning of an assignment."""
        return _WORDS.fullmatch(self.text[start:end].rstrip(b":;,.)")) is not None

    def _is_wrapped(self, widths: tuple[int, ...], cut: int, end: int) -> bool:
        if widths[0] < (_WIDE if len(widths) == 2 else _NARROWEST) or widths[-1] > widths[0]:
            return False
        if any(width != widths[0] for width in widths[1:-1]):
            return False
        if not self._is_word(cut, end):
            return True
        sure = len(widths) > 2 or widths[0] in _USUAL_WIDTHS
        return sure and (widths[-1] == widths[0] or (self._is_alone(end) and end - cut <= 3))

    def _is_alone(self, end: int) -> bool:
        """Return whether a line ends where a value does."""
        return self.text[end : end + 1] in b'\n\r\\"'


def without_colours(data: bytes, ranges: Iterable[tuple[int, int]], spend: Callable[[int], None]) -> Iterator[View]:
    """Iterate over views of the data around the colour codes in each range."""
    for low, high in ranges:
        first = COLOUR.search(data, low, high)
        if first is None:
            continue
        mark, last = first.start(), max(data.rfind(b"\x1b", low, high), data.rfind(b"u001", low, high))
        start = max(0, mark - _AROUND)
        begin = data.rfind(b"\n{", start, mark) + 1
        stop = min(last + _AROUND, len(data))
        end = data.find(b"\n{", max(last, mark), stop)
        whole_left, whole_right = begin > 0 or start == 0, end >= 0 or stop == len(data)
        start, stop = begin or start, end if end >= 0 else stop
        codes = data.count(b"\x1b", start, stop) + data.count(b"u001", start, stop)
        spend(8 + codes // 3 + (stop - start) // 512)
        # Text and codes in turn. No step in Python for a code: programs print thousands of them.
        parts = _DIVIDED.split(data[start:stop])
        sizes = list(map(len, parts))
        origins = list(itertools.accumulate(sizes, initial=start))[:-1:2]
        starts = list(itertools.accumulate(sizes[::2], initial=0))
        length = starts.pop()
        left, right = 0 if whole_left else _MARGIN, 0 if whole_right else _MARGIN
        yield View(b"".join(parts[::2]), starts, origins, left, length - right)


def without_wraps(
    data: bytes, marks: Iterable[int], begins: re.Pattern[bytes], named: frozenset[int], spend: Callable[[int], None]
) -> Iterator[View]:
    """Iterate over views of values on several lines; a mark is one byte after the end of the first line.

    `named` holds the marks of values with a name before them. A line that begins like a secret (`begins`) begins
    another value.
    """
    walked, nested = 0, 0
    for mark in marks:
        # If each line of a long text begins a value, a walk from each over all following lines would be quadratic.
        nested = nested + 1 if mark < walked else 0
        spend(6)
        most = MOST_LINES if nested <= _NESTED else 2
        found = BREAK.match(data, mark - 1)
        if found is None or data[found.start() : found.start() + 2] == b"\n{":
            continue
        low = line_start(data, mark - 1)
        if mark not in named and mark - low < _WIDE and _SHORT.search(data, low, mark - 1):
            continue  # a short setting in a short line, of which files have thousands: no terminal broke it
        head, position, pieces = plain(data[low : mark - 1]), found.end(), [(low, mark - 1)]
        widths, follow, text = [columns(head)], 0, 0
        while len(pieces) < most and position - low < MOST_BYTES:
            spend(5)
            line = plain(data[position : line_end(data, position)])
            if len(pieces) == 1 and mark not in named and not _may_go_on(head, line):
                break
            text, skip = text_start(head, line) if len(pieces) == 1 else (text, prefix_length(head[text:], line))
            piece = TOKEN.match(line, skip)
            if piece is None or line[skip - 1 : skip] == b"*" or begins.match(line, skip):
                break
            if len(pieces) == 1 and mark in named and _are_words(head, line, skip, piece.end()):
                break
            pieces.append((position + skip, position + piece.end()))
            widths.append(columns(piece[0]))
            if len(widths) == 2:
                own = text + prefix_length(line, head[text:])
                widths[0] = columns(head[own:]) if text else _first_width(head, head[own:], widths[1])
                pieces[0] = (low if text else low + own, mark - 1)  # the name may be before the quote
            follow = position + piece.end()
            found = BREAK.match(data, follow)
            if found is None or data[follow : follow + 2] == b"\n{" or widths[-1] < widths[0]:
                break
            position = found.end()
        if len(pieces) > 1:
            end = _RECORD.search(data, follow, follow + 32)
            walked = max(walked, follow)
            pieces[-1] = (pieces[-1][0], end.start() if end else min(len(data), follow + 32))
            yield msgspec.structs.replace(_join(data, pieces, 0, 0), widths=tuple(widths), line=columns(head[text:]))


def _may_go_on(head: bytes, line: bytes) -> bool:
    """Return whether the end of a line and a word of the next one may be the two parts of a token.

    Together they must be as long as the shortest token, and one of them must not be a word. Half of all lines fail
    this test.
    """
    own = head[len(head.rstrip(_TOKEN_BYTES)) :].rpartition(b"=")[2]
    if not _WORDS.fullmatch(own) and len(own) >= _SHORTEST // 2:
        return True
    words = [word for word in TOKEN.findall(line) if len(own) + len(word) >= _SHORTEST]
    return any(not _WORDS.fullmatch(word) for word in words) or (bool(words) and not _WORDS.fullmatch(own))


def _are_words(head: bytes, line: bytes, start: int, end: int) -> bool:
    """Return whether the end of a line and the beginning of the next one are words that no terminal divided.

    A value of words continues only after a line of a usual width, or on a second line that is as wide as the first:
    `View.trim` refuses all others. This test spares a scan for most lines of a program that end with a name.
    """
    if b'"' in head:  # the first line of a JSON string begins behind the quote
        return False
    width = columns(head)
    if width >= min(_USUAL_WIDTHS) or end - start >= _NARROWEST:
        own = len(head) - prefix_length(line, head)
        if width in _USUAL_WIDTHS or own in _USUAL_WIDTHS or own == end - start:
            return False
    if not _AFTER_WORD.match(line, end):
        return False
    last = head[len(head.rstrip(_TOKEN_BYTES)) :].rpartition(b"=")[2]
    return bool(_WORDS.fullmatch(last)) and bool(_WORDS.fullmatch(line[start:end].rstrip(b".")))


def _join(data: bytes, pieces: list[tuple[int, int]], left: int, right: int) -> View:
    starts, length = [], 0
    for start, end in pieces:
        starts.append(length)
        length += end - start
    text = b"".join([data[start:end] for start, end in pieces])
    return View(text, starts, [start for start, _ in pieces], left, length - right)


def _first_width(head: bytes, content: bytes, second: int) -> int:
    """Return the columns of a first line; where it is the start of a JSON string, the line begins behind the quote."""
    begin = head.rfind(b'"') + 1
    widths = [columns(head[begin:])]
    if head[begin : begin + 1] in (b"{", b"["):  # JSON in the string of a record: a string of the inner one is the line
        widths += [columns(head[start:]) for start in openings(head) if start > begin]
    if second in widths:
        return second
    return widths[-1] if head[:1] == b"{" else columns(content)


class Wraps:
    """The beginnings of secrets, and the triggers for one that continues on the next line."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        starts = {m.partition("<")[0] for rule in rules if not rule.contextual for m in rule.match}
        heads = {_shorten(start) for start in starts if start.split() == [start]}
        heads = {head for head in heads if len(head) >= 3 and _HEAD.fullmatch(head)}
        whole = "|".join(sorted(re.escape(head) for head in heads))
        run = r"[A-Za-z0-9_.~+/=%-]"
        end = r"[\\\n\r]"
        self.begins = re.compile(f"(?:{whole})".encode()) if heads else re.compile(b"(?!)")
        # After a beginning that is a word ("pat") there must be a capital letter or a digit.
        begun = "|".join(sorted(re.escape(head) + ("[a-z]{0,8}[A-Z0-9]" if _LETTERS(head) else "") for head in heads))
        self.begun = rf"{_BOUNDARY}(?:{begun}){run}*{end}|{_ASSIGNED}{run}{{1,7}}{end}" if heads else ""
        self.named = f"{_NAMED}{run}{{8}}{run}*{end}"


def _shorten(head: str) -> str:
    """Return the first four characters of a beginning, enough to find a divided value; a word or number stays whole."""
    return head[:8] if (head[:4].islower() and head[:4].isalpha()) or head[:4].isdigit() else head[:4]


# A word character before a beginning is possible only as the last one of an escape.
_SHORT = re.compile(rb"[:=][ \\\"']{0,9}[^ \\\"':=]{1,7}\Z")
_BOUNDARY = r"(?:^|[^A-Za-z0-9_]|\\[bfnrt]|[0-9a-fA-F]{2})"
_LETTERS = re.compile("[a-z]+").fullmatch
_HEAD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]+")
_NAMED = r"(?i:passw(?:or)?d|secret|token|[_-]key|apikey|bearer|basic)[\\\"' ]{0,4}[:=]?[ ]?[\\\"']{0,4}"
_ASSIGNED = r"(?i:passw(?:or)?d|secret|token|[_-]key|apikey)[\\\"']{0,4} ?[:=] ?[\\\"']{0,4}"
_ASSIGNED = rf"(?:{_ASSIGNED}|(?i:authorization)[\\\"']{{0,4}}: ?[\\\"']{{0,4}}[A-Za-z]{{1,20}} )"
"""A name of which most of the value may be on the next line. It needs a sign, which prose does not have."""
