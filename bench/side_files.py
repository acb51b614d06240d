"""What side files cost beside transcript lines: the CPU of a megabyte of each.

Each home has one session. In the first one its transcript has all the bytes; in the second one, the same bytes are
side files of 4 to 200 KB, as the outputs of commands are, with every tenth of 2 MB; in the third one, these are images,
which no compression makes smaller. The homes are captured by turns, in this process, so that neither a start nor an
idle thread is counted.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import corpus
from processes import clear
from rows import NOWHERE, Figure, Plan, figure
from sessiond import state
from sessiond.config import Config, Loaded
from sessiond.config.model import Endpoint as EndpointConfig
from sessiond.daemon.engine import SLICE_OF_FILE, Engine, EngineOptions
from sessiond.daemon.settings import Settings
from sessiond.daemon.work_queue import Work
from sessiond.pause import Paused
from sessiond.watch import Batch

SMALL = (4_000, 200_000)
LARGE = 2_000_000
LINES, TEXTS, IMAGES = "lines", "side files", "images"
EXTENSIONS = {TEXTS: "txt", IMAGES: "png"}
ROUNDS = 5
"""The least of several captures is reported: other programs only add to it."""


def side_files(plan: Plan) -> Iterator[Figure]:
    """Capture the same bytes as lines and as side files."""
    size = (40 if plan.quick else 200) * 1_000_000
    room = plan.room("side")
    homes = {kind: _make(os.path.join(room, kind), size, kind) for kind in (LINES, TEXTS, IMAGES)}
    found: dict[str, list[float]] = {kind: [] for kind in homes}
    for number in range(ROUNDS):
        for kind, home in homes.items():
            found[kind].append(_capture(home, os.path.join(room, f"{kind}-{number}")))
    least = {kind: min(spent) for kind, spent in found.items()}
    per, label = 1e9 / size, f"{size / 1e6:.0f} MB"
    for kind, spent in least.items():
        yield figure("side", "sessiond", f"CPU per MB of {kind}, {label}", f"{spent * per:.1f} ms")
    for kind in (TEXTS, IMAGES):
        yield figure("side", "sessiond", f"{kind}, times the {LINES}", f"{least[kind] / least[LINES]:.2f}", "1")


def _make(home: str, size: int, kind: str) -> str:
    """Make a home with a session of `size` bytes; return it."""
    session = str(uuid.UUID(int=7))
    path = os.path.join(home, corpus.claude_path(session, "/home/ada/work/project-00"))
    os.makedirs(os.path.dirname(path))
    rnd = corpus.random.Random(7)
    author = corpus.Claude(rnd, corpus.Text(rnd), "/home/ada/work/project-00", corpus.NOW, session=session)
    lines = [f"{line}\n".encode() for line in corpus.session_lines(author, size, 0)]
    with open(path, "wb") as file:
        file.writelines(lines if kind == LINES else lines[:4])
    if kind != LINES:
        text = b"".join(lines[4:])
        _write_files(path.removesuffix(".jsonl"), rnd.randbytes(len(text)) if kind == IMAGES else text, rnd, kind)
    return home


def _write_files(directory: str, data: bytes, rnd: corpus.random.Random, kind: str) -> None:
    folder = os.path.join(directory, "tool-results")
    os.makedirs(folder)
    start = count = 0
    while start < len(data):
        length = LARGE if count % 10 == 9 else rnd.randint(*SMALL)
        with open(os.path.join(folder, f"toolu_{count:06}.{EXTENSIONS[kind]}"), "wb") as file:
            file.write(data[start : start + length])
        start, count = start + length, count + 1


def _capture(home: str, directory: str) -> float:
    """Capture a home; return the CPU seconds."""
    state.prepare(clear(directory))
    lock = state.Lock(directory)
    config = Config(state_dir=directory, machine_id="bench", endpoint=EndpointConfig(url=NOWHERE))
    try:
        settings = Settings(loaded=Loaded(config=config), token=None, paused=Paused(), terms="")
        with Engine(settings, {"HOME": home}, lock, EngineOptions(slice=SLICE_OF_FILE)) as engine:
            loop = engine.capture_loop
            engine.resources.ingest.masking.load()  # the rules are loaded: a start is not measured
            began = time.process_time()
            loop.add_batch(Batch(rescan=tuple(engine.resources.watched)))
            while isinstance(work := loop.queue.next(time.monotonic()), Work):
                loop.do(work)
            spent = time.process_time() - began
    finally:
        lock.release()
    with closing(sqlite3.connect(os.path.join(directory, "spool.db"))) as spool:
        (captured,) = spool.execute("SELECT sum(folded) FROM stream").fetchone()
    written = sum(file.stat().st_size for file in Path(home).rglob("*") if file.is_file())
    if captured != written:
        raise RuntimeError(f"captured {captured:,} bytes of {written:,}")
    return spent
