"""A full-screen text display that is updated in place until Ctrl+C."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from sessiond import exit_codes

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
"""Switch to the alternate screen and hide the cursor; the previous content comes back at the end."""
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


class Display:
    """Shows screens: each replaces the previous one on a terminal, otherwise they are appended."""

    def __init__(self, stream: IO[str], *, in_place: bool) -> None:
        self._stream, self._in_place = stream, in_place
        self._shown: tuple[str, int] | None = None

    def show(self, text: str) -> None:
        """Show the text if it has changed; if it is too long for the terminal, show its first lines."""
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
            lines = [*lines[: height - 1], f"... {len(lines) - height + 1} more lines; enlarge the window to see them"]
        # Overwrite without clearing first, to avoid flicker. No newline after the last line: it would scroll.
        drawn = "\n".join(line + _REST_OF_LINE for line in lines)
        self._stream.write(f"{_HOME}{drawn}{_REST}")
        self._stream.flush()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Use the alternate screen and restore the terminal on any exit, SIGTERM too; the last text stays visible."""
        if not self._in_place:
            yield
            return

        def end(*_: object) -> None:
            raise SystemExit(exit_codes.SIGNALLED + signal.SIGTERM)

        signal.signal(signal.SIGTERM, end)
        self._stream.write(_ENTER)
        try:
            yield
        finally:
            last = "" if self._shown is None else f"{self._shown[0]}\n"
            self._stream.write(_LEAVE + last)
            self._stream.flush()


def in_place(stream: IO[str]) -> bool:
    """Return whether a stream is a terminal that supports cursor movement."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _height() -> int:
    try:
        return max(2, os.get_terminal_size(sys.stdout.fileno()).lines)
    except OSError:
        return 24
