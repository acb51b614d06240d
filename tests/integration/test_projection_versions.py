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
from support.harness import Household, household
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


def upgrade(house: Household) -> None:
    """Restart with later projections."""
    house.close()
    house.client.close()
    house.open()
    sources: dict[Source, Source] = {source: later(source) for source, _ in house.ingesting.roots}
    house.ingesting = replace(
        house.ingesting, roots=[(sources[source], root) for source, root in house.ingesting.roots]
    )
    apply_projections(house.ingesting, sources.values())


def streams(house: Household) -> dict[tuple[str, str], tuple[int, int]]:
    """Map (session, stream) to its generation and the bytes that are lost."""
    rows = house.spool.connection.execute(
        "SELECT uuid, name, generation, lost FROM stream JOIN session ON session.id = session"
    )
    return {(uuid, name): (generation, lost) for uuid, name, generation, lost in rows.fetchall()}


def counts(house: Household) -> dict[str, int]:
    return {name: item["record"]["message_count"] for name, item in house.held_sessions().items()}


def projected(house: Household) -> set[tuple[str, str]]:
    """Return the streams whose records the later projection has."""
    return {key for key in streams(house) if b'"more": 1' in house.held(*key)}


@pytest.mark.parametrize("name", SAMPLES)
def test_each_captured_stream_begins_one_generation(name: str, tmp_path: Path) -> None:
    with household(tmp_path) as house:
        build(name, house.home)
        house.settle()
        before, messages = streams(house), counts(house)
        upgrade(house)
        house.settle()
        after = streams(house)
        assert after.keys() == before.keys()
        assert projected(house)
        for key, (generation, lost) in after.items():
            assert lost == 0
            assert generation == before[key][0] + (key in projected(house))
        assert counts(house) == messages
        house.close()
        house.client.close()
        house.open()
        house.scan()
        assert streams(house) == after


def test_the_sessions_of_a_database_are_read_again(tmp_path: Path) -> None:
    with household(tmp_path) as house:
        path = os.path.join(build("hermes/2026", house.home), ".hermes/state.db")
        house.settle()
        upgrade(house)
        marks = house.spool.catalog.marks(path)
        assert {mark for name, mark in marks.items() if name} == {""}
        house.scan()
        assert "" not in house.spool.catalog.marks(path).values()
        assert load_inventory(house.spool)[path] != OUTDATED


def test_a_full_outbox_makes_nothing_count_as_lost(tmp_path: Path) -> None:
    """The new generation has the bytes that wait in the file for space."""
    with household(tmp_path, budget=0) as house:
        build("hermes/2026", house.home)
        house.scan()
        assert [lost for _, lost in streams(house).values() if lost] == []
        upgrade(house)
        house.scan()
        assert [lost for _, lost in streams(house).values() if lost] == []


def test_a_file_that_was_deleted_meanwhile_keeps_what_was_captured(tmp_path: Path) -> None:
    with household(tmp_path) as house:
        build("hermes/2026", house.home)
        house.settle()
        before, held = streams(house), counts(house)
        upgrade(house)
        for path in Path(house.home, ".hermes").iterdir():
            path.unlink()
        house.settle()
        assert (streams(house), counts(house)) == (before, held)
        assert all(item["gone_at"] for item in house.held_sessions().values())


def test_what_is_read_again_waits_behind_live_sessions(tmp_path: Path) -> None:
    """It is queued like a file that was never read, so thousands of them don't delay a live one."""
    with household(tmp_path) as house:
        path = os.path.join(build("hermes/2026", house.home), ".hermes/state.db")
        house.settle()
        upgrade(house)
        inventory, index = load_inventory(house.spool), Index(house.ingesting.roots)
        assert path in inventory  # so that a deletion is noticed
        (entry,) = entries([Change(path, 0, 1 << 44)], inventory, index, house.now_ms, {})
        assert entry.rank is Rank.OLD


def test_lines_are_not_read_again(tmp_path: Path) -> None:
    with household(tmp_path) as house:
        build("droid/0.215-fork", house.home)
        house.settle()
        before = load_inventory(house.spool)
        upgrade(house)
        after = load_inventory(house.spool)
        assert {path for path in before if after[path] == OUTDATED} == {
            path for path in before if path.endswith("settings.json")
        }


def test_the_copies_of_a_session_stay_one_stream(tmp_path: Path) -> None:
    """The first copy to be read differs from all that was captured, and so from the other copy."""
    with household(tmp_path) as house:
        storage = Path(build("copilot-chat/3", house.home), ".config/Code/User/workspaceStorage")
        shutil.copytree(storage / ("1a" * 16), storage / ("2b" * 16))
        house.settle()
        before = streams(house)
        upgrade(house)
        house.settle()
        after = streams(house)
        assert after.keys() == before.keys()
        assert {key for key in after if after[key][0] == before[key][0] + 1} == projected(house)
