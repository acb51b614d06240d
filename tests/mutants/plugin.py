"""A pytest plugin for runs against mutants: which tests run and in which order, and what each one reaches.

It does nothing without its two environment variables, each of which names a file:

- MUTANTS_SELECTION: a JSON object of node ids and seconds; these tests run, in this order. One that takes much longer
  than its seconds does not end, and the process exits with ENDLESS.
- MUTANTS_CONTEXT: gets the node id of the test that runs, so that the lines which are measured in other processes
  can be credited to it. MUTANTS_RESULTS gets one JSON line per test with its seconds and outcome.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

ENDLESS = 99
FAILED = pytest.StashKey[bool]()
LIMIT = pytest.StashKey[float]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the selected tests, in the order of the selection."""
    selection = os.environ.get("MUTANTS_SELECTION")
    if not selection:
        return
    limits = json.loads(Path(selection).read_text())
    order = {name: index for index, name in enumerate(limits)}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in order])
    for item in items:
        item.stash[LIMIT] = 15 + 10 * limits.get(item.nodeid, 0)
    items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])


@contextmanager
def _limited(item: pytest.Item) -> Iterator[None]:
    """End the process if a test runs for too long: a mutant may have made it endless."""

    def end() -> None:
        Path(os.environ["MUTANTS_SELECTION"] + "-endless").write_text(item.nodeid)
        os._exit(ENDLESS)

    timer = threading.Timer(item.stash[LIMIT], end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """Credit the lines that run from here on to this test."""
    context = os.environ.get("MUTANTS_CONTEXT")
    if not context:
        with _limited(item) if LIMIT in item.stash else nullcontext():
            return (yield)
    import coverage

    Path(context).write_text(item.nodeid)
    measuring = coverage.Coverage.current()
    assert measuring is not None
    measuring.switch_context(item.nodeid)
    began = time.monotonic()
    answer = yield
    passed = item.stash.get(FAILED, None) is None
    line = {"test": item.nodeid, "seconds": round(time.monotonic() - began, 3), "passed": passed}
    with open(os.environ["MUTANTS_RESULTS"], "a") as file:
        file.write(json.dumps(line) + "\n")
    return answer


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """Note a failure of any phase."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report
