"""Sinks for log events. They never raise: capturing continues if the log can't be written."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Protocol

import msgspec

from sessiond.text import escape_json

if TYPE_CHECKING:
    from sessiond.logs import Log

Record = Mapping[str, Any]

FILE_BYTES = 5_000_000
FILES = 5

_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_COLOR = {"debug": "\x1b[2m", "info": "", "warning": "\x1b[33m", "error": "\x1b[31m"}


class Sink(Protocol):
    """A destination for events."""

    def write(self, record: Record) -> None:
        """Write one event, or drop it on an error."""
        ...

    def close(self) -> None:
        """Close it; later events are dropped."""
        ...


class Sinks:
    """Writes each event to every sink, one thread at a time; the logger that structlog wraps."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._lock = threading.Lock()

    def info(self, **record: Any) -> None:
        """Write one event. All methods do the same, because the record has the level."""
        with self._lock:
            for sink in self._sinks:
                sink.write(record)

    debug = warning = error = info

    def close(self) -> None:
        """Close every sink."""
        with self._lock:
            for sink in self._sinks:
                sink.close()


class JsonLines:
    """Writes one JSON object per line."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, record: Record) -> None:
        """Write the event as one line."""
        _print(self._stream, json_line(record))

    def close(self) -> None:
        """Do nothing: the caller owns the stream."""


class Console:
    """Writes readable lines: time, level, event and its keys."""

    def __init__(self, stream: IO[str], *, colors: bool) -> None:
        self._stream, self._colors = stream, colors

    def write(self, record: Record) -> None:
        """Write the event as one line."""
        level = f"{record['level']:<7}"
        if self._colors:
            level = f"{_COLOR[record['level']]}{level}\x1b[0m"
        _print(self._stream, f"{record['timestamp'][:19]}Z {level} {message(record)}")

    def close(self) -> None:
        """Do nothing: the caller owns the stream."""


class Journal:
    """Sends events by the native protocol of the journal; `journalctl SESSIOND_TOOL=codex` filters by a key."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0.2)  # if the journal hangs, drop events instead of blocking

    def write(self, record: Record) -> None:
        """Send the event as one datagram."""
        fields = {
            "MESSAGE": message(record),
            "PRIORITY": _PRIORITY[record["level"]],
            "SYSLOG_IDENTIFIER": "sessiond",
        }
        fields |= {f"SESSIOND_{key.upper()}": _text(value) for key, value in record.items() if key not in _SAID}
        # Values contain no line breaks (processors.Harmless), so the simple form of a field is enough.
        datagram = "".join(f"{key}={value}\n" for key, value in fields.items()).encode("utf-8", "replace")
        try:
            self._socket.sendto(datagram, self._path)
        except OSError:
            return  # the journal restarts: the event is dropped

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class RotatedFile:
    """A file of JSON lines with mode 0600, rotated by size; events that can't be written are dropped."""

    def __init__(self, path: str, *, size: int = FILE_BYTES, count: int = FILES) -> None:
        self._path, self._most, self._count = path, size, count
        self._descriptor = -1
        self._size = 0

    def write(self, record: Record) -> None:
        """Append the event as one line."""
        line = (json_line(record) + "\n").encode("utf-8", "backslashreplace")
        with suppress(OSError):  # the disk is full, or the directory was removed
            if self._descriptor < 0:
                self._open()
            if 0 < self._size > self._most - len(line):
                self._rotate()
            self._size += os.write(self._descriptor, line)

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _open(self) -> None:
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(self._count - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.replace(f"{self._path}.{number - 1}" if number > 1 else self._path, f"{self._path}.{number}")
        self._open()


class Kept:
    """Keeps events in memory, for tests."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        """Keep the event."""
        self.records.append(record)

    def close(self) -> None:
        """Do nothing: the events stay available."""


def listen_to_libraries(log: Log) -> None:
    """Log warnings and errors that libraries send to `logging`; Python would print them to stderr unfiltered."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Libraries)]:
        root.removeHandler(handler)
    root.addHandler(_Libraries(log))


def json_line(record: Record) -> str:
    """Format an event as JSON, with time, level and event first."""
    first = {key: record[key] for key in ("timestamp", "level", "event")}
    return escape_json(msgspec.json.encode(first | dict(record)).decode())


def message(record: Record) -> str:
    """Format an event and its keys as `upload.acked sessions=3 endpoint=https://...`."""
    pairs = (f"{key}={_quoted(_text(value))}" for key, value in record.items() if key not in _SAID)
    return " ".join((record["event"], *pairs))


_SAID = frozenset({"timestamp", "level", "event"})


class _Libraries(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        # Only the first line: later lines of a library's message may contain the data it was processing.
        reason = record.getMessage().partition("\n")[0][:200]
        self._log.warning("library.warned", library=record.name, reason=reason)


def _print(stream: IO[str], line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except (OSError, ValueError):
        return  # closed, disk full, or a broken pipe


def _text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    return f'"{text}"' if not text or " " in text or '"' in text else text
