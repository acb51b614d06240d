"""A display: one screen of text that is drawn anew in place, until Ctrl+C."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
"""The terminal's second screen, without its cursor: what stood there before comes back at the end."""
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"
TERMINATED = 128 + signal.SIGTERM


class Display:
    """Where screens go: on a terminal each one over the one before, elsewhere one below the other."""

    def __init__(self, stream: IO[str], *, in_place: bool) -> None:
        self._stream, self._in_place = stream, in_place
        self._shown: tuple[str, int] | None = None

    def show(self, text: str) -> None:
        """Draw the text, if it differs from what is there; of what is too high for the terminal, the head."""
        if not self._in_place:
            self._stream.write(text + "\n")
            self._stream.flush()
            return
        height = _height()
        if self._shown == (text, height):
            return
        self._shown = text, height
        lines = text.split("\n")
        if len(lines) > height:
            lines = [*lines[: height - 1], f"... {len(lines) - height + 1} more lines: make the window higher"]
        # Written over, not wiped first: nothing flickers. The last line has no end, or the terminal would scroll.
        drawn = "\n".join(line + _REST_OF_LINE for line in lines)
        self._stream.write(f"{_HOME}{drawn}{_REST}")
        self._stream.flush()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Take the terminal, and give it back however this ends: Ctrl+C, SIGTERM. What was seen last stays on it."""
        if not self._in_place:
            yield
            return

        def end(*_: object) -> None:
            raise SystemExit(TERMINATED)

        signal.signal(signal.SIGTERM, end)
        self._stream.write(_ENTER)
        try:
            yield
        finally:
            last = "" if self._shown is None else f"{self._shown[0]}\n"
            self._stream.write(_LEAVE + last)
            self._stream.flush()


def in_place(stream: IO[str]) -> bool:
    """Tell whether a stream is a terminal on which one can draw."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _height() -> int:
    try:
        return max(2, os.get_terminal_size(sys.stdout.fileno()).lines)
    except OSError:
        return 24
