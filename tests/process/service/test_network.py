"""The return of a network is noticed without polling."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys

import pytest

from sessiond.daemon.network import may_restore_network
from support.program import SOURCE

INSIDE = """
import queue, subprocess
from sessiond.daemon.network import NetworkMonitor
changes = queue.SimpleQueue()
network = NetworkMonitor(lambda: changes.put(1))
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
changes.get(timeout=10)
network.close()
print("seen")
"""


@pytest.mark.skipif(not (shutil.which("unshare") and shutil.which("ip")), reason="needs unshare and ip")
def test_a_link_that_goes_up_is_told() -> None:
    """The test has its own network namespace, whose loopback is down at first."""
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", INSIDE]
    environ = {"PYTHONPATH": SOURCE, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
    if "Operation not permitted" in done.stderr:
        pytest.skip("no user namespaces here")
    assert done.stdout == "seen\n", done.stderr


def message(kind: int, body: bytes = b"") -> bytes:
    return struct.pack("=LHHLL", 16 + len(body), kind, 0, 0, 0) + body + b"\0" * (-len(body) % 4)


@pytest.mark.parametrize(
    ("datagram", "opens"),
    [
        (message(16), True),
        (message(17), False),
        (message(17, b"abc") + message(20), True),
        (message(1) + message(20), True),
        (message(21) + b"\x10\0", False),
        (b"", False),
        (b"\0" * 16, False),
    ],
)
def test_only_what_comes_opens_a_way(datagram: bytes, opens: bool) -> None:
    assert may_restore_network(datagram) is opens
