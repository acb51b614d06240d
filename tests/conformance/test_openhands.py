"""Facts about OpenHands: the watched directories of its conversations, and the usage of each model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sessiond.sources.base import Kind, Unit, UserDirs, Watch
from sessiond.sources.openhands import OpenHands
from sessiond.watch import WatchedRoot
from support.watching import Lab

SOURCE = OpenHands()
NAME = "00000001000040008000000000000001"


def test_an_event_wakes_the_daemon(tmp_path: Path) -> None:
    """An event wakes the daemon without a scan, even in a conversation that began after the start."""
    home = tmp_path / "home"
    (home / ".openhands/conversations").mkdir(parents=True)
    places = UserDirs(home=str(home), environ={}, platform="linux")
    lab = Lab(*(WatchedRoot(owner="openhands", root=root) for root in SOURCE.roots(places)))
    try:
        events = home / ".openhands/conversations" / NAME / "events"
        events.mkdir(parents=True)
        event = events / "event-00000-0000000c-0000-4000-8000-00000000000c.json"
        event.write_text("{}")
        lab.until(lambda: str(event) in lab.paths)
        assert "due" not in lab.whys
    finally:
        lab.watcher.close()


def test_no_watch_is_spent_on_conversations_of_before_1_0() -> None:
    places = UserDirs(home="/h", environ={}, platform="linux")
    assert {root.path: root.watch for root in SOURCE.roots(places)} == {
        "/h/.openhands/conversations": Watch.TREE,
        "/h/.openhands/sessions": Watch.SCAN,
    }


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_the_use_of_a_model_is_only_added_to(calls: int) -> None:
    """The record of the state has the totals, which grow with each call."""
    costs = [{"cost": number, "timestamp": number} for number in range(3)]
    before, after = ({"agent": {"accumulated_cost": n, "costs": costs[:n]}} for n in (calls, calls + 1))
    earlier, later = (_usage(use) for use in (before, after))
    assert later[: len(earlier)] == earlier
    assert len(later) == calls + 1


def _usage(use: dict[str, object]) -> list[bytes]:
    state = json.dumps({"stats": {"usage_to_metrics": use}}).encode()
    unit = Unit(kind=Kind.FOLDER, path=NAME, native_id=NAME)
    found = {each.stream: list(each.records) for each in SOURCE.project({"base_state.json": state}, unit)}
    assert b'"accumulated_cost"' in found["state"][0]
    return found["usage-agent"]
