"""What the endpoint reports about itself: `GET /metrics` in the text format of Prometheus, and an access log.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sessiond.logs import log

BUCKETS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Upper bounds of the histogram of seconds."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ACCESS_NAME = "sessiond.access_name"
"""Key in a request's scope: the name of its token."""
Labels = Mapping[str, str]
Samples = Iterable[tuple[Labels, float]]


class Requests:
    """Counts answered requests by address and status, and the seconds until the last part of the answer."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: dict[str, float] = {}

    def add(self, address: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._answers[address, status] += 1
        self._seconds[address] = self._seconds.get(address, 0.0) + seconds
        for bound in BUCKETS:
            if seconds <= bound:
                self._buckets[address, bound] += 1

    def lines(self) -> Iterator[str]:
        """Iterate the lines of these metrics."""
        answers = [({"request": name, "status": str(status)}, n) for (name, status), n in self._answers.items()]
        yield from metric("sessiond_requests_total", "counter", "Answered requests.", answers)
        name = "sessiond_request_seconds"
        yield f"# HELP {name} Seconds from a request's headers to the last part of its answer."
        yield f"# TYPE {name} histogram"
        for address in sorted(self._seconds):
            count = sum(n for (each, _), n in self._answers.items() if each == address)
            bounds = [(str(bound), self._buckets[address, bound]) for bound in BUCKETS]
            for bound, n in [*bounds, ("+Inf", count)]:
                yield _line(f"{name}_bucket", {"request": address, "le": bound}, n)
            yield _line(f"{name}_sum", {"request": address}, self._seconds[address])
            yield _line(f"{name}_count", {"request": address}, count)


class Observed:
    """Middleware that counts each request and, if `access_log` is set, logs it."""

    def __init__(self, app: ASGIApp, requests: Requests, *, access_log: bool = False) -> None:
        self._app, self._requests, self._access_log = app, requests, access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun, status, noted = time.monotonic(), 0, False

        def note() -> None:
            nonlocal noted
            if not noted:
                noted = True
                self._note(scope, status, time.monotonic() - begun)

        async def send_noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                note()  # before the client has the answer: its next request must not find this one missing
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            note()

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        self._requests.add(getattr(scope.get("endpoint"), "__name__", "unknown"), status, seconds)
        if self._access_log:
            log.info(
                "endpoint.answered",
                method=scope["method"],
                path=scope["path"],
                status=status,
                seconds=round(seconds, 4),
                token_name=scope.get(ACCESS_NAME),
                client=(scope.get("client") or ("",))[0],
            )


def metric(name: str, kind: str, about: str, samples: Samples) -> Iterator[str]:
    """Iterate the lines of a metric; none if it has no samples."""
    lines = [_line(name, labels, value) for labels, value in samples]
    if lines:
        yield f"# HELP {name} {about}"
        yield f"# TYPE {name} {kind}"
        yield from sorted(lines)


def process_lines() -> Iterator[str]:
    """Iterate the metrics of this process that Prometheus's own clients have, too."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield from metric(
        "process_cpu_seconds_total", "counter", "CPU seconds.", [({}, round(used.ru_utime + used.ru_stime, 3))]
    )
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE")
        yield from metric("process_resident_memory_bytes", "gauge", "Memory in use.", [({}, memory)])


def _line(name: str, labels: Labels, value: float) -> str:
    escaped = (f'{key}="{_escape(text)}"' for key, text in labels.items())
    shown = ",".join(escaped)
    return f"{name}{{{shown}}} {value}" if shown else f"{name} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
