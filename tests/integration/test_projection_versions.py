"""A later version of a projection reads captured sessions again, once, and loses nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sessiond.daemon.backlog import Rank
from sessiond.daemon.inventory import OUTDATED, Change, entries, load_inventory
from sessiond.ingest import Index
from sessiond.ingest.policy_changes import apply_projections
from sessiond.sources.base import Projection, Source
from support.harness import DaemonHarness, daemon_harness
from support.sample_tree import build

SAMPLES = [
    "hermes/2026",
    "goose/1.10-imported",
    "copilot-chat/3",
    "continue/cli-1.5",
    "openhands/cli-1.16",
    "mistral-vibe/2.26-lines",
    "opencode/1.2-imported",
]


def later(source: Source) -> Source:
    """Return a source whose projection gives each record one field more."""

    class Later(type(source)):  # type: ignore[misc]
        projection_version = 99

        def project(self, *arguments: Any) -> Iterator[Projection]:
            return map(widened, super().project(*arguments))

        def projections(self, *arguments: Any) -> Iterator[Projection]:
            return map(widened, super().projections(*arguments))

    return Later()


def widened(projection: Projection) -> Projection:
    return replace(
        projection, records=[json.dumps({**json.loads(line), "more": 1}).encode() for line in projection.records]
    )


def upgrade(harness: DaemonHarness) -> None:
    """Restart with later projections."""
    harness.close()
    harness.client.close()
    harness.open()
    sources: dict[Source, Source] = {source: later(source) for source, _ in harness.ingesting.roots}
    harness.ingesting = replace(
        harness.ingesting, roots=[(sources[source], root) for source, root in harness.ingesting.roots]
    )
    apply_projections(harness.ingesting, sources.values())


def streams(harness: DaemonHarness) -> dict[tuple[str, str], tuple[int, int]]:
    """Map (session, stream) to its generation and the bytes that are lost."""
    rows = harness.spool.connection.execute(
        "SELECT uuid, name, generation, lost FROM stream JOIN session ON session.id = session"
    )
    return {(uuid, name): (generation, lost) for uuid, name, generation, lost in rows.fetchall()}


def counts(harness: DaemonHarness) -> dict[str, int]:
    return {name: item["record"]["message_count"] for name, item in harness.held_sessions().items()}


def projected(harness: DaemonHarness) -> set[tuple[str, str]]:
    """Return the streams whose records the later projection has."""
    return {key for key in streams(harness) if b'"more": 1' in harness.held(*key)}


@pytest.mark.parametrize("name", SAMPLES)
def test_each_captured_stream_begins_one_generation(name: str, tmp_path: Path) -> None:
    with daemon_harness(tmp_path) as harness:
        build(name, harness.home)
        harness.settle()
        before, messages = streams(harness), counts(harness)
        upgrade(harness)
        harness.settle()
        after = streams(harness)
        assert after.keys() == before.keys()
        assert projected(harness)
        for key, (generation, lost) in after.items():
            assert lost == 0
            assert generation == before[key][0] + (key in projected(harness))
        assert counts(harness) == messages
        harness.close()
        harness.client.close()
        harness.open()
        harness.scan()
        assert streams(harness) == after


def test_the_sessions_of_a_database_are_read_again(tmp_path: Path) -> None:
    with daemon_harness(tmp_path) as harness:
        path = os.path.join(build("hermes/2026", harness.home), ".hermes/state.db")
        harness.settle()
        upgrade(harness)
        marks = harness.spool.catalog.marks(path)
        assert {mark for name, mark in marks.items() if name} == {""}
        harness.scan()
        assert "" not in harness.spool.catalog.marks(path).values()
        assert load_inventory(harness.spool)[path] != OUTDATED


def test_a_full_outbox_makes_nothing_count_as_lost(tmp_path: Path) -> None:
    """The new generation has the bytes that wait in the file for space."""
    with daemon_harness(tmp_path, budget=0) as harness:
        build("hermes/2026", harness.home)
        harness.scan()
        assert [lost for _, lost in streams(harness).values() if lost] == []
        upgrade(harness)
        harness.scan()
        assert [lost for _, lost in streams(harness).values() if lost] == []


def test_a_file_that_was_deleted_meanwhile_keeps_what_was_captured(tmp_path: Path) -> None:
    with daemon_harness(tmp_path) as harness:
        build("hermes/2026", harness.home)
        harness.settle()
        before, held = streams(harness), counts(harness)
        upgrade(harness)
        for path in Path(harness.home, ".hermes").iterdir():
            path.unlink()
        harness.settle()
        assert (streams(harness), counts(harness)) == (before, held)
        assert all(item["gone_at"] for item in harness.held_sessions().values())


def test_what_is_read_again_waits_behind_live_sessions(tmp_path: Path) -> None:
    """It is queued like a file that was never read, so thousands of them don't delay a live one."""
    with daemon_harness(tmp_path) as harness:
        path = os.path.join(build("hermes/2026", harness.home), ".hermes/state.db")
        harness.settle()
        upgrade(harness)
        inventory, index = load_inventory(harness.spool), Index(harness.ingesting.roots)
        assert path in inventory  # so that a deletion is noticed
        (entry,) = entries([Change(path, 0, 1 << 44)], inventory, index, harness.now_ms, {})
        assert entry.rank is Rank.OLD


def test_lines_are_not_read_again(tmp_path: Path) -> None:
    with daemon_harness(tmp_path) as harness:
        build("droid/0.215-fork", harness.home)
        harness.settle()
        before = load_inventory(harness.spool)
        upgrade(harness)
        after = load_inventory(harness.spool)
        assert {path for path in before if after[path] == OUTDATED} == {
            path for path in before if path.endswith("settings.json")
        }


def test_the_copies_of_a_session_stay_one_stream(tmp_path: Path) -> None:
    """The first copy to be read differs from all that was captured, and so from the other copy."""
    with daemon_harness(tmp_path) as harness:
        storage = Path(build("copilot-chat/3", harness.home), ".config/Code/User/workspaceStorage")
        shutil.copytree(storage / ("1a" * 16), storage / ("2b" * 16))
        harness.settle()
        before = streams(harness)
        upgrade(harness)
        harness.settle()
        after = streams(harness)
        assert after.keys() == before.keys()
        assert {key for key in after if after[key][0] == before[key][0] + 1} == projected(harness)
