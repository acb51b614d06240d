"""Print how much hostile clients slow down a normal one at `sessiond serve`.

    make bench-endpoint

It prints the slowest push of a normal client beside 1,000 half-sent requests (also with 256 descriptors); then that of
another device during a stale append to a stream of 400 MB, and beside a push that unpacks to 4 GB.

The load of the machine is in these times too. So the stale append is compared with the same pushes alone, and beside
a process that computes for as long as the append takes: what is left of the difference, the endpoint is to blame for.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx

from sessiond import zstd

SEGMENT = 4 << 20
HALF = b"POST /v1/push HTTP/1.1\r\nHost: x\r\nX-Half: "
SERVE = (
    "import resource, sys\n"
    "limit = int(sys.argv[2])\n"
    "resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 1024), limit))\n"
    "from sessiond.endpoint.server.run import Options, serve\n"
    "path = sys.argv[1]\n"
    "serve(Options(directory=path, port=0, announce='-', token_file=path + '/token', until_eof=True))\n"
)


BUSY = (
    "import hashlib, sys, time\n"
    "until, data = time.monotonic() + float(sys.argv[1]), bytes(1 << 20)\n"
    "while time.monotonic() < until:\n"
    "    hashlib.sha256(data).digest()\n"
)


class Device:
    """A device that pushes."""

    def __init__(self, url: str, token: str, machine: str) -> None:
        self.machine, self.session = machine, str(uuid.uuid4())
        headers = {"Authorization": f"Bearer {token}", "Sessiond-Device": str(uuid.uuid4())}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=300, verify=False)
        self.offset = 0

    def line(self, offset: int, plain: bytes) -> bytes:
        """Make an append."""
        frame = zstd.compress(plain)
        fields = {"op": "append", "machine_id": self.machine, "session": self.session, "stream": "main"}
        fields |= {"generation": 0, "offset": offset, "length": len(plain), "encoding": "zstd"}
        fields |= {"sha256": hashlib.sha256(frame).hexdigest(), "data": base64.b64encode(frame).decode()}
        return json.dumps(fields).encode()

    def push(self, *lines: bytes) -> list[dict]:
        """Push lines."""
        answer = self.http.post("/v1/push", content=b"\n".join(lines), headers={"Sessiond-Batch": uuid.uuid4().hex})
        answer.raise_for_status()
        return answer.json()["results"]

    def append(self) -> float:
        """Push a short line, and return the seconds until its acknowledgement."""
        begun = time.perf_counter()
        (result,) = self.push(self.line(self.offset, b"x\n"))
        assert result["status"] == "stored", result
        self.offset += 2
        return time.perf_counter() - begun


@contextmanager
def serving(descriptors: int) -> Iterator[tuple[str, str]]:
    """Serve in another process with a limit of open files."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-c", SERVE, directory, str(descriptors)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            with open(os.path.join(directory, "token")) as file:
                yield url, file.read().strip()
            process.stdin.close()
            process.wait(30)


def half_sent(descriptors: int) -> float:
    """Push beside 1,000 half-sent requests, each time over a new connection."""
    with serving(descriptors) as (url, token):
        host, port = url.removeprefix("http://").split(":")
        opened = []
        for _ in range(1000):
            opened.append(socket.create_connection((host, int(port)), timeout=60))
            opened[-1].sendall(HALF)
        slowest = 0.0
        for number in range(20):
            slowest = max(slowest, Device(url, token, f"normal{number}").append())
        for each in opened:
            each.close()
        return slowest


class Pushes(NamedTuple):
    """The pushes of a normal device during something else, in milliseconds, and the seconds that it took."""

    median: float
    slowest: float
    took: float

    def __str__(self) -> str:
        return f"{self.slowest:.0f} ms at most, {self.median:.1f} ms median, in {self.took:.1f} s"


def beside(device: Device, attack: Callable[[], object]) -> Pushes:
    """Push until the attack is over."""
    thread = threading.Thread(target=attack)
    begun, pushes = time.perf_counter(), [device.append()]
    thread.start()
    while thread.is_alive():
        pushes.append(device.append())
    return Pushes(statistics.median(pushes) * 1000, max(pushes) * 1000, time.perf_counter() - begun)


def compute(seconds: float) -> None:
    """Keep one core busy in another process, with the work of a digest."""
    subprocess.run([sys.executable, "-c", BUSY, str(seconds)], check=True)


def stale_append(hog: Device, normal: Device) -> None:
    """Measure another device's pushes during a stale append, and for the same time alone and beside computing."""
    for number in range(100):
        hog.push(hog.line(number * SEGMENT, os.urandom(64) * (SEGMENT // 64)))
    stale = beside(normal, lambda: hog.push(hog.line(5, b"stale")))
    alone = beside(normal, lambda: time.sleep(stale.took))
    busy = beside(normal, lambda: compute(stale.took))
    print(f"during a stale append to 400 MB: {stale}")
    print(f"  alone: {alone}")
    print(f"  beside a process that computes: {busy}")
    for name, other in (("alone", alone), ("the process", busy)):
        print(
            f"  the append against {name}: slowest {stale.slowest - other.slowest:+.0f} ms"
            f" ({stale.slowest / other.slowest:.1f} times), median {stale.median - other.median:+.1f} ms"
            f" ({stale.median / other.median:.1f} times)"
        )


def main() -> None:
    """Measure and print."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    for descriptors in (4096, 256):
        print(f"beside 1,000 half-sent requests, {descriptors} descriptors: {half_sent(descriptors) * 1000:.0f} ms")
    with serving(4096) as (url, token):
        hog, normal = Device(url, token, "hog"), Device(url, token, "normal")
        normal.append()
        stale_append(hog, normal)
        hog.session, frames = str(uuid.uuid4()), bytes(SEGMENT)
        lines = [hog.line(number * SEGMENT, frames) for number in range(1000)]
        print(f"beside a push that unpacks to 4 GB: {beside(normal, lambda: hog.push(*lines))}")


if __name__ == "__main__":
    main()
