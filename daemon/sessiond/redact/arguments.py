"""Lists of arguments as the command line that they stand for: `["curl", "-u", "me:..."]` as `curl -u me:...`.

A rule for a command expects white space between its arguments. Programs, containers and services are given a list
instead: in JSON, YAML, XML or code. A view (layout.py) of such a list has one space for each separator.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator

from sessiond.redact.layout import View

ARGUMENT_TRIGGER = (
    r"(?:[\"'>\[]|[,-] |u0000)"
    r"(?:-[uUpPawbtsk][\"'\\\n,<]|-[uUpPaw][^\s\"'\\<,]{4}|--[a-zA-Z]|config)"
    r"| \\(?:\n|\\\\n|\\{5}n)[ +>#-]"
)
"""An option or the command `config`, where it may be in a list, or the end of a continued line of a command.

A short option is matched with the character behind it or, if its value is joined to it, with four: most of those in
prose and in calls have neither. More of a long option would make a scan of source code a third slower.
It consists of short literals: with the names of options in it, a scan of source code would take three times as long.
"""
_QUOTE = rb"\\{0,15}[\"']"
_NEWLINE = rb"(?:(?:\\{1,8}r)?\\{1,8}n|\r?\n)"
_SPACE = rb"(?:[ \t]|" + _NEWLINE + rb"|\\{1,8}t){0,40}"
_NO_KEY = rb"(?![\w.-]{0,64}" + _QUOTE + rb"[ ]?:)"  # the name of the next member of an object is no argument
_QUOTED = rb"(?:" + _SPACE + rb",(?:" + _SPACE + rb"\[)?|\)" + _SPACE + rb"\.arg\(|[ ])" + _SPACE + _QUOTE + _NO_KEY
_NUMBER = rb"(?:[ ]{0,8}[0-9]{1,7}(?:\xe2\x86\x92|\\{1,8}u2192|\\{1,8}t|[\t:|]))?"
_DASH = _NUMBER + rb"[ ]{0,40}-[ ]{1,4}(?:" + _QUOTE + rb")?"
_TAG = rb"(?:string|arg|argument|param|value|item)>"
# Each way to begin with a literal, so that `re` skips to the next candidate instead of trying each byte.
_WAYS = (
    *(quote + rb"(?:" + _QUOTED + rb"|" + _NEWLINE + _DASH + rb")" for quote in (rb"\"", rb"'")),
    rb"\\(?:\\{0,14}[\"'](?:" + _QUOTED + rb"|" + _NEWLINE + _DASH + rb"))",
    rb"\\(?:(?:\\{0,7}r\\)?\\{0,7}n" + _DASH + rb"|\\{0,7}u0000)",
    rb"\\(?:\n|\\\\n|\\{5}n)[+>#-]?[ \t]{1,40}",  # a continued line of a command
    rb"\n" + _DASH,
    rb"\r\n" + _DASH,
    rb",[ ]{1,2}(?=[^\[\]{}\"'\\\n]{1,200}\])",  # in one line of YAML
    rb"</" + _TAG + _SPACE + rb"(?:<" + _TAG + rb")?",
)
_SEPARATOR = re.compile(rb"(" + rb"|".join(_WAYS) + rb")")
_OPTION = re.compile(rb"(-[\w-]++)" + _SEPARATOR.pattern + rb"(?!-)")
_SHORT = frozenset(rb"uUpPawb")
_CONTINUES = frozenset(b" +>#-")
"""What a continued line begins with, or a sign before it."""
_NAMED = re.compile(rb"(?i)[\w-]{0,64}?(?:pass|token|secret|key|user|value|literal)")
_NAMES = (b"pass", b"token", b"secret", b"key", b"user", b"value", b"literal")
_JOINED = re.compile(rb"-[uUpPaw](?=[^\s\"'\\<,]{0,40}[^a-z\s\"'\\<,-])[^\s\"'\\<,]{4}")
_ANY_OPTION = re.compile(
    rb" -(?:[uUpPawb][^\w-]|[pu]\w|-?[a-z-]{0,24}(?:pass|token|secret|key|user|value|literal))|secrets? set "
)
_BACK, _AHEAD = 512, 1536
"""Bytes before the first option and after the last one that a view holds: more than a command and its secret have."""
_MARGIN_BACK, _MARGIN_AHEAD = 64, 256
"""Bytes at the cut ends of a view in which no match is believed."""


def without_separators(data: bytes, marks: Iterable[int], spend: Callable[[int], None]) -> Iterator[View]:
    """Iterate over views of the lists of arguments around the marks, which are in order; no two views overlap."""
    for low, high in _windows(data, marks):
        spend(8 + (high - low) // 256)
        parts = _SEPARATOR.split(data[low:high])
        if len(parts) == 1:
            continue
        spend(len(parts) // 8)
        sizes = list(map(len, parts))
        origins = list(itertools.accumulate(sizes, initial=low))[:-1:2]
        starts = list(itertools.accumulate((size + 1 for size in sizes[::2]), initial=0))
        length = starts.pop() - 1
        begins = low == 0 or data[low - 1 : low + 1] == b"\n{"
        ends = high == len(data) or data[high : high + 2] == b"\n{"
        left, right = 0 if begins else _MARGIN_BACK, 0 if ends else _MARGIN_AHEAD
        yield View(b" ".join(parts[::2]), starts, origins, left, length - right, commands=True)


def _windows(data: bytes, marks: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Iterate over the parts of the data around the relevant marks, each within a record."""
    low = high = -1
    for mark in marks:
        if not _is_relevant(data, mark):
            continue
        if mark <= high - _MARGIN_AHEAD:
            high = max(high, _end(data, mark))
            continue
        begin = max(0, mark - _BACK)
        begin = data.rfind(b"\n{", begin, mark) + 1 or begin
        if begin <= high:  # the same record
            high = _end(data, mark)
            continue
        if high >= 0:
            yield low, high
        low, high = begin, _end(data, mark)
    if high >= 0:
        yield low, high


def _end(data: bytes, mark: int) -> int:
    end = min(len(data), mark + _AHEAD)
    found = data.find(b"\n{", mark, end)
    return end if found < 0 else found


def _is_relevant(data: bytes, mark: int) -> bool:
    """Return whether the text that begins before a mark may be an option with a secret value, separate or joined."""
    if data[mark - 3 : mark - 1] in (b"\\\n", b"\\n") and data[mark - 1] in _CONTINUES:
        return _ANY_OPTION.search(data, max(0, mark - 160), mark + 80) is not None  # a continued line
    if data[mark - 1 : mark] == b"g" and data.endswith(b"config", 0, mark):
        return _SEPARATOR.match(data, mark) is not None
    if data[mark - 3 : mark - 1] == b"--" and not _NAMED.match(data, mark - 1):
        return False  # one step for nearly all options
    found = _OPTION.match(data, mark - 3)
    if found is None:
        return _JOINED.match(data, mark - 6) is not None
    if len(found[1]) == 2:
        return found[1][1] in _SHORT
    name = found[1].lower()
    return any(word in name for word in _NAMES)
