"""The samples of the conformance suite, taken in by the real engine."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from household import Household, household
from sessiond.spool.rows import SessionState

SAMPLES = Path(__file__).parent / "conformance" / "samples"
NAMES = sorted(str(path.parent.relative_to(SAMPLES)) for path in SAMPLES.glob("*/*/expected.json"))


def golden(house: Household, state: SessionState) -> dict[str, Any]:
    """Show a session of the spool as expected.json does."""
    record = state.record
    assert record is not None
    return {
        "id": str(record.id),
        "tool": record.tool,
        "tool_version": record.tool_version,
        "started_at": record.started_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ended_at": record.ended_at and record.ended_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "model": record.model,
        "working_directory": record.working_directory,
        "git_branch": record.git_branch,
        "message_count": record.message_count,
        "parent": state.parent and str(state.parent),
        "streams": sorted(stream.name for stream in house.spool.catalog.streams(state.id)),
        "title": state.title,
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_daemon_reads_a_sample_as_the_suite_does(name: str, tmp_path: Path) -> None:
    """Through spool, checkpoints and families of sessions, the records are the same."""
    expected = json.loads((SAMPLES / name / "expected.json").read_bytes())
    with household(tmp_path) as house:
        shutil.copytree(SAMPLES / name, house.home, dirs_exist_ok=True)
        os.unlink(os.path.join(house.home, "expected.json"))
        house.scan()
        found = [golden(house, state) for state in house.spool.catalog.sessions() if state.record is not None]
        for item in expected:
            del item["unknown"]
        assert sorted(found, key=lambda item: item["id"]) == expected
