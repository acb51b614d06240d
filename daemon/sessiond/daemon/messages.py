"""Messages between the main thread and the two loops. No thread calls a method of another thread's loop."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from sessiond.config import Backlog as BacklogLimits
from sessiond.daemon.config_watch import ConfigWatch


class Message(StrEnum):
    """A message to the main thread."""

    STOP = "stop"
    RELOAD = "reload"
    """SIGHUP asks for it."""
    EDITED = "edited"
    """A file of the configuration changed."""
    MOVED = "moved"
    """A tool's list of roots changed."""
    RETRY = "retry"
    NETWORK = "network"
    """A network link or an address appeared."""
    DIED = "died"
    """The built-in archive has to be started again."""


class Cause(StrEnum):
    """Why a push is tried sooner than planned."""

    USER = "user"
    """The user asked for it. That says nothing about the cause of the failure, so the waits keep their length."""
    SETUP = "setup"
    """The token or the configuration changed, so the waits start with the shortest one again."""
    NETWORK = "network"


class Ping(msgspec.Struct, frozen=True):
    """Start another iteration. A loop that does not is hung."""


class Stop(msgspec.Struct, frozen=True):
    """End the loop."""


class MoreRoom(msgspec.Struct, frozen=True):
    """To the capture loop: the outbox has room again, or the endpoint lacks bytes that have to be read again."""


class ScanNow(msgspec.Struct, frozen=True):
    """To the capture loop: scan every root, with all limits lifted, and then store the time of the scan."""


class EraseForgotten(msgspec.Struct, frozen=True):
    """To the capture loop: sessions have new tombstones."""


class Captured(msgspec.Struct, frozen=True):
    """To the upload loop: the outbox has something new."""


class Retry(msgspec.Struct, frozen=True):
    """To the upload loop: try again sooner than planned."""

    cause: Cause


class Hold(msgspec.Struct, frozen=True):
    """To the upload loop: the user paused pushing, or resumed it."""

    paused: bool


class ConfigChanged(msgspec.Struct, frozen=True):
    """To both loops: these limits and files are in force from now on."""

    limits: BacklogLimits
    files: ConfigWatch


CaptureMessage = Ping | Stop | MoreRoom | ScanNow | EraseForgotten | ConfigChanged
UploadMessage = Ping | Stop | Captured | Retry | Hold | ConfigChanged

M = TypeVar("M")


class Inbox(Generic[M]):
    """The messages to a loop. Any thread may put one; only the loop takes them. Not for signal handlers: it locks."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        """`wake` is called after each message, for a loop that waits for something else than its inbox."""
        self._changed = threading.Condition()
        self._messages: list[M] = []
        self._wake = wake
        self.stopped = False
        """Whether Stop was put."""

    def put(self, message: M) -> None:
        """Put a message, and wake the loop.

        An equal message that still waits is replaced: a loop that hangs must not let the messages pile up.
        """
        with self._changed:
            self.stopped |= isinstance(message, Stop)
            self._messages = [*(each for each in self._messages if each != message), message]
            self._changed.notify_all()
        self._wake()

    def take(self) -> list[M]:
        """Remove and return the messages, in the order in which they came."""
        with self._changed:
            taken, self._messages = self._messages, []
        return taken

    def wait(self, seconds: float | None) -> None:
        """Wait until there is a message, or until `seconds` have passed."""
        with self._changed:
            if not self._messages:
                self._changed.wait(seconds)

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`; return early after Stop, but not for other messages."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self.stopped and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)


class Inboxes(msgspec.Struct, frozen=True):
    """The inboxes of the three threads."""

    main: queue.SimpleQueue[Message | BaseException]
    capture: Inbox[CaptureMessage]
    upload: Inbox[UploadMessage]
