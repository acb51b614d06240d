"""Handlers that write log events. They never raise: the daemon goes on if its log can't be written."""

from __future__ import annotations

import functools
import logging
import logging.handlers
import os
import socket
import stat
import sys
from collections import deque
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, NoReturn

from sessiond.memory import lean_imports

with lean_imports():
    import structlog
    from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, LogLevelColumnFormatter

if TYPE_CHECKING:
    from sessiond.logs import Log

FILE_BYTES = 5_000_000
FILES = 5

_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_STYLE = {"debug": "\x1b[2m", "info": "", "warning": "\x1b[33m", "error": "\x1b[31m"}
_OWN_FIELDS = frozenset({"timestamp", "level", "event"})
"""Keys that the journal has as fields of its own: the time, PRIORITY and MESSAGE."""


def to_handlers(logger: logging.Logger, method: str, fields: MutableMapping[str, Any]) -> NoReturn:
    """Pass an event to the handlers of a logger, as the last processor. Raises: structlog.DropEvent.

    Not by the logger's own methods: they search the stack for the line that logs, which no sink shows.
    """
    level = logging.getLevelNamesMapping()[method.upper()]
    logger.handle(logging.LogRecord(logger.name, level, "", 0, fields, None, None))
    raise structlog.DropEvent


class Failures:
    """Sinks that have failed and are not reported yet; each sink is reported once."""

    def __init__(self) -> None:
        self._new: deque[tuple[str, str]] = deque()
        self._known: set[str] = set()

    def add(self, name: str, error: BaseException) -> None:
        """Note that a sink could not write an event, which is dropped."""
        if name not in self._known:
            self._known.add(name)
            reason = error.strerror if isinstance(error, OSError) else None
            self._new.append((name, (reason or str(error)).lower()))

    def pop(self) -> tuple[str, str] | None:
        """Return the name of a failed sink and the reason, or None if all are reported."""
        try:
            return self._new.popleft()
        except IndexError:
            return None


class EventFormatter(logging.Formatter):
    """Renders each event once, although the rotated file asks for its length first and stderr may show it too."""

    def __init__(self, renderer: Any) -> None:
        super().__init__()
        self._renderer = renderer
        self._last: tuple[logging.LogRecord | None, str] = None, ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of an event."""
        # Handlers of other threads may replace it meanwhile, so it is read and written as a whole.
        last, text = self._last
        if last is not record:
            assert isinstance(record.msg, dict)
            text = str(self._renderer(None, "", dict(record.msg)))
            self._last = record, text
        return text


@functools.cache
def json_formatter() -> EventFormatter:
    """Return the formatter of JSON lines, which the sinks share."""
    return EventFormatter(json_renderer())


class _Sink(logging.Handler):
    """A handler that drops events that it can't write, instead of printing a traceback to stderr."""

    def __init__(self, *args: Any, destination: str, failures: Failures, **options: Any) -> None:
        super().__init__(*args, **options)
        self._destination, self._failures = destination, failures

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is defined by `logging`
        """Drop the event: a disk is full, a stream is closed, the journal restarts."""
        error = sys.exception()
        if error is not None:
            self._failures.add(self._destination, error)


class StreamSink(_Sink, logging.StreamHandler[IO[str]]):
    """Writes one line per event to a stream that the caller owns."""

    def __init__(self, stream: IO[str], formatter: logging.Formatter, failures: Failures) -> None:
        super().__init__(stream, destination="stderr", failures=failures)
        self.setFormatter(formatter)


class FileSink(_Sink, logging.handlers.RotatingFileHandler):
    """Writes JSON lines to a file of mode 0600 that is rotated by size."""

    def __init__(self, path: str, failures: Failures, *, size: int = FILE_BYTES, count: int = FILES) -> None:
        """Write to `path`; at most `count` files of at most `size` bytes exist."""
        super().__init__(
            path,
            maxBytes=size,
            backupCount=count - 1,
            encoding="utf-8",
            errors="backslashreplace",
            delay=True,
            destination=path,
            failures=failures,
        )
        self.rotator = self._rotate
        self.setFormatter(json_formatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Append the event as one line."""
        try:
            if self.stream is None:  # also after a failed rotation
                _create_private(self.baseFilename)
        except OSError:
            self.handleError(record)
            return
        super().emit(record)

    def close(self) -> None:
        """Close the file. What a full disk did not take is lost."""
        with suppress(OSError):
            super().close()

    @staticmethod
    def _rotate(source: str, target: str) -> None:
        with suppress(FileNotFoundError):  # somebody has deleted the log
            os.replace(source, target)
        _create_private(source)


class JournalSink(_Sink):
    """Sends events by the native protocol of the journal; `journalctl SESSIOND_TOOL=codex` filters by a key."""

    def __init__(self, path: str, failures: Failures) -> None:
        super().__init__(destination="the journal", failures=failures)
        self.setFormatter(EventFormatter(message_renderer()))
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0.2)  # if the journal hangs, drop events instead of blocking

    def emit(self, record: logging.LogRecord) -> None:
        """Send the event as one datagram."""
        event = record.msg
        assert isinstance(event, dict)
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": _PRIORITY[event["level"]],
            "SYSLOG_IDENTIFIER": "sessiond",
        }
        fields |= {f"SESSIOND_{key.upper()}": _plain(value) for key, value in event.items() if key not in _OWN_FIELDS}
        # Values contain no line breaks (processors.Harmless), so the simple form of a field is enough.
        datagram = "".join(f"{key}={value}\n" for key, value in fields.items()).encode("utf-8", "replace")
        try:
            self._socket.sendto(datagram, self._path)
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def listen_to_libraries(log: Log) -> None:
    """Log warnings and errors that libraries send to `logging`; Python would print them to stderr unfiltered."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Libraries)]:
        root.removeHandler(handler)
    root.addHandler(_Libraries(log))


def is_about_the_log(record: logging.LogRecord) -> bool:
    """Return whether an event says that the log can't be written."""
    return isinstance(record.msg, dict) and record.msg["event"] == "log.failed"


def json_renderer() -> structlog.processors.JSONRenderer:
    """Return a renderer of JSON lines. Invisible characters were escaped before (processors.Harmless)."""
    return structlog.processors.JSONRenderer(ensure_ascii=False)


def utc_seconds(timestamp: object) -> str:
    """Return a timestamp without fractions of a second: 2026-11-28T20:00:00Z."""
    return f"{str(timestamp)[:19]}Z"


def console_renderer(*, colors: bool, time: Callable[[object], str] = utc_seconds) -> ConsoleRenderer:
    """Return a renderer of lines for people: `2026-11-28T20:00:00Z [warning] upload.paused reason="no token"`."""
    reset = "\x1b[0m" if colors else ""
    levels = _STYLE if colors else dict.fromkeys(_STYLE, "")
    return ConsoleRenderer(
        sort_keys=False,
        columns=[
            Column("timestamp", _bare(time)),
            Column("level", LogLevelColumnFormatter(levels, reset)),
            *_message_columns(),
        ],
    )


def message_renderer() -> ConsoleRenderer:
    """Return a renderer of an event and its keys, without time and level, which the journal has itself."""
    omitted = KeyValueColumnFormatter(None, "", "", lambda _: "")
    return ConsoleRenderer(
        sort_keys=False, columns=[Column("timestamp", omitted), Column("level", omitted), *_message_columns()]
    )


def _message_columns() -> list[Column]:
    return [Column("event", _bare(str)), Column("", KeyValueColumnFormatter("", "", "", _shown))]


def _bare(value_repr: Any) -> KeyValueColumnFormatter:
    return KeyValueColumnFormatter(key_style=None, value_style="", reset_style="", value_repr=value_repr)


def _shown(value: object) -> str:
    text = _plain(value)
    return f'"{text}"' if not text or " " in text or '"' in text else text


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _create_private(path: str) -> None:
    """Create a log file that only its owner can read, before the handler opens it. Raises: OSError."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    # O_NOFOLLOW: a link could make us append to another file of the user's.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)  # a file that an older version or another program has created
    finally:
        os.close(descriptor)


class _Libraries(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        # Only the first line: later lines of a library's message may contain the data it was processing.
        reason = record.getMessage().partition("\n")[0][:200]
        self._log.warning("library.warned", library=record.name, reason=reason)
