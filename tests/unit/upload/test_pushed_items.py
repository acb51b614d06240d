"""What a push says beside the captured bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from sessiond.restored import Mark, Origin
from sessiond.upload.context import KEPT_RUNS, begin_run
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def test_a_record_names_the_session_that_it_continues(harness: DaemonHarness) -> None:
    """The user restored it from another machine, and went on here."""
    origin = Origin(machine_id="desk", id=UUID(SESSION))
    mark = Mark(continues=origin, directory="/home/dev/project", endpoint="", restored_ms=harness.now_ms, keys=b"")
    harness.uploading.restored.add(UUID(SESSION), mark)
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    assert harness.held_sessions()[SESSION]["continues"] == {"machine_id": "desk", "id": SESSION}


def test_the_ids_of_the_last_runs_are_kept(harness: DaemonHarness) -> None:
    """The newest one first, and no more than are compared."""
    runs = [begin_run(harness.spool) for _ in range(KEPT_RUNS + 3)]
    assert len(runs[-1]) == KEPT_RUNS
    assert runs[-1][1:] == runs[-2][:-1]
    assert len(set(runs[-1])) == KEPT_RUNS
