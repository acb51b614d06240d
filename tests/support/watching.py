"""Real watchers on real directories, and a process that can be stopped and starved: for test_watch.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sessiond.sources.base import Root, Watch
from sessiond.watch import Batch, RootState, WatchedRoot, Watcher, WatchOptions

SOON = 60.0
"""Seconds until a test gives up on an event; far more than anything takes on a machine that is busy with more."""


def tree(path: object, owner: str = "tool", **options: Any) -> WatchedRoot:
    """Return a root that is watched with everything below it."""
    return WatchedRoot(owner=owner, root=Root(path=str(path), **options))


def flat(path: object, owner: str = "tool") -> WatchedRoot:
    """Return a root of which only the directory is watched."""
    return tree(path, owner, watch=Watch.FLAT)


def look(watcher: Watcher, batch: Batch) -> set[str]:
    """Do what ingest does with a rescan: look at each root that is due."""
    return {path for watched in batch.rescan for path, _ in watcher.scan(watched)}


class Lab:
    """A started watcher, its first look done."""

    def __init__(self, *roots: WatchedRoot, **options: Any) -> None:
        self.watcher = Watcher(roots, WatchOptions(**{"rescan": 600.0, "settle": 0.05, **options}))
        self.watcher.start()
        self.paths: set[str] = set()
        self.whys: set[str] = set()
        self.looks = 0
        self.turn(SOON)

    def turn(self, timeout: float) -> Batch:
        """Wait for one batch, and look at what it asks to be looked at."""
        batch = self.watcher.wait(timeout)
        self.paths |= batch.paths | look(self.watcher, batch)
        self.whys |= {str(why) for why in batch.why}
        self.looks += len(batch.rescan)
        return batch

    def until(self, done: Callable[[], bool]) -> float:
        """Turn until something is so; seconds it took."""
        began = time.monotonic()
        while not done():
            left = began + SOON - time.monotonic()
            assert left > 0, f"never: {sorted(self.paths)} {self.whys} {[str(state) for state in self.states()]}"
            self.turn(left)
        return time.monotonic() - began

    def sees(self, *paths: object) -> float:
        """Turn until all these paths were reported; seconds it took."""
        wanted = {str(path) for path in paths}
        return self.until(lambda: wanted <= self.paths)

    def forget(self) -> None:
        """Wait for silence and start a new list."""
        while True:
            batch = self.turn(0.15)
            if not batch.paths and not batch.rescan:
                break
        self.paths, self.whys, self.looks = set(), set(), 0

    def states(self) -> list[RootState]:
        """Ask for the states."""
        return list(self.watcher.states())

    def how(self) -> list[str]:
        """Return how each root is watched."""
        return [str(state.mode) for state in self.states()]


class Child:
    """A process with a watcher of its own, controlled line by line."""

    def __init__(self, paths: Iterable[Path], *, prefix: Iterable[str] = (), **options: Any) -> None:
        command = [*prefix, sys.executable, __file__, json.dumps(options), *(str(path) for path in paths)]
        pipe = subprocess.PIPE
        paths_of_modules = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.run = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=paths_of_modules)

    def tell(self, seconds: float) -> None:
        """Make it wait for one batch, at most for so long."""
        assert self.run.stdin is not None
        self.run.stdin.write(f"{seconds}\n".encode())
        self.run.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Return its batch and states."""
        assert self.run.stdout is not None
        answer: dict[str, Any] = json.loads(self.run.stdout.readline())
        return answer

    def ask(self, seconds: float = SOON) -> dict[str, Any]:
        """Send a request, and return the answer."""
        self.tell(seconds)
        return self.hear()

    def end(self) -> str:
        """Close it and wait for its end; return what it wrote to stderr."""
        _, errors = self.run.communicate(timeout=SOON)
        assert self.run.returncode == 0, errors.decode()
        return errors.decode()

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self.run.returncode is None:
            self.run.kill()
            self.run.communicate()


def serve() -> None:
    """Be the child."""
    watcher = Watcher([tree(path) for path in sys.argv[2:]], WatchOptions(**json.loads(sys.argv[1])))
    watcher.start()
    for line in sys.stdin:
        batch = watcher.wait(float(line))
        seen = look(watcher, batch)
        answer = {
            "paths": sorted(batch.paths),
            "seen": sorted(seen),
            "why": sorted(batch.why),
            "states": [[str(state), state.hint] for state in watcher.states()],
            "unreadable": [state.unreadable for state in watcher.states()],
        }
        print(json.dumps(answer), flush=True)
    watcher.close()


if __name__ == "__main__":
    serve()
