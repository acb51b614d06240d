"""What the daemon says about itself: events with keys out of a closed list.

    from sessiond.logs import log
    log.info("upload.acked", sessions=3, bytes=1200)

Until `configure` is called only warnings and errors are said, on stderr. structlog is imported with the first
event, so that commands which log nothing do not wait for it.
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
    """Takes events. One for the process: `log`."""

    def __init__(self) -> None:
        self._least = LEVELS["warning"]
        self._logger: Any = None
        self._sinks: Sinks | None = None
        self._secrets: set[str] = set()

    def debug(self, event: str, **fields: object) -> None:
        """Log what is of use to whoever looks for a fault."""
        self._emit("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log what went as it should."""
        self._emit("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what went wrong and heals by itself, or waits for the user."""
        self._emit("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log what ends the daemon or costs the user something."""
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
    """Change from now on what is logged; any thread may call it."""
    log._least = LEVELS[level]


def hide(secret: str) -> None:
    """Mask a secret wherever it would appear in an event from now on; what it was before stays masked."""
    if len(secret) >= 4:  # masking a shorter one would black out ordinary words and tell what it is
        log._secrets.add(secret)


def configure(
    *,
    level: Level = "info",
    format: Format = "auto",
    file: str | None = None,
    stream: IO[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    journal: str = JOURNAL,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Say where events go: to `stream` (stderr) or the journal, and to `file`, rotated, where no journal keeps them.

    `auto` means the journal where it reads our stderr, lines for people on a terminal, and JSON lines elsewhere.
    Warnings of the libraries go the same way, as `library.warned`.
    """
    from sessiond.logs import sinks

    stream = stream or sys.stderr
    chosen = choose(stream, environ, journal) if format == "auto" else format
    used: list[Sink] = []
    if chosen == "journal" and os.path.exists(journal):
        used.append(sinks.Journal(journal))
    else:
        # launchd keeps what goes to stderr in a file that nobody rotates: only what no log could take goes there.
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
    """Choose the format for a stream: the journal's own if it is what reads the stream (JOURNAL_STREAM)."""
    if stream.isatty():
        return "console"
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or not a file at all
        return "json"
    # A child with a redirected stderr inherits the variable too; only the numbers tell.
    ours = environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
    return "journal" if ours and os.path.exists(journal) else "json"


@contextmanager
def recorded(level: Level = "debug") -> Iterator[list[Record]]:
    """Collect events instead of writing them, for tests; an event or key that is not listed raises LookupError."""
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
