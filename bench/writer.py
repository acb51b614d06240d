"""How long a cold start blocks other writers of the spool: the longest transaction of the capture.

The home has a session of 200 MB, a database of 1 GB (400 sessions) and 2,000 small sessions; a tenth for `--quick`.
The capture runs in this process, so that each transaction can be timed from its BEGIN to the end of its COMMIT.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import corpus
import databases
from rows import NOWHERE, Figure, Plan, figure
from sessiond import state
from sessiond.config import Config, Loaded
from sessiond.config.model import Endpoint as EndpointConfig
from sessiond.daemon.engine import SLICE_OF_FILE, Engine, EngineOptions
from sessiond.daemon.resources import Opening
from sessiond.daemon.settings import Settings
from sessiond.daemon.work_queue import Work
from sessiond.pause import Paused
from sessiond.spool import Spool
from sessiond.watch import Batch


class TimedSpool(Spool):
    """A spool that times its transactions."""

    holds: list[tuple[float, float]]
    """Seconds of each transaction: on the clock, and on a CPU, which other programs don't lengthen."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Time the outermost transaction: the database is locked for other writers meanwhile."""
        with super().transaction():
            if self._depth == 1:
                began = time.perf_counter(), time.thread_time()
            yield
        if self._depth == 0:
            spent = time.perf_counter() - began[0], time.thread_time() - began[1]
            self.__dict__.setdefault("holds", []).append(spent)


def writer(plan: Plan) -> Iterator[Figure]:
    """Capture everything once, and report the longest transaction."""
    room, small = plan.room("writer"), plan.quick
    home, directory = os.path.join(room, "home"), os.path.join(room, "state")
    sessions = 200 if small else 2_000
    corpus.make(home, sessions, sessions * 40_000)
    _large_session(home, (20 if small else 200) * 1_000_000)
    kept = databases.ensure(plan.directory, 40 if small else 400)
    store = os.path.join(home, databases.STORE)
    os.makedirs(os.path.dirname(store), exist_ok=True)
    shutil.copyfile(os.path.join(kept, databases.STORE), store)
    spool = _capture(home, directory)
    holds, cpu = (sorted(kind) for kind in zip(*spool.holds, strict=True))
    label = f"{'20' if small else '200'} MB file, {os.path.getsize(store) / 1e9:.1f} GB database, {sessions:,} sessions"
    common = holds[int(0.99 * len(holds))]
    yield figure("writer", "sessiond", f"longest transaction, {label}", f"{1000 * holds[-1]:.0f} ms", "100 ms")
    yield figure("writer", "sessiond", "the longest on a CPU", f"{1000 * cpu[-1]:.0f} ms")
    yield figure("writer", "sessiond", f"99th percentile of {len(holds):,}", f"{1000 * common:.0f} ms")


def _large_session(home: str, size: int) -> None:
    rnd = corpus.random.Random(3)
    session = str(uuid.uuid4())
    author = corpus.Claude(rnd, corpus.Text(rnd), "/home/ada/work/project-00", corpus.NOW, session=session)
    unit = "".join(one + "\n" for one in corpus.session_lines(author, 10_000_000, 0)).encode()
    path = os.path.join(home, corpus.claude_path(session, "/home/ada/work/project-00"))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        for _ in range(max(1, size // len(unit))):
            file.write(unit)


def _capture(home: str, directory: str) -> TimedSpool:
    state.prepare(directory)
    lock = state.Lock(directory)
    environ = {"HOME": home}
    config = Config(state_dir=directory, machine_id="bench", endpoint=EndpointConfig(url=NOWHERE))
    options = EngineOptions(slice=SLICE_OF_FILE, opening=Opening(open_spool=TimedSpool))
    try:
        settings = Settings(loaded=Loaded(config=config), token=None, paused=Paused(), terms="")
        with Engine(settings, environ, lock, options) as engine:
            loop = engine.capture_loop
            loop.add_batch(Batch(rescan=tuple(engine.resources.watched)))
            while isinstance(work := loop.queue.next(time.monotonic()), Work):
                loop.do(work)
            assert isinstance(engine.resources.spool, TimedSpool)
            return engine.resources.spool
    finally:
        lock.release()
