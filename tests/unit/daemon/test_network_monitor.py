"""The monitor of the network where the system does not allow it."""

from __future__ import annotations

import socket
import sys

import pytest

from sessiond.daemon import network
from sessiond.daemon.network import NetworkMonitor


class Refusing(socket.socket):
    """A socket that a sandbox does not allow to listen."""

    def __init__(self, *_: object) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)

    def bind(self, _: object) -> None:
        """Fail as a sandbox does."""
        raise PermissionError


def forbidden(*_: object) -> socket.socket:
    """Fail as a sandbox without this kind of socket does."""
    raise OSError("address family not supported")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has rtnetlink")
@pytest.mark.parametrize("made", [forbidden, Refusing])
def test_a_sandbox_without_netlink_is_no_error(monkeypatch: pytest.MonkeyPatch, made: object) -> None:
    """The daemon starts, and only the backoff decides when a failed push is tried again."""
    monkeypatch.setattr(network.socket, "socket", made)
    monitor = NetworkMonitor(lambda: None)
    assert monitor._wake is None
    monitor.close()
