"""A full-screen text display that is updated in place until Ctrl+C."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from sessiond import exit_codes

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text


class Display:
    """Shows screens: each replaces the previous one on a terminal, otherwise they are appended."""

    def __init__(self, stream: IO[str], *, in_place: bool) -> None:
        self._stream, self._in_place = stream, in_place
        self._live: Live | None = None
        self._shown: tuple[str, int] | None = None

    def show(self, text: str) -> None:
        """Show the text if it has changed; if it is too long for the terminal, show its first lines."""
        if self._live is None:
            self._stream.write(text + "\n")
            self._stream.flush()
            return
        height = max(2, self._live.console.height)
        if self._shown != (text, height):
            self._shown = text, height
            self._live.update(_clipped(text, height), refresh=True)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Use the alternate screen and restore the terminal on any exit, SIGTERM too; the last text stays visible."""
        if not self._in_place:
            yield
            return

        def end(*_: object) -> None:
            raise SystemExit(exit_codes.SIGNALLED + signal.SIGTERM)

        signal.signal(signal.SIGTERM, end)
        self._live = _start(self._stream)
        try:
            yield
        finally:
            self._live.stop()
            self._live = None
            if self._shown is not None:
                self._stream.write(f"{self._shown[0]}\n")
            self._stream.flush()


def in_place(stream: IO[str]) -> bool:
    """Return whether a stream is a terminal that supports cursor movement."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _start(stream: IO[str]) -> Live:
    from rich.console import Console
    from rich.live import Live

    # The text has its colours already, so rich adds none. Without a refresh thread, an unchanged screen costs nothing.
    console = Console(file=stream, force_terminal=True, highlight=False, markup=False, soft_wrap=True)
    live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    live.start()
    return live


def _clipped(text: str, height: int) -> Text:
    from rich.text import Text

    lines = text.split("\n")
    if len(lines) > height:
        lines = [*lines[: height - 1], f"... {len(lines) - height + 1} more lines; enlarge the window to see them"]
    return Text("\n").join(map(Text.from_ansi, lines))
