"""Readers of /proc: the cost of a tree of processes so far, and its present resources (Linux)."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

TICKS = os.sysconf("SC_CLK_TCK")
REQUEST = re.compile(rb"(?:GET|POST) (/\S*) HTTP/1\.1\r\n")

TOO_MANY = b"HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def tree(pid: int) -> list[int]:
    """List a process and its descendants."""
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                for child in file.read().split():
                    found += tree(int(child))
    except OSError:
        pass
    return found


def _lines(path: str) -> dict[str, str]:
    try:
        with open(path) as file:
            return dict(line.strip().split(":", 1) for line in file if ":" in line)
    except OSError:
        return {}


@dataclass
class Cost:
    """The resources that processes have used up to a moment; two values can be subtracted."""

    cpu: float = 0.0
    """Seconds on a CPU, user and system."""
    read: int = 0
    """Bytes that read() and the like returned, from files and sockets."""
    written: int = 0
    switches: int = 0
    """Voluntary context switches: wakeups."""

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            self.cpu - other.cpu,
            self.read - other.read,
            self.written - other.written,
            self.switches - other.switches,
        )


def cost(pid: int, *, alone: bool = False) -> Cost:
    """Read the cost of a tree of processes (or one `alone`), including its ended children."""
    total = Cost()
    for number in [pid] if alone else tree(pid):
        try:
            with open(f"/proc/{number}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            total.cpu += (int(fields[13]) + int(fields[14])) / TICKS  # of children that have ended
            total.cpu += time.clock_gettime(~number << 3 | 2)  # its clock of CPU time, ended threads included
            for task in os.listdir(f"/proc/{number}/task"):
                status = _lines(f"/proc/{number}/task/{task}/status")
                total.switches += int(status.get("voluntary_ctxt_switches", "0"))
        except OSError:
            continue
        io = _lines(f"/proc/{number}/io")
        total.read += int(io.get("rchar", "0"))
        total.written += int(io.get("wchar", "0"))
    return total


def resident(pid: int, *, alone: bool = False) -> int:
    """Return the bytes in memory now."""
    pages = 0
    for number in [pid] if alone else tree(pid):
        try:
            with open(f"/proc/{number}/statm") as file:
                pages += int(file.read().split()[1])
        except (OSError, IndexError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak(pid: int) -> int:
    """Return the peak memory of one process in bytes, as the kernel counted it."""
    return int(_lines(f"/proc/{pid}/status").get("VmHWM", "0 kB").split()[0]) << 10


def descriptors(pid: int) -> int:
    """Count open files."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    """Count threads."""
    return len(os.listdir(f"/proc/{pid}/task"))


def fsyncs(pid: int, seconds: float) -> int | None:
    """Count fsync calls for a while; None without strace or without the right to use it."""
    command = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range", "-p", str(pid)]
    try:
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    except FileNotFoundError:
        return None
    time.sleep(seconds)
    failed = tracer.poll() is not None
    tracer.send_signal(signal.SIGINT)
    said = tracer.communicate()[1]
    return None if failed else said.count(b"sync")


class Peak:
    """The peak memory of a tree of processes together, sampled ten times a second."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._on = True
        self._thread = threading.Thread(target=self._watch, args=(pid,), daemon=True)
        self._thread.start()

    def _watch(self, pid: int) -> None:
        while self._on:
            self.bytes = max(self.bytes, resident(pid))
            time.sleep(0.1)

    def stop(self) -> int:
        """Stop sampling."""
        self._on = False
        self._thread.join()
        return self.bytes


def wait(check: Callable[[], object], timeout: float, step: float = 0.02) -> float:
    """Wait until a condition holds; return how long that took. Raises: TimeoutError."""
    began = time.perf_counter()
    while not check():
        if time.perf_counter() - began > timeout:
            raise TimeoutError(f"not within {timeout:.0f} s")
        time.sleep(step)
    return time.perf_counter() - began


@dataclass
class Traffic:
    """The traffic through a proxy."""

    requests: list[str] = field(default_factory=list)
    sent: int = 0
    """Bytes from the client, headers included."""
    bodies: int = 0
    """Of them, bytes of bodies."""
    answered: float = 0.0
    """When the last byte of an answer to a push came (perf_counter)."""


class Proxy:
    """A loopback proxy between a daemon and its endpoint that counts, and can refuse or cut."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.traffic = Traffic()
        self.mode = "pass"
        """`pass`; `429` answers itself; `cut` closes before an answer passes; `refuse` closes at once."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._on = True
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Return the address where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> Traffic:
        """Count again and return the result."""
        before, self.traffic = self.traffic, Traffic()
        return before

    def close(self) -> None:
        """Stop listening."""
        self._on = False
        self._listener.close()

    def _accept(self) -> None:
        while self._on:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            if self.mode == "refuse":
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.upstream), timeout=5)
            except OSError:
                return
            with server:
                try:
                    self._relay(client, server)
                except OSError:
                    return

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        pushing = False
        while True:
            for ready in select.select([client, server], [], [])[0]:
                data = ready.recv(1 << 16)
                if not data:
                    return
                if ready is server:
                    if self.mode == "cut":
                        return
                    client.sendall(data)
                    if pushing:
                        self.traffic.answered = time.perf_counter()
                    continue
                found = REQUEST.search(data)
                if found:
                    path = found[1].decode()
                    pushing = path == "/v1/push"
                    self.traffic.requests.append(path)
                    self.traffic.bodies -= data.index(b"\r\n\r\n") + 4
                self.traffic.sent += len(data)
                self.traffic.bodies += len(data)
                if self.mode == "refuse":
                    return
                if self.mode == "429" and found:
                    client.sendall(TOO_MANY)
                    return
                server.sendall(data)
