"""A pytest plugin for runs against mutants: which tests run, in which order, and for how long at most.

The environment variable MUTANTS_SELECTION is a file with a JSON object of node ids and seconds: these tests run, in
this order. If one takes much longer than its seconds, it does not end, and the process exits with ENDLESS.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from mutants.collected import time_limit

ENDLESS = 99
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
        item.stash[LIMIT] = time_limit(limits.get(item.nodeid, 0))
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
    """Run a selected test for a limited time."""
    with _limited(item) if LIMIT in item.stash else nullcontext():
        return (yield)
