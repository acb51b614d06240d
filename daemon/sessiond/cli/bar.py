"""Progress bar for the backlog on the last line of a terminal. Other output is printed above it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Any

from sessiond.cli.output import count, duration, size
from sessiond.spool.health import EndpointHealth
from sessiond.status.progress import Progress, read_progress

DELAY = 0.7
"""Seconds before the bar is drawn; shorter work needs none."""
FAST, SLOW = 0.25, 5.0
"""Seconds between two updates while there is progress, and at most while there is none."""
_WIPE = "\r\x1b[2K"

Read = Callable[[], tuple[Progress | None, EndpointHealth]]


class Bar:
    """A thread that draws the bar. It ends when all is acknowledged, or all is captured while the endpoint fails."""

    def __init__(self, stream: IO[str], environ: Mapping[str, str], read: Read, *, ending: bool = True) -> None:
        """`stream` is a terminal; `read` returns the progress; `ending`: print a summary at the end."""
        self._stream, self._environ, self._read, self._ending = stream, environ, read, ending
        self._lock = threading.Lock()
        self._line = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self.above: Any = Above(self, stream)
        """Replaces `stream` while the bar is drawn."""

    def __enter__(self) -> Bar:
        """Start drawing."""
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Erase the bar and stop drawing."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        began, wait, before = time.monotonic(), FAST, None
        drawn = False
        while not self._over.wait(wait):
            progress, endpoint = self._read()
            failing = endpoint.failing_since_ms is not None
            if progress is None:
                continue
            if progress.done or (failing and progress.captured_files >= progress.files):
                self._draw("")
                if drawn and self._ending:
                    self.print(f"{_ending(progress, time.monotonic() - began)}\n")
                return
            if time.monotonic() - began >= DELAY:
                self._draw(self._render(progress, failing))
                drawn = True
            wait = FAST if progress != before else min(SLOW, wait * 1.5)
            before = progress
        self._draw("")

    def _render(self, progress: Progress, failing: bool) -> str:
        """Return the bar as one line as wide as the terminal. Only this function imports rich."""
        from rich.console import Console
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        console = Console(file=self._stream, force_terminal=True, highlight=False, _environ=self._environ)
        # Capturing is the first half of the bar, acknowledging the second.
        done = progress.captured_bytes + progress.acknowledged_bytes
        bar = ProgressBar(total=2 * max(1, progress.bytes), completed=done)
        grid = Table.grid(expand=True, padding=(0, 1))
        words = _texts(progress, failing)
        for index in range(len(words) + 1):
            grid.add_column(ratio=1 if index == 1 else None, no_wrap=True)
        grid.add_row(words[0], bar, *words[1:])
        with console.capture() as caught:
            console.print(grid, width=console.width - 1, end="")
        return caught.get().rstrip("\n")

    def _draw(self, line: str) -> None:
        with self._lock:
            if line != self._line:
                self._stream.write(_WIPE + line)
                self._stream.flush()
                self._line = line

    def print(self, text: str) -> None:
        """Print text above the bar."""
        with self._lock:
            if self._line and text.endswith("\n"):  # a line of the log
                text = f"{_WIPE}{text}{self._line}"
            elif self._line:
                text, self._line = _WIPE + text, ""  # the next update draws the bar again
            self._stream.write(text)
            self._stream.flush()


@contextmanager
def drawing(stream: IO[str], environ: Mapping[str, str], directory: str, *, ending: bool = True) -> Iterator[None]:
    """Draw the progress of the daemon with its state in `directory`, if `stream` is a terminal."""
    if not stream.isatty() or environ.get("TERM", "dumb") == "dumb":
        yield
        return
    bar = Bar(stream, environ, lambda: read_progress(directory), ending=ending)
    sys.stderr = bar.above
    try:
        with bar:
            yield
    finally:
        sys.stderr = stream


class Above:
    """A stream that prints above a bar."""

    def __init__(self, bar: Bar, stream: IO[str]) -> None:
        self._bar, self._stream = bar, stream

    def write(self, text: str) -> int:
        """Write text above the bar; best one line at a time."""
        self._bar.print(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)  # isatty, fileno, flush, encoding of the terminal


def _texts(progress: Progress, failing: bool) -> list[str]:
    reading = progress.captured_files < progress.files
    done = f"{size(progress.acknowledged_bytes)} of {size(progress.bytes)}"
    words = ["reading" if reading else "pushing", done, count(progress.captured_sessions, "session")]
    if progress.waits is not None:
        return [*words, f"paused: {progress.waits}"]
    if failing:
        return [*words, "the endpoint is failing"]
    if progress.rate is not None:
        words.append(f"{size(progress.rate)}/s")
    if progress.seconds_left is not None:
        words.append(f"{duration(progress.seconds_left)} left")
    return words


def _ending(progress: Progress, seconds: float) -> str:
    all_of = f"{count(progress.captured_sessions, 'session')} ({size(progress.bytes)})"
    if progress.done:
        return f"{all_of} captured and acknowledged in {duration(seconds)}."
    return f"{all_of} captured; they are pushed once the endpoint works again."
