"""A bar: how far the backlog is, on the last line of a terminal, until it is done. What others print goes above it."""

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

SOON = 0.7
"""Seconds after which it is drawn; what is done by then needs none."""
OFTEN, SELDOM = 0.25, 5.0
"""Seconds between two looks while something moves, and while nothing does."""
_WIPE = "\r\x1b[2K"

Read = Callable[[], tuple[Progress | None, EndpointHealth]]


class Bar:
    """A thread that draws. It ends by itself once all is acknowledged, or the rest is not a matter of minutes."""

    def __init__(self, stream: IO[str], environ: Mapping[str, str], read: Read, *, ending: bool = True) -> None:
        """`stream` is a terminal; `read` tells how far it is; `ending`: say at last what was done."""
        self._stream, self._environ, self._read, self._ending = stream, environ, read, ending
        self._lock = threading.Lock()
        self._line = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self.above: Any = Above(self, stream)
        """What stands in the place of `stream` while it is drawn."""

    def __enter__(self) -> Bar:
        """Begin to draw."""
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Wipe it and draw no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        began, wait, before = time.monotonic(), OFTEN, None
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
            if time.monotonic() - began >= SOON:
                self._draw(self._render(progress, failing))
                drawn = True
            wait = OFTEN if progress != before else min(SELDOM, wait * 1.5)
            before = progress
        self._draw("")

    def _render(self, progress: Progress, failing: bool) -> str:
        """Draw one line as wide as the terminal; rich is imported here and nowhere else."""
        from rich.console import Console
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        console = Console(file=self._stream, force_terminal=True, highlight=False, _environ=self._environ)
        # Half of the way is to be captured, the other half to be acknowledged.
        done = progress.captured_bytes + progress.acknowledged_bytes
        bar = ProgressBar(total=2 * max(1, progress.bytes), completed=done)
        grid = Table.grid(expand=True, padding=(0, 1))
        words = _words(progress, failing)
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
        """Print text above it."""
        with self._lock:
            if self._line and text.endswith("\n"):  # a line of the log
                text = f"{_WIPE}{text}{self._line}"
            elif self._line:
                text, self._line = _WIPE + text, ""  # drawn again with the next look
            self._stream.write(text)
            self._stream.flush()


@contextmanager
def drawing(stream: IO[str], environ: Mapping[str, str], directory: str, *, ending: bool = True) -> Iterator[None]:
    """Draw on stderr, if that is a terminal, how far the daemon with its state in `directory` is."""
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
    """The terminal above a bar: a stream."""

    def __init__(self, bar: Bar, stream: IO[str]) -> None:
        self._bar, self._stream = bar, stream

    def write(self, text: str) -> int:
        """Write text; a line at a time looks best."""
        self._bar.print(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)  # isatty, fileno, flush, encoding: the terminal's own


def _words(progress: Progress, failing: bool) -> list[str]:
    reading = progress.captured_files < progress.files
    done = f"{size(progress.acknowledged_bytes)} of {size(progress.bytes)}"
    words = ["reading" if reading else "pushing", done, count(progress.captured_sessions, "session")]
    if progress.waits is not None:
        return [*words, f"waits: {progress.waits}"]
    if failing:
        return [*words, "the endpoint fails"]
    if progress.rate is not None:
        words.append(f"{size(progress.rate)}/s")
    if progress.seconds_left is not None:
        words.append(f"{duration(progress.seconds_left)} left")
    return words


def _ending(progress: Progress, seconds: float) -> str:
    all_of = f"{count(progress.captured_sessions, 'session')} ({size(progress.bytes)})"
    if progress.done:
        return f"{all_of} captured and acknowledged in {duration(seconds)}."
    return f"{all_of} captured; they are pushed when the endpoint is well: sessiond status"
