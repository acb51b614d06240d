"""Detects network changes on Linux, so that a failed push is tried again as soon as the network is back."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Callable

RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
"""Groups of rtnetlink(7): a link went up or down, an address came or went."""
RTM_NEWLINK, RTM_NEWADDR = 16, 20
"""Messages after which the endpoint may be reachable; the others report what went away."""
_HEADER = struct.Struct("=LHHLL")
_NETLINK_ROUTE = 0
QUIET = 1.0
"""Seconds without another message: a wireless network that comes up sends dozens."""


class NetworkMonitor:
    """A thread that waits for messages of the kernel. It does nothing on other systems than Linux."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """`changed` is called, in the thread, when the endpoint may be reachable again."""
        self._changed = changed
        self._socket = _listen()
        self._wake: tuple[int, int] | None = None
        if self._socket is not None:
            self._wake = os.pipe()
            threading.Thread(target=self._run, args=(self._socket, self._wake[0]), name="network", daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        if self._wake is not None:
            os.close(self._wake[1])
            self._wake = None

    def _run(self, listening: socket.socket, wake: int) -> None:
        import select

        waiting = False
        both: list[socket.socket | int] = [listening, wake]
        while True:
            ready, _, _ = select.select(both, [], [], QUIET if waiting else None)
            if wake in ready:
                listening.close()
                os.close(wake)
                return
            if not ready:
                waiting = False
                self._changed()
                continue
            try:
                waiting = may_restore_network(listening.recv(65536)) or waiting
            except OSError:
                waiting = True  # more messages than fit (ENOBUFS): something did change


def may_restore_network(datagram: bytes) -> bool:
    """Return whether a datagram of rtnetlink has a message after which the endpoint may be reachable."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, _, _, _ = _HEADER.unpack_from(datagram, at)
        if kind in (RTM_NEWLINK, RTM_NEWADDR):
            return True
        if length < _HEADER.size:
            return False
        at += (length + 3) & ~3
    return False


def _listen() -> socket.socket | None:
    if sys.platform != "linux":
        return None
    try:
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
    except OSError:
        return None  # a sandbox without AF_NETLINK: only the backoff is left
    try:
        made.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
    except OSError:
        made.close()
        return None
    return made
