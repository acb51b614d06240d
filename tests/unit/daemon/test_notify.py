"""Notifications to systemd, and the detection of the service manager."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from sessiond.daemon.notify import ServiceNotifier, service


def received(address: str, notify_socket: str) -> bytes:
    """Return what a service manager at an address receives from one call."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(10)
        ServiceNotifier({"NOTIFY_SOCKET": notify_socket})(READY="1", STATUS="pushing to a place")
        return manager.recv(1000)


def test_fields_are_sent_as_lines(tmp_path: Path) -> None:
    """They are one datagram, one field a line."""
    address = str(tmp_path / "s")
    assert received(address, address) == b"READY=1\nSTATUS=pushing to a place"


@pytest.mark.skipif(sys.platform != "linux", reason="abstract addresses are Linux's")
def test_an_abstract_address_is_written_with_an_at_sign() -> None:
    """The kernel expects a zero byte instead (unix(7))."""
    name = f"sessiond-test-{os.getpid()}"
    assert received(f"\0{name}", f"@{name}").startswith(b"READY=1")


def test_without_a_service_manager_nothing_is_sent(tmp_path: Path) -> None:
    """A service manager that has gone is not an error either."""
    ServiceNotifier({})(READY="1")
    ServiceNotifier({"NOTIFY_SOCKET": str(tmp_path / "none")})(READY="1")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "this process"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_a_heartbeat_is_sent_twice_as_often_as_wanted(environ: dict[str, str], seconds: float | None) -> None:
    """It is sent only if the watchdog is meant for this process (sd_watchdog_enabled(3))."""
    environ = {name: value.replace("this process", str(os.getpid())) for name, value in environ.items()}
    assert ServiceNotifier(environ).watchdog == seconds


@pytest.mark.parametrize(
    ("environ", "manager"),
    [
        ({"INVOCATION_ID": "1", "NOTIFY_SOCKET": "/run/s"}, "systemd"),
        ({"INVOCATION_ID": "1"}, None),
        ({"NOTIFY_SOCKET": "/run/s"}, None),
        ({"XPC_SERVICE_NAME": "io.sessiond.daemon"}, "launchd"),
        ({"XPC_SERVICE_NAME": "com.apple.Terminal"}, None),
        ({}, None),
    ],
)
def test_the_service_manager_is_known_by_its_variables(environ: dict[str, str], manager: str | None) -> None:
    """A terminal that a service manager started does not count: it does not expect notifications."""
    assert service(environ) == manager
