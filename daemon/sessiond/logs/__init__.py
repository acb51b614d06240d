"""The log of the daemon: events with keys from a closed list.

    from sessiond.logs import log
    log.info("upload.acked", sessions=3, bytes=1200)

Until `configure` is called, only warnings and errors are logged, to stderr. structlog is imported with the first
event, so commands that log nothing do not load it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import logging

    from sessiond.logs.processors import Record
    from sessiond.logs.sinks import Failures

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json", "journal"]

LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
JOURNAL = "/run/systemd/journal/socket"


class Log:
    """Logs events. The process has one instance, `log`."""

    def __init__(self) -> None:
        self._least = LEVELS["warning"]
        self._logger: Any = None
        self._failures: Failures | None = None
        self._secrets: set[str] = set()
        self._mask: Callable[[str], str] = str

    def mask(self, text: str) -> str:
        """Return a text without the secrets given to `hide` and those that the function of `mask_with` finds."""
        for secret in list(self._secrets):
            text = text.replace(secret, "***")
        return self._mask(text)

    def debug(self, event: str, **fields: object) -> None:
        """Log details for debugging."""
        self._emit("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log normal operation."""
        self._emit("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log a problem that resolves itself or waits for the user."""
        self._emit("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log a problem that ends the daemon or loses something."""
        self._emit("error", event, fields)

    def _emit(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        if LEVELS[level] < self._least:
            return
        if self._logger is None:
            configure(level="warning")
        getattr(self._logger, level)(event, **fields)
        if self._failures is not None:
            _report(self._failures)

    def _use(self, level: str, logger: Any, failures: Failures) -> None:
        self._least, self._logger, self._failures = LEVELS[level], logger, failures


log = Log()


def _report(failures: Failures) -> None:
    """Log each sink that could not write an event, once, in the sinks that can.

    Not while that event is written: two threads that each wait for the lock of the other's sink would never end.
    """
    while (failed := failures.pop()) is not None:
        log.warning("log.failed", path=failed[0], reason=failed[1])


def set_level(level: Level) -> None:
    """Set the minimum level. Thread-safe."""
    log._least = LEVELS[level]


def hide(secret: str) -> None:
    """Mask a secret in all future events; secrets from earlier calls stay masked."""
    if len(secret) >= 4:  # masking a shorter one would hide ordinary words and reveal the secret
        log._secrets.add(secret)


def mask_with(mask: Callable[[str], str]) -> None:
    """Set the function that masks secrets in the values of future events."""
    log._mask = mask


def configure(
    *,
    level: Level = "info",
    format: Format = "auto",
    file: str | None = None,
    stream: IO[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    journal: str = JOURNAL,
) -> None:
    """Set where events go: to `stream` (stderr) or the journal, and to a rotated `file` if there is no journal.

    The format `auto` means the journal if it reads stderr, readable lines on a terminal, and JSON lines otherwise.
    Warnings of libraries are logged as `library.warned`.
    """
    from sessiond.logs import sinks

    stream, failures = stream or sys.stderr, sinks.Failures()
    chosen = choose(stream, environ, journal) if format == "auto" else format
    used: list[logging.Handler] = []
    if chosen == "journal" and os.path.exists(journal):
        used.append(sinks.JournalSink(journal, failures))
    else:
        colors = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        readable = sinks.EventFormatter(sinks.console_renderer(colors=colors)) if chosen == "console" else None
        to_stream = sinks.StreamSink(stream, readable or sinks.json_formatter(), failures)
        # launchd writes stderr to a file that is never rotated, so events go only to the rotated file.
        if file is not None and environ.get("XPC_SERVICE_NAME", "").startswith("io.sessiond") and not stream.isatty():
            to_stream.addFilter(sinks.is_about_the_log)
        used.append(to_stream)
        if file is not None:
            used.append(sinks.FileSink(file, failures))
    log._use(level, _start(used), failures)
    sinks.listen_to_libraries(log)


def choose(stream: IO[str], environ: Mapping[str, str], journal: str = JOURNAL) -> Format:
    """Return the format for a stream: `journal` if the journal reads the stream (JOURNAL_STREAM)."""
    if stream.isatty():
        return "console"
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or not a file
        return "json"
    # A child process with redirected stderr inherits the variable; only device and inode tell the two apart.
    ours = environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
    return "journal" if ours and os.path.exists(journal) else "json"


@contextmanager
def recorded(level: Level = "debug", *, clock: Callable[[], float] = time.monotonic) -> Iterator[list[Record]]:
    """Collect events instead of writing them, for tests; unlisted events and keys raise LookupError.

    `clock` decides when a repeated failure is logged again.
    """
    from sessiond.logs import processors

    records: list[Record] = []
    before = log._least, log._logger
    log._least = LEVELS[level]
    log._logger = processors.make_logger(None, log.mask, processors.Collect(records), clock, strict=True)
    try:
        yield records
    finally:
        log._least, log._logger = before


def _start(used: Sequence[logging.Handler]) -> Any:
    """Replace the handlers of the `sessiond` logger, and return a logger of structlog that writes to it."""
    import logging  # late, like structlog

    from sessiond.logs import processors, sinks

    logger = logging.getLogger("sessiond")
    logger.propagate = False  # the root logger gets the warnings of libraries, but not our events
    logger.setLevel(logging.DEBUG)
    before = list(logger.handlers)
    for handler in used:
        logger.addHandler(handler)
    for handler in before:
        logger.removeHandler(handler)
        handler.close()
    return processors.make_logger(logger, log.mask, sinks.to_handlers, time.monotonic)
