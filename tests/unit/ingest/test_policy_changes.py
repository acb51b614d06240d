"""What a start with other rules masks again."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from sessiond.ingest.policy_changes import TERMS, apply_policy_changes
from sessiond.privacy import Masking, Terms
from sessiond.redact.policy import Policy
from support.harness import CLAUDE, SESSION, claude, daemon_harness

SECRET = "ghp_" + "a1B2c3D4e5F6a7B8c9D0e1F2a3B4c5D6e7F8"


@pytest.mark.parametrize(("text", "before", "changed"), [("hello", False, 0), (SECRET, True, 0), (SECRET, False, 1)])
def test_only_segments_with_something_to_mask_are_counted(
    tmp_path: Path, text: str, before: bool, changed: int
) -> None:
    """`before`: they were masked by the same rules already. The log says how many were masked again."""
    rules = Terms(policy=Policy(), version="with rules")
    with daemon_harness(tmp_path) as harness:
        harness.ingesting = replace(harness.ingesting, masking=Masking(rules if before else None))
        harness.write(CLAUDE, claude(SESSION, 1, text=text))
        harness.scan()
        harness.ingesting = replace(harness.ingesting, masking=Masking(rules))
        harness.spool.set_meta(TERMS, None)
        assert apply_policy_changes(harness.ingesting) == changed
        assert apply_policy_changes(harness.ingesting) == 0
        assert harness.spool.outbox.size == harness.spool.stats.waiting().bytes


def test_parked_items_are_retried_only_under_another_machine_id(tmp_path: Path) -> None:
    """The old id may have been the reason. At each start, what the endpoint refuses would be pushed again."""

    def park() -> None:
        with harness.spool.transaction():
            harness.spool.outbox.park_segment(harness.spool.outbox.segments(9, 1 << 20)[0], "no")

    with daemon_harness(tmp_path) as harness:
        harness.write(CLAUDE, claude(SESSION, 1))
        harness.settle()
        harness.write(CLAUDE, claude(SESSION, 2))
        harness.scan()
        apply_policy_changes(harness.ingesting)
        park()
        apply_policy_changes(harness.ingesting)
        assert harness.spool.stats.waiting().parked == 1
        renamed = replace(harness.ingesting, machine_id="renamed")
        apply_policy_changes(renamed)
        assert harness.spool.stats.waiting().parked == 0
        park()
        apply_policy_changes(renamed)
        assert harness.spool.stats.waiting().parked == 1
