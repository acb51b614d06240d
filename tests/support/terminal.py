"""A terminal for tests: a real command on a pseudo-terminal of a given size, and the screen that its user would see."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import pyte

from support.program import Program

ROWS = 50
"""Enough for every screen of ours, so that none scrolls away."""


class Terminal:
    """A command in a terminal: its output is drawn as it arrives."""

    def __init__(
        self, words: Sequence[str], environ: Mapping[str, str], *, columns: int = 80, rows: int = ROWS
    ) -> None:
        self._control, terminal = pty.openpty()
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
        self.process = Program(
            words,
            {"PATH": os.defpath, "TERM": "xterm-256color", "LANG": "C.UTF-8", "TZ": "UTC", **environ},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""
        """All that came, as it came."""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._control)

    @property
    def text(self) -> str:
        """Return the screen as its user sees it, without empty lines and columns at its ends."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def read(self, seconds: float) -> bool:
        """Draw what has come, waiting so long for something; False when the command has closed the terminal."""
        if not select.select([self._control], [], [], seconds)[0]:
            return True
        try:
            came = os.read(self._control, 65536)
        except OSError:  # a closed terminal
            return False
        self.written += came
        self._stream.feed(came)
        return bool(came)

    def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Draw until a condition on the screen holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.read(0.1) and time.monotonic() < end, f"it did not come true:\n{self.text}"

    def type(self, text: str) -> None:
        """Type a text; Enter is a newline in it."""
        os.write(self._control, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl+C."""
        self.process.send_signal(signal.SIGINT)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the window."""
        fcntl.ioctl(self._control, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.resize(rows, columns)

    def end(self, seconds: float = 60.0) -> int:
        """Draw all that comes up to the end of the command, and return its exit code."""
        limit = time.monotonic() + seconds
        while self.read(0.1) if self.process.poll() is None else self.read(0):
            assert time.monotonic() < limit, f"it does not end:\n{self.text}"
            if self.process.poll() is not None and not select.select([self._control], [], [], 0)[0]:
                break
        return self.process.wait(seconds)
