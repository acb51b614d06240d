"""Progress bar for the backlog on the last line of a terminal. Other output is printed above it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from sessiond.cli.output import duration, size
from sessiond.spool.health import EndpointHealth
from sessiond.status.progress import Progress, read_progress
from sessiond.text import count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

DELAY = 0.7
"""Seconds before the bar is drawn; shorter work needs none."""
FAST, SLOW = 0.25, 5.0
"""Seconds between two updates while there is progress, and at most while there is none."""

Read = Callable[[], tuple[Progress | None, EndpointHealth]]


class Bar:
    """A thread that draws the bar. It ends when all is acknowledged, or all is captured while the endpoint fails."""

    def __init__(
        self, stream: IO[str], read: Read, *, colors: bool = True, summary: bool = True, delay: float = DELAY
    ) -> None:
        """Prepare the bar; nothing is drawn for the first `delay` seconds.

        `stream` is a terminal, `read` returns the progress. With `summary`, print a line at the end.
        """
        self.above = Above(stream)
        """Replaces `stream` while the bar is drawn."""
        self._stream, self._read, self._colors, self._summary, self._delay = stream, read, colors, summary, delay
        self._drawn: RichProgress | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Bar:
        """Start drawing."""
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Erase the bar and stop drawing."""
        self._over.set()
        self._thread.join()
        self.above.end()

    def _run(self) -> None:
        try:
            self._follow()
        except OSError:
            return  # the terminal was closed; the daemon goes on without a bar
        finally:
            self._erase()

    def _follow(self) -> None:
        began, wait, before = time.monotonic(), FAST, None
        while not self._over.wait(wait):
            progress, endpoint = self._read()
            failing = endpoint.failing_since_ms is not None
            if progress is None:
                continue
            if progress.done or (failing and progress.captured_files >= progress.files):
                shown = self._drawn is not None
                self._erase()
                if shown and self._summary:
                    self.above.write(f"{_ending(progress, time.monotonic() - began)}\n")
                return
            if time.monotonic() - began >= self._delay:
                self._draw(progress, failing)
            wait = FAST if progress != before else min(SLOW, wait * 1.5)
            before = progress

    def _draw(self, progress: Progress, failing: bool) -> None:
        if self._drawn is not None:
            update(self._drawn, progress, failing)
            self._drawn.refresh()
            return
        self._drawn = make_bar(self._stream, colors=self._colors)
        update(self._drawn, progress, failing)
        self.above.switch(self._drawn)

    def _erase(self) -> None:
        drawn, self._drawn = self._drawn, None
        if drawn is not None:
            self.above.switch(None)


class Above:
    """A stream that prints above a bar."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._bar: RichProgress | None = None
        self._begun = ""

    def switch(self, bar: RichProgress | None) -> None:
        """Start a bar, or end the current one and erase it."""
        with self._lock:
            before, self._bar = self._bar, bar
            if before is not None:
                with suppress(OSError):  # the terminal was closed
                    before.stop()
            if bar is not None:
                bar.start()

    def write(self, text: str) -> int:
        """Write text. Above a bar it appears a whole line at a time."""
        with self._lock:
            if self._bar is None:
                self._stream.write(self._begun + text)
                self._begun = ""
            else:
                lines, newline, self._begun = (self._begun + text).rpartition("\n")
                if newline:
                    self._bar.console.out(lines, highlight=False)  # never wraps: a terminal keeps such lines whole
        return len(text)

    def end(self) -> None:
        """Write a line that has begun and not ended."""
        with suppress(OSError):  # the terminal was closed
            self.write("")
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)  # isatty, fileno, flush, encoding of the terminal


@contextmanager
def drawing(stream: IO[str], environ: Mapping[str, str], directory: str, *, summary: bool = True) -> Iterator[None]:
    """Draw the progress of the daemon with its state in `directory`, if `stream` is a terminal."""
    if not stream.isatty() or environ.get("TERM", "dumb") == "dumb":
        yield
        return
    bar = Bar(stream, lambda: read_progress(directory), colors=not environ.get("NO_COLOR"), summary=summary)
    sys.stderr = bar.above
    try:
        with bar:
            yield
    finally:
        sys.stderr = stream


def make_bar(stream: IO[str], *, colors: bool, width: int | None = None) -> RichProgress:
    """Return a bar for a terminal, as wide as the terminal if `width` is None.

    Only this function imports rich, which takes longer than most commands.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column

    console: Console = Console(file=stream, force_terminal=True, no_color=not colors, highlight=False, width=width)
    bar = RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True)),
        console=console,
        auto_refresh=False,  # a thread that wakes ten times a second would cost more than the daemon
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,  # rich would wrap long lines of the log; see `Above`
        expand=True,
    )
    bar.add_task("", text="")
    return bar


def update(bar: RichProgress, progress: Progress, failing: bool) -> None:
    """Set what the bar shows: capturing is its first half, acknowledging the second."""
    bar.update(
        bar.task_ids[0],
        description="reading" if progress.captured_files < progress.files else "pushing",
        total=2 * max(1, progress.bytes),
        completed=progress.captured_bytes + progress.acknowledged_bytes,
        text=" ".join(_texts(progress, failing)),
    )


def _texts(progress: Progress, failing: bool) -> list[str]:
    done = f"{size(progress.acknowledged_bytes)} of {size(progress.bytes)}"
    words = [done, count(progress.captured_sessions, "session")]
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
