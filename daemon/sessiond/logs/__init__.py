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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Literal

from sessiond.memory import hide_modules

if TYPE_CHECKING:
    from sessiond.logs.sinks import Record, Sink, Sinks

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json", "journal"]

LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
JOURNAL = "/run/systemd/journal/socket"


class Log:
    """Logs events. The process has one instance, `log`."""

    def __init__(self) -> None:
        self._least = LEVELS["warning"]
        self._logger: Any = None
        self._sinks: Sinks | None = None
        self._secrets: set[str] = set()

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

    def _use(self, level: str, logger: Any) -> None:
        self._least, self._logger = LEVELS[level], logger


log = Log()


def set_level(level: Level) -> None:
    """Set the minimum level. Thread-safe."""
    log._least = LEVELS[level]


def hide(secret: str) -> None:
    """Mask a secret in all future events; secrets from earlier calls stay masked."""
    if len(secret) >= 4:  # masking a shorter one would hide ordinary words and reveal the secret
        log._secrets.add(secret)


def configure(  # noqa: PLR0913 - settings, each with its default
    *,
    level: Level = "info",
    format: Format = "auto",
    file: str | None = None,
    stream: IO[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    journal: str = JOURNAL,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Set where events go: to `stream` (stderr) or the journal, and to a rotated `file` if there is no journal.

    The format `auto` means the journal if it reads stderr, readable lines on a terminal, and JSON lines otherwise.
    Warnings of libraries are logged as `library.warned`.
    """
    from sessiond.logs import sinks

    stream = stream or sys.stderr
    chosen = choose(stream, environ, journal) if format == "auto" else format
    used: list[Sink] = []
    if chosen == "journal" and os.path.exists(journal):
        used.append(sinks.Journal(journal))
    else:
        # launchd writes stderr to a file that is never rotated, so events go only to the rotated file.
        kept = file is not None and environ.get("XPC_SERVICE_NAME", "").startswith("io.sessiond")
        colors = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        if not kept or stream.isatty():
            used.append(sinks.Console(stream, colors=colors) if chosen == "console" else sinks.JsonLines(stream))
        if file is not None:
            used.append(sinks.RotatedFile(file))
    before, log._sinks = log._sinks, sinks.Sinks(used)
    _start(level, log._sinks, strict=False, clock=clock)
    if before:
        before.close()
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
def recorded(level: Level = "debug") -> Iterator[list[Record]]:
    """Collect events instead of writing them, for tests; unlisted events and keys raise LookupError."""
    from sessiond.logs import sinks

    before = log._least, log._logger
    kept = sinks.Kept()
    _start(level, sinks.Sinks([kept]), strict=True, clock=time.monotonic)
    try:
        yield kept.records
    finally:
        log._least, log._logger = before


def _start(level: str, used: Sinks, *, strict: bool, clock: Callable[[], float]) -> None:
    with hide_modules("rich"):
        import structlog

        from sessiond.logs import processors

    logger = structlog.wrap_logger(
        used,
        processors=[
            processors.Listed(strict=strict),
            processors.Repeats(clock),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            processors.Harmless(log._secrets),
        ],
        wrapper_class=structlog.BoundLogger,
    )
    log._use(level, logger.bind())
