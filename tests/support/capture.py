"""The capturing of a daemon without its threads: rooms of a configuration, and looks that the test asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from sessiond import state
from sessiond.config import Config
from sessiond.daemon.capture_loop import CaptureLoop
from sessiond.daemon.resources import Resources, open_resources
from sessiond.sources.base import UserDirs
from sessiond.spool import health
from sessiond.spool.health import CaptureHealth
from sessiond.watch import Batch, Watcher
from support.harness import claude, encode

DAY = 86_400


def session(number: int) -> str:
    """Return the id of the n-th session."""
    return f"5f1d7c1e-0000-4000-8000-{number:012x}"


class Lab:
    """What captures, a home, and the health that status would read."""

    def __init__(self, base: str, resources: Resources, lock: state.Lock, **more: Any) -> None:
        self.home, self.resources, self.lock = os.path.join(base, "home"), resources, lock
        self.watcher = Watcher(resources.watched)
        self.watcher.start()
        self.capture_loop = CaptureLoop(
            resources,
            self.watcher,
            lock,
            **{"on_captured": lambda: None, "handle_other": lambda _: False} | more,
            user_dirs=UserDirs(home=self.home, environ={}),
        )

    def look(self) -> CaptureHealth:
        """Look at everything and read what is new, as `sync` does; say what status would see."""
        self.capture_loop.capture_all()
        return health.read_capture(self.resources.spool)

    def touch(self, *paths: str) -> CaptureHealth:
        """Have the watcher tell of these paths, and one turn of the loop."""
        self.capture_loop._queue_batch(Batch(paths=frozenset(paths)))
        self.capture_loop._read_queued()
        return self.turn()

    def turn(self) -> CaptureHealth:
        """Have one more turn of the loop."""
        self.capture_loop._read_queued()
        return health.read_capture(self.resources.spool)

    def captured(self) -> set[str]:
        """The sessions that have a record."""
        return {str(found.uuid) for found in self.resources.spool.catalog.sessions()}


@contextmanager
def lab(base: object, settings: dict[str, Any] | None = None, **more: Any) -> Iterator[Lab]:
    """A life of the daemon with these settings; another one in the same directory goes on from there."""
    directory = os.path.join(str(base), "state")
    state.prepare(directory)
    lock = state.Lock(directory)
    given = {"state_dir": directory, "machine_id": "testbox", "endpoint": {"url": "http://127.0.0.1:9"}}
    home = {"HOME": os.path.join(str(base), "home")}
    resources = open_resources(msgspec.convert(given | (settings or {}), type=Config), home)
    made = Lab(str(base), resources, lock, **more)
    try:
        yield made
    finally:
        made.watcher.close()
        resources.close()
        lock.release()


def write(base: object, number: int, *, age: float, relative: str = "", lines: int = 1) -> str:
    """Write a session of Claude Code with a time so many seconds ago; return the path of its file."""
    name = relative or f"{session(number)}.jsonl"
    path = os.path.join(str(base), "home", ".claude", "projects", "-home-dev-project", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "ab") as file:
        file.write(b"".join(encode(claude(session(number), line)) for line in range(lines)))
    made = os.stat(path).st_mtime - age
    os.utime(path, (made, made))
    return path
