"""Notifies systemd: ready, status, alive (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class ServiceNotifier:
    """The service manager's socket. Without one, calls do nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usec = environ.get("WATCHDOG_USEC", "")
        for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(usec) / 2_000_000 if usec.isdigit() and for_us else None
        """Seconds between two heartbeats: half of what the service manager allows."""

    def __call__(self, **fields: str) -> None:
        """Send fields: READY="1", STATUS="...", WATCHDOG="1", RELOADING="1", STOPPING="1"."""
        if not self._address:
            return
        text = "\n".join(f"{key}={value}" for key, value in fields.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(self._address)
            sender.sendall(text.encode())


def service(environ: Mapping[str, str]) -> str | None:
    """Return the service manager that started this process; None without one."""
    if environ.get("INVOCATION_ID") and environ.get("NOTIFY_SOCKET"):
        return "systemd"
    if environ.get("XPC_SERVICE_NAME", "").startswith("io.sessiond"):
        return "launchd"
    return None
