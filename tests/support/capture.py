"""The engine of a daemon without its threads: the test drives the loops."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from sessiond import state
from sessiond.config import Config
from sessiond.daemon.engine import Engine, EngineOptions, Throttles
from sessiond.daemon.throttle import PUSHING, Throttle
from sessiond.daemon.work_queue import Lane, Work
from sessiond.spool import health
from sessiond.spool.health import CaptureHealth
from sessiond.watch import Batch
from support.harness import claude, encode, settings_of

DAY = 86_400


def session(number: int) -> str:
    """Return the id of the n-th session."""
    return f"5f1d7c1e-0000-4000-8000-{number:012x}"


class Lab:
    """An engine whose loops are driven by the test, a home, and the health that `status` would read."""

    def __init__(self, base: str, engine: Engine, lock: state.Lock) -> None:
        self.home, self.engine, self.resources = os.path.join(base, "home"), engine, engine.resources
        self.lock = lock
        self.watcher, self.capture_loop, self.queue = engine.watcher, engine.capture_loop, engine.capture_loop.queue
        self.capture_loop.slice_seconds = math.inf
        self.capture_loop.report.interval = 0.0

    def look(self) -> CaptureHealth:
        """Scan everything and read what is new, as `sync` does; return what status would show."""
        self.capture_loop.capture_all()
        return self.health()

    def report(self, *paths: str) -> None:
        """Queue changes of these paths, as the watcher reports them."""
        self.capture_loop.add_batch(Batch(paths=frozenset(paths)))

    def touch(self, *paths: str) -> CaptureHealth:
        """Report changes of these paths, and do the work of two rounds."""
        self.report(*paths)
        self.turn()
        return self.turn()

    def scan(self) -> None:
        """Scan every root as at a rescan, and read nothing yet."""
        self.capture_loop.add_batch(Batch(rescan=tuple(self.resources.watched)))

    def turn(self) -> CaptureHealth:
        """Do the work of one round."""
        while isinstance(work := self.queue.next(time.monotonic()), Work):
            self.capture_loop.do(work)
            if work.lane is Lane.END:
                break
        self.capture_loop.store_report()
        return self.health()

    def wait(self) -> float | None:
        """Return how long the loop would wait now; None if only an event can wake it."""
        found = self.queue.next(time.monotonic())
        return 0.0 if isinstance(found, Work) else found

    def health(self) -> CaptureHealth:
        """Return what status would show."""
        return health.read_capture(self.resources.spool)

    def captured(self) -> set[str]:
        """Return the sessions that have a record."""
        return {str(found.uuid) for found in self.resources.spool.catalog.sessions()}


@contextmanager
def lab(
    base: object, settings: dict[str, Any] | None = None, reading: Throttle | None = None, token: str | None = None
) -> Iterator[Lab]:
    """Yield an engine with these settings; another one in the same directory continues from there."""
    directory = os.path.join(str(base), "state")
    state.prepare(directory)
    lock = state.Lock(directory)
    given = {"state_dir": directory, "machine_id": "testbox", "endpoint": {"url": "http://127.0.0.1:9"}}
    config = msgspec.convert(given | (settings or {}), type=Config)
    throttles = None if reading is None else Throttles(reading, Throttle(PUSHING))
    environ = {"HOME": os.path.join(str(base), "home")}
    try:
        with Engine(settings_of(config, token), environ, lock, EngineOptions(throttles=throttles)) as engine:
            yield Lab(str(base), engine, lock)
    finally:
        lock.release()


def write(base: object, number: int, *, age: float, relative: str = "", lines: int = 1) -> str:
    """Write a session of Claude Code with a time this many seconds ago; return the path of its file."""
    name = relative or f"{session(number)}.jsonl"
    path = os.path.join(str(base), "home", ".claude", "projects", "-home-dev-project", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "ab") as file:
        file.write(b"".join(encode(claude(session(number), line)) for line in range(lines)))
    made = os.stat(path).st_mtime - age
    os.utime(path, (made, made))
    return path
