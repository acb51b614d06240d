"""Finds the lines of a private key's body, with any text before each of them."""

from __future__ import annotations

import re
from collections.abc import Callable

from sessiond.redact.lines import (
    BREAK_BEFORE,
    LONGEST_LINE,
    MOST_BYTES,
    MOST_LINES,
    line_start,
    plain,
    prefix_length,
    text_start,
)

_HEADS = r"IBAA[JK][BC]|IBADANBgkqhkiG9w0BAQEFAASC|MHcCAQEEI|MIGkAgEBBD|MIHcAgEBBEI|AgEAMB[MA]GByqGSM49"
_HEADS += r"|MC4CAQAwBQYDK2V|b3BlbnNzaC1rZXktdjEA"
"""Base64 in the first line of a private key (PKCS #1, PKCS #8, SEC 1, OpenSSH), and of no certificate or public key."""
KEY_TRIGGER = rf"PRIVATE KEY(?: BLOCK)?-----|Private-Lines: [0-9]{{1,4}}|{_HEADS}"
# Each alternative begins with a literal, so that `re` skips to the next candidate instead of trying each byte.
_LINE_END = re.compile(rb"\\{1,8}[nr\"]|\r|\n|\"")
_AFTER_LINE = rb"(?:[\s\"',;+|\x01]|\xe2[\x80-\xbf]{2}){0,80}\Z"
_BASE64_LINE = re.compile(rb"([A-Za-z0-9+/=]+)" + _AFTER_LINE)
_LAST_RUN = re.compile(rb"(?<![*A-Za-z0-9+/=])[A-Za-z0-9+/=]{16,}" + _AFTER_LINE)
_ALNUM = re.compile(rb"[A-Za-z0-9]")
_FIRST_RUN = re.compile(
    rb"(?<![A-Za-z0-9+/])(?:MII[A-Za-z0-9+/]{3}|M[A-Za-z0-9+/]{3})?(?:" + _HEADS.encode() + rb")[A-Za-z0-9+/]{16}"
)
_HEADER = re.compile(rb"[A-Za-z][A-Za-z-]{2,19}: ")
_WORD = re.compile(rb"[A-Z]?[a-z]+")


_NEAR = 64  # bytes before an END that hold no further line of the key, but what is before a line


class KeyLines:
    """The lines of the private keys in a text; `spend` counts the work."""

    def __init__(self, data: bytes, spend: Callable[[int], None]) -> None:
        self._data = data
        self._spend = spend
        self._done = -LONGEST_LINE  # where the last key ends that was found below its BEGIN

    def around(self, mark: int) -> list[tuple[int, int]]:
        """Return the lines of a key's body, without their prefixes, at the marker that ends at `mark`.

        - At a BEGIN: the lines below, up to its END or to the first line that is no line of a key.
        - At an END: the lines above, unless they were returned at their BEGIN.
        - At the first line of a body without a BEGIN: that line and those below.
        """
        data, begins = self._data, (b"-----BEGIN ", b"Private-Lines")
        begin = max(data.rfind(what, max(0, mark - 80), mark) for what in begins)
        end = data.rfind(b"-----END ", max(0, mark - 80), mark)
        if begin > end:
            found = self._below(begin, mark)
            self._done = found[-1][1] if found else self._done
            return found
        if 0 <= end - self._done < _NEAR:
            return []
        if end >= 0:
            return self._above(end)
        low = max(0, mark - 48)
        first = _FIRST_RUN.search(plain(data[low : mark + 17]))
        # The BEGIN line was cut off.
        return self._below(low + first.start(), low + first.start()) if first and mark > self._done else []

    def _below(self, begin: int, mark: int) -> list[tuple[int, int]]:
        data = self._data
        prefix = plain(data[line_start(data, begin) : begin])
        found: list[tuple[int, int]] = []
        position, strange = mark, 0
        for _ in range(MOST_LINES):
            self._spend(5)
            # No line of a body holds a marker. Stopping at the next one keeps many of them in one line cheap.
            last = _next_marker(data, position, position + LONGEST_LINE)
            stop = _LINE_END.search(data, position, last)
            if stop is None and last < min(len(data), position + LONGEST_LINE):
                break
            limit = stop.start() if stop else min(len(data), position + LONGEST_LINE)
            line = plain(data[position:limit])
            if b"Private-MAC" in line or line[:1] == b"{":
                break
            start, _ = text_start(prefix, line)
            prefix = prefix[start:]
            piece = _body(prefix, line)
            if piece is not None:
                found.append((position + piece[0], position + piece[1]))
            elif _ALNUM.search(rest := line[prefix_length(prefix, line) :]) and (found or not _HEADER.match(rest)):
                break  # ordinary text: the key was cut
            strange = strange + 1 if piece is None else 0
            if stop is None or position - mark > MOST_BYTES or strange > 24:
                break
            position = stop.end()
        return _believed(data, found)

    def _above(self, end: int) -> list[tuple[int, int]]:
        data = self._data
        stop = line_start(data, end)
        if BREAK_BEFORE.search(data[max(0, stop - 64) : stop]) is None:
            return []
        prefix = plain(data[stop:end])
        found: list[tuple[int, int]] = []
        blank = 0
        while len(found) < MOST_LINES and end - stop < MOST_BYTES and stop > 0 and blank < 8:
            self._spend(5)
            around = max(0, stop - 64)
            found_break = BREAK_BEFORE.search(data[around:stop])
            if found_break is None:
                break
            edge = around + found_break.start()
            low = line_start(data, edge)
            line = plain(data[low:edge])
            if b"-----" in line:
                break
            piece = _body(prefix, line)
            if piece is not None:
                found.append((low + piece[0], low + piece[1]))
            elif _ALNUM.search(line, prefix_length(prefix, line)):
                break
            blank, stop = blank + 1 if piece is None else 0, low
        while found and found[-1][1] - found[-1][0] < 16:
            found.pop()  # the first line of what is left of a key is as long as the others
        return _believed(data, found[::-1])


def _next_marker(data: bytes, position: int, most: int) -> int:
    """Return where the next beginning or end of a key is, or `most` if there is none before."""
    for marker in (b"-----BEGIN", b"-----END", b"Private-Lines"):
        found = data.find(marker, position, most)
        most = found if found >= 0 else most
    return most


def _believed(data: bytes, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return lines that are a key: one of them is long, and no word is left at the end."""
    while found and found[-1][1] - found[-1][0] < 16 and _WORD.fullmatch(data[slice(*found[-1])]):
        found.pop()
    longest = max((end - start for start, end in found), default=0)
    return found if longest >= 16 else []


def _body(prefix: bytes, line: bytes) -> tuple[int, int] | None:
    """Return where in a line the part of a key's body is."""
    run = _LAST_RUN.search(line)
    for skip in (prefix_length(prefix, line), run.start() if run else len(line)):
        piece = _BASE64_LINE.match(line, skip)
        if piece is not None and piece[1] != b"+" and line[skip - 1 : skip] != b"*":
            return piece.span(1)
    return None
