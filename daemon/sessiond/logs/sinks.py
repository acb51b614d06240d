"""Where events go. None of these ever raises: a log that can't be written is no reason to stop capturing."""

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
    """A place for events."""

    def write(self, record: Record) -> None:
        """Write one event, or lose it."""
        ...

    def close(self) -> None:
        """Give back what it holds; an event after that is lost."""
        ...


class Sinks:
    """Writes each event to every sink, one thread at a time; the logger that structlog wraps."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._lock = threading.Lock()

    def info(self, **record: Any) -> None:
        """Write one event; what it is called does not matter, the record holds the level."""
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
    """One JSON object a line."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, record: Record) -> None:
        """Write the event as one line."""
        _print(self._stream, json_line(record))

    def close(self) -> None:
        """Leave the stream open: it is not ours."""


class Console:
    """A line for people: when, how bad, what, and its keys."""

    def __init__(self, stream: IO[str], *, colors: bool) -> None:
        self._stream, self._colors = stream, colors

    def write(self, record: Record) -> None:
        """Write the event as one line."""
        level = f"{record['level']:<7}"
        if self._colors:
            level = f"{_COLOR[record['level']]}{level}\x1b[0m"
        _print(self._stream, f"{record['timestamp'][:19]}Z {level} {message(record)}")

    def close(self) -> None:
        """Leave the stream open: it is not ours."""


class Journal:
    """The journal's own protocol: each key is a field that `journalctl SESSIOND_TOOL=codex` finds."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0.2)  # a journal that hangs may cost us lines, not time

    def write(self, record: Record) -> None:
        """Send the event as one datagram."""
        fields = {
            "MESSAGE": message(record),
            "PRIORITY": _PRIORITY[record["level"]],
            "SYSLOG_IDENTIFIER": "sessiond",
        }
        fields |= {f"SESSIOND_{key.upper()}": _text(value) for key, value in record.items() if key not in _SAID}
        # Values hold no line break here (processors.Harmless), so the simple form of a field is enough.
        datagram = "".join(f"{key}={value}\n" for key, value in fields.items()).encode("utf-8", "replace")
        try:
            self._socket.sendto(datagram, self._path)
        except OSError:
            return  # the journal restarts: the line is lost

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class RotatedFile:
    """A file of JSON lines that nobody else can read, rotated by size; lines that can't be written are lost."""

    def __init__(self, path: str, *, size: int = FILE_BYTES, count: int = FILES) -> None:
        self._path, self._most, self._count = path, size, count
        self._descriptor = -1
        self._size = 0

    def write(self, record: Record) -> None:
        """Append the event as one line."""
        line = (json_line(record) + "\n").encode("utf-8", "backslashreplace")
        with suppress(OSError):  # the disk is full, or the directory is gone
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
        """Keep them all the same."""


def listen_to_libraries(log: Log) -> None:
    """Take over what libraries say by `logging`, warnings and worse; else Python prints it to stderr as it is."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Libraries)]:
        root.removeHandler(handler)
    root.addHandler(_Libraries(log))


def json_line(record: Record) -> str:
    """Write an event as JSON, time, level and event first."""
    first = {key: record[key] for key in ("timestamp", "level", "event")}
    return escape_json(msgspec.json.encode(first | dict(record)).decode())


def message(record: Record) -> str:
    """Write an event and its keys as `upload.acked sessions=3 endpoint=https://...`."""
    pairs = (f"{key}={_quoted(_text(value))}" for key, value in record.items() if key not in _SAID)
    return " ".join((record["event"], *pairs))


_SAID = frozenset({"timestamp", "level", "event"})


class _Libraries(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        # Only the first line: what follows in a library's message may be what it was working on.
        reason = record.getMessage().partition("\n")[0][:200]
        self._log.warning("library.warned", library=record.name, reason=reason)


def _print(stream: IO[str], line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except (OSError, ValueError):
        return  # closed, full, or nobody reads it any more


def _text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    return f'"{text}"' if not text or " " in text or '"' in text else text
