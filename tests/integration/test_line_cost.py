"""What one more line of a session costs, in statements of SQLite and calls of Python: time depends on the machine."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

import sessiond
from sessiond.daemon.work_queue import Work
from sessiond.endpoint.server import running
from support.capture import Lab, lab, write
from support.harness import TOKEN


@contextmanager
def counted(made: Lab) -> Iterator[Counter[str]]:
    """Yield the first words of the statements that are executed meanwhile, without those of triggers."""
    found = Counter[str]()
    connection = made.resources.spool.connection
    before: list[str] = []

    def trace(statement: str) -> None:
        if before != [statement]:  # SQLite reports a statement again after each of its triggers
            found[statement.partition(" ")[0]] += 1
        before[:] = [statement]

    connection.set_trace_callback(trace)
    try:
        yield found
    finally:
        connection.set_trace_callback(None)


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """Yield the files of sessiond whose functions this thread calls meanwhile, each with the number of calls."""
    package = os.path.dirname(sessiond.__file__)
    found = Counter[str]()
    before = sys.getprofile()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(package):
            found[frame.f_code.co_filename] += 1

    sys.setprofile(count)
    try:
        yield found
    finally:
        sys.setprofile(before)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Return an engine with an endpoint that has the first line of a session."""
    with running(os.path.join(tmp_path, "endpoint"), token=TOKEN) as endpoint:
        settings = {"endpoint": {"url": endpoint.url}}
        with lab(tmp_path, settings, token=TOKEN) as made:
            path = write(tmp_path, 1, age=0.0)
            made.look()
            while made.engine.upload_loop.push_all():
                pass
            write(tmp_path, 1, age=0.0)
            made.touch(path)
            made.engine.upload_loop.push_all()
            write(tmp_path, 1, age=0.0, lines=2)
            made.report(path)
            yield made


def test_capturing_a_line_takes_few_statements(made: Lab) -> None:
    """The line, its checkpoint and the session's record are one transaction, and each row is read once."""
    with counted(made) as found:
        made.turn()
    assert found["COMMIT"] == 1
    assert found.total() <= 20, found


def test_pushing_a_line_takes_few_statements(made: Lab) -> None:
    """The acknowledgement is one transaction; that an item is still in the spool is not asked apart from it."""
    made.turn()
    with counted(made) as found:
        made.engine.upload_loop.push_all()
    assert made.resources.spool.stats.waiting().segments == 0
    assert found["COMMIT"] == 1
    assert found.total() <= 22, found


def test_a_line_takes_few_calls(made: Lab) -> None:
    """Most of the code runs once in a while and is cold then: each call costs a microsecond and more."""
    with counted_calls() as capturing:
        work = made.queue.next(time.monotonic())
        while isinstance(work, Work):
            made.capture_loop.do(work)
            work = made.queue.next(time.monotonic())
    with counted_calls() as pushing:
        made.engine.upload_loop.push_all()
    assert made.resources.spool.stats.waiting().segments == 0
    assert capturing.total() <= 505, capturing.most_common(20)
    assert pushing.total() <= 290, pushing.most_common(20)


def test_a_changed_path_is_compared_with_no_root(made: Lab, tmp_path: Path) -> None:
    """There are hundreds of roots, and tools write many files that are no sessions."""
    for name in ("short.txt", "other.txt"):
        made.report(str(tmp_path / "home" / name))
    with counted_calls() as found:
        made.report(str(tmp_path / "home" / "notes.txt"))
    assert found.total() < 25, found.most_common(20)


def test_a_line_takes_one_turn_of_the_loop(made: Lab) -> None:
    """It is read, the round ends, and the loop waits for the next change, without a look at the watcher in between."""
    made.watcher.wait(0.0)  # asks for the first scan
    made.queue.streams_wait = False
    made.watcher.wake()
    made.capture_loop.step()
    assert not made.queue.has_live
    assert not isinstance(made.queue.next(time.monotonic()), Work)
    assert made.resources.spool.stats.waiting().segments == 1
