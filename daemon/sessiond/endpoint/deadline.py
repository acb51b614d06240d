"""What bounds a request as a whole: an alarm in another thread, and the connection that it cuts."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any


class DeadlineTimer:
    """Calls `ring` once if it is not disarmed in time.

    One thread serves all of its times: a `threading.Timer` for each request costs as much as the request's bytes.
    It is woken by a first time only, and looks by itself whether a later one has come in the place of that.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._changed = threading.Condition()
        self._at = self._asleep_until = math.inf
        self._thread: threading.Thread | None = None
        self._closed = False

    def arm(self, at: float) -> None:
        """Ring at this monotonic time."""
        with self._changed:
            self._at = at
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="alarm", daemon=True)
                thread.start()
                self._thread = thread  # only one that could be started is joined
            elif at < self._asleep_until:
                self._changed.notify()

    def disarm(self) -> None:
        """Do not ring."""
        with self._changed:
            self._at = math.inf

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                left = self._at - time.monotonic()
                if left <= 0:
                    self._at = math.inf
                    self._ring()
                    continue
                self._asleep_until = self._at
                self._changed.wait(None if left == math.inf else left)


class Connection:
    """The connection under a request, so that another thread can cut it."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._over = False

    def reset(self) -> None:
        """Note that another request begins."""
        self._over = False

    def note(self, event: str, seen: Mapping[str, Any]) -> None:
        """Hear from httpcore that a connection was made; one that comes too late, after `cut`, is ended at once."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = seen["return_value"].get_extra_info("socket")
            if self._over:
                self._end()

    def cut(self) -> None:
        """End the connection, also one that is yet to come; whoever reads from it gets an error."""
        self._over = True
        self._end()

    def _end(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                # Not SSLSocket's own, which would change what the reading thread uses.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
