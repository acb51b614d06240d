"""The deadline of a whole request: a timer in another thread that aborts the connection."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any


class DeadlineTimer:
    """Calls `on_timeout` in its own thread if it is not disarmed before the deadline.

    One thread serves all requests, because a `threading.Timer` for each costs as much as sending a small request. The
    thread is woken only for an earlier deadline; when it wakes up, it reads the current one.
    """

    def __init__(self, on_timeout: Callable[[], None]) -> None:
        self._on_timeout = on_timeout
        self._changed = threading.Condition()
        self._deadline = self._asleep_until = math.inf
        self._thread: threading.Thread | None = None
        self._closed = False

    def arm(self, deadline: float) -> None:
        """Set the deadline, as a monotonic time."""
        with self._changed:
            self._deadline = deadline
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="deadline", daemon=True)
                thread.start()
                self._thread = thread  # set after start(), which may fail: `close` joins only a started thread
            elif deadline < self._asleep_until:
                self._changed.notify()

    def disarm(self) -> None:
        """Remove the deadline."""
        with self._changed:
            self._deadline = math.inf

    def close(self) -> None:
        """Stop the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    self._deadline = math.inf
                    self._on_timeout()
                    continue
                self._asleep_until = self._deadline
                self._changed.wait(None if left == math.inf else left)


class Connection:
    """The connection of the current request. Another thread can abort it."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._aborted = False
        self._is_new = False

    def reset(self) -> None:
        """Prepare for the next request."""
        self._aborted = False
        self._is_new = False

    @property
    def is_kept(self) -> bool:
        """Whether the connection was kept from an earlier request, rather than opened for the current one."""
        return self._socket is not None and not self._is_new

    def trace(self, event: str, values: Mapping[str, Any]) -> None:
        """Store the socket of a new connection; httpcore calls this. After `abort`, shut it down at once."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = values["return_value"].get_extra_info("socket")
            self._is_new = True
            if self._aborted:
                self._shut_down()

    def abort(self) -> None:
        """Shut down the connection, or the one that is still being opened. Reading from it then raises an error."""
        self._aborted = True
        self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                # SSLSocket.shutdown would also reset the TLS state, which the reading thread is using.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
