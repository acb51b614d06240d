"""Parts of the daemon: idle sessions, the backlog's pauses, wake-ups and retries."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from sessiond import logs
from sessiond.config import Backlog, Config, Token
from sessiond.daemon.idle import Idle
from sessiond.daemon.inventory import fingerprint_size, load_inventory, make_fingerprint
from sessiond.daemon.messages import MoreRoom
from sessiond.daemon.power import PowerAndNetwork
from sessiond.daemon.pusher import Pusher, Target
from sessiond.daemon.resources import open_resources
from sessiond.daemon.throttle import PUSHING, READING, Throttle
from sessiond.endpoint.server import running
from sessiond.errors import StateFull
from sessiond.sources import find_sources
from sessiond.spool import Spool
from support.capture import DAY, lab, write
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness


def moment(harness: DaemonHarness) -> str:
    """Format the harness's time as tools do."""
    return datetime.fromtimestamp(harness.now_ms / 1000, UTC).isoformat()


def test_a_session_that_falls_idle_has_ended_though_nothing_else_happens(tmp_path: Path) -> None:
    """No event reports idleness: the daemon checks on each iteration, and on the first one after a restart."""
    with daemon_harness(tmp_path) as harness:
        harness.write(CLAUDE, claude(SESSION, 1, timestamp=moment(harness)))
        harness.settle()
        assert harness.held_sessions()[SESSION]["record"]["ended_at"] is None
        harness.now_ms += harness.ingesting.idle_after_ms + 60_000
        idle = Idle(harness.ingesting, {source.tool: source for source in find_sources()})
        assert idle.sweep()
        assert not idle.sweep()
        harness.settle()
        assert harness.held_sessions()[SESSION]["record"]["ended_at"] is not None


def test_files_that_were_read_before_a_start_are_known_by_their_fingerprint(tmp_path: Path) -> None:
    """The spool and a scan give the same fingerprint, so nothing is read again; its size is counted."""
    with daemon_harness(tmp_path) as harness:
        path = harness.write(CLAUDE, claude(SESSION, 1))
        harness.settle()
        found = os.stat(path)
        (made,) = load_inventory(harness.spool).values()
        assert made == make_fingerprint(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        assert fingerprint_size(made) == found.st_size


def test_room_in_the_outbox_wakes_the_capture_loop(tmp_path: Path) -> None:
    """Data that waits for room is read at once, not at the next rescan."""
    with lab(tmp_path) as made:
        made.look()
        while made.watcher.wait(0.5).rescan:
            pass
        began = time.monotonic()
        made.engine.inboxes.capture.put(MoreRoom())
        made.watcher.wait(60)
        assert time.monotonic() - began < 30


def test_the_backlog_rests_after_each_part_that_was_read(tmp_path: Path) -> None:
    """The CPU share applies to reading the backlog."""
    for number in range(1, 4):
        write(tmp_path, number, age=number * DAY)
    clock = iter(range(1_000_000))
    made = Throttle(READING, Backlog(max_cpu=1.0), clock=lambda: 1000.0, cpu=lambda: float(next(clock)))
    with lab(tmp_path, reading=made) as harness:
        assert made.pause_left() == 0
        harness.scan()
        harness.turn()
        assert harness.captured()
        assert made.pause_left() >= 99


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Return a stream to which events are written as JSON lines."""
    stream = io.StringIO()
    logs.configure(format="json", stream=stream, environ={})
    yield stream
    logs.configure(level="warning")


class Plug(PowerAndNetwork):
    """A machine whose power supply is set by the test."""

    battery = True

    def on_battery(self) -> bool:
        """Return what the test says."""
        return self.battery


def test_a_backlog_that_goes_on_says_how_long_it_was_paused(logged: io.StringIO) -> None:
    """`sessiond logs` shows how long a night on battery delayed it."""
    now, plug = [5000.0], Plug()
    made = Throttle(READING, Backlog(on_battery="pause"), power=plug, clock=lambda: now[0], cpu=lambda: 0.0)
    assert not made.allows()
    now[0] += 7200
    plug.battery = False
    assert made.allows()
    (resumed,) = [line for line in map(json.loads, logged.getvalue().splitlines()) if "resumed" in line["event"]]
    assert resumed["seconds"] == 7200


def fill(spool: Spool) -> None:
    """Leave no room in the spool, as a full disk does, not even for the state of the next push."""
    (pages,) = spool.connection.execute("PRAGMA page_count").fetchone()
    spool.connection.execute(f"PRAGMA max_page_count = {pages}")
    number = 0
    for length in (500, 20, 1):
        with suppress(StateFull):
            while True:
                number += 1
                with spool.transaction():
                    spool.set_meta(f"endpoins{number}", "x" * length)


def test_a_push_that_can_not_be_noted_is_tried_again_by_itself(tmp_path: Path) -> None:
    """On a full disk no answer can be stored: it waits, as after other failures, and continues without being woken."""
    with running(str(tmp_path / "endpoint"), token="a-token-for-this-test") as endpoint:
        state = tmp_path / "state"
        state.mkdir(mode=0o700)
        config = msgspec.convert({"state_dir": str(state), "endpoint": {"url": endpoint.url}}, type=Config)
        resources = open_resources(config, {"HOME": str(tmp_path)})
        made = Pusher(resources, Target(endpoint.url, Token(endpoint.token)), Throttle(PUSHING))
        try:
            fill(resources.spool)
            assert not made.push().more
            assert made.idle_seconds() is not None
            assert (made.state.health.failures, made.state.health.kind) == (1, "unreachable")
            assert made.state.health.next_attempt_ms is not None
        finally:
            made.close()
            resources.close()
