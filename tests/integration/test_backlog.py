"""What pauses the backlog. Live changes never wait for any of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from sessiond.config import Backlog, Token, load
from sessiond.daemon.messages import Captured, ScanNow
from sessiond.daemon.power import ON_BATTERY, ON_METERED, PowerAndNetwork
from sessiond.daemon.pusher import Pusher, Target
from sessiond.daemon.throttle import ASK_AGAIN, PUSHING, READING, Override, Throttle
from sessiond.errors import ConfigError
from sessiond.spool import health
from support.capture import DAY, Lab, lab, session, write
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness, encode


class Clock:
    """Time and CPU time as numbers that the test sets."""

    def __init__(self) -> None:
        self.now = self.cpu = 1000.0

    def works(self, seconds: float) -> None:
        """Spend this much CPU time, and as much wall time."""
        self.now += seconds
        self.cpu += seconds


class Machine(PowerAndNetwork):
    """The state of power and network, set by the test, and how often each was read."""

    def __init__(self) -> None:
        super().__init__()
        self.battery = self.metered = False
        self.asked = 0

    def on_battery(self) -> bool:
        self.asked += 1
        return self.battery

    def on_metered(self) -> bool:
        return self.metered


def throttle(settings: Backlog, clock: Clock, work: str = READING, machine: Machine | None = None) -> Throttle:
    return Throttle(work, settings, power=machine or Machine(), clock=lambda: clock.now, cpu=lambda: clock.cpu)


# The share of a core


@pytest.mark.parametrize(("percent", "rest"), [(100.0, 0.0), (50.0, 2.0), (10.0, 18.0)])
def test_reading_rests_in_proportion_to_its_cpu_time(percent: float, rest: float) -> None:
    clock = Clock()
    made = throttle(Backlog(max_cpu=percent), clock)
    assert made.allows()
    made.start()
    clock.works(2.0)
    made.finish()
    assert (made.seconds_until_open(), made.allows()) == (pytest.approx(rest), rest == 0)
    clock.now += rest + 0.001
    assert made.allows()


def test_time_that_is_not_cpu_time_costs_no_rest() -> None:
    """A slow disk does not use the CPU share."""
    clock = Clock()
    made = throttle(Backlog(max_cpu=10.0), clock)
    made.start()
    clock.now += 60
    made.finish()
    assert made.allows()


def test_while_the_backlog_rests_live_changes_are_read(tmp_path: Path) -> None:
    """A file that changed within the last hour counts as live, even if a scan found it."""
    clock = Clock()
    for number in range(1, 4):
        write(tmp_path, number, age=number * DAY)
    write(tmp_path, 9, age=60)
    made = Throttle(READING, Backlog(max_cpu=1.0), power=Machine(), clock=lambda: clock.now, cpu=lambda: clock.cpu)
    with lab(tmp_path, reading=made) as harness:
        made.start()
        clock.works(1.0)
        made.finish()  # 99 seconds of rest
        harness.scan()
        assert harness.turn().backlog == 3
        assert harness.captured() == {session(9)}
        assert 98 < (harness.wait() or 0) <= 99
        live = write(tmp_path, 5, age=0)
        assert harness.touch(live).backlog == 3
        assert harness.captured() == {session(5), session(9)}
        clock.now += 100
        assert harness.turn().backlog == 0
        assert len(harness.captured()) == 5


# The battery


def test_on_battery_the_backlog_waits_and_live_changes_go_on(tmp_path: Path) -> None:
    """The reason is shown. The system is asked again after half a minute, and not at all once nothing waits."""
    clock, machine = Clock(), Machine()
    machine.battery = True
    write(tmp_path, 1, age=DAY)
    with lab(tmp_path, reading=throttle(Backlog(), clock, machine=machine)) as harness:
        harness.scan()
        for _ in range(5):
            found = harness.turn()
            assert (found.backlog, found.waits) == (1, ON_BATTERY)
        assert machine.asked == 1
        assert harness.wait() == ASK_AGAIN
        assert harness.touch(write(tmp_path, 2, age=0)).waits == ON_BATTERY
        assert harness.captured() == {session(2)}
        machine.battery = False
        clock.now += ASK_AGAIN
        found = harness.turn()
        assert (found.backlog, found.waits, machine.asked) == (0, None, 2)
        clock.now += 9 * ASK_AGAIN
        harness.touch(write(tmp_path, 2, age=0))
        assert machine.asked == 2


@pytest.mark.parametrize(("settings", "due"), [("", {2, 3}), ('{"cleanupPeriodDays": 99999}', set())])
def test_what_its_tool_is_about_to_delete_waits_for_no_charger(tmp_path: Path, settings: str, due: set[int]) -> None:
    """At each start Claude Code deletes what was not changed for thirty days, and a battery lasts for hours."""
    machine = Machine()
    machine.battery = True
    for number, days in ((1, 20), (2, 24), (3, 40)):
        write(tmp_path, number, age=days * DAY)
    (tmp_path / "home/.claude/settings.json").write_text(settings)
    with lab(tmp_path, reading=throttle(Backlog(), Clock(), machine=machine)) as harness:
        harness.scan()
        for _ in range(3):
            found = harness.turn()
        assert harness.captured() == {session(number) for number in due}
        assert (found.backlog, found.waits) == (3 - len(due), ON_BATTERY)


def test_sync_ignores_the_limits_of_the_backlog(tmp_path: Path) -> None:
    """The user asked for everything now: nothing is held back until all is read and pushed."""
    clock, machine = Clock(), Machine()
    machine.battery = True
    override = Override()
    both = [
        Throttle(work, power=machine, limits=Backlog(max_upload=1, max_cpu=1.0), override=override)
        for work in (READING, PUSHING)
    ]
    assert [each.allows() for each in both] == [False, False]
    both[0].override()
    assert [each.allows() for each in both] == [True, True]
    both[1].record_sent(1 << 30)
    both[1].finish_backlog()  # pushed all that was read so far
    assert [each.allows() for each in both] == [True, True]
    both[0].finish_backlog()
    both[1].finish_backlog()
    assert not override.works
    clock.now += 1


def test_an_override_ends_when_both_loops_have_finished(tmp_path: Path) -> None:
    """If pushing ends before reading, reading must learn of it, or the next backlog would have no limit."""
    override = Override()
    pushing = Throttle(PUSHING, override=override)

    def push_what_is_there(harness: Lab) -> bool:
        """Do what the upload loop does when it is woken; return whether it was."""
        woken = Captured() in harness.engine.inboxes.upload.take()
        if woken:
            pushing.finish_backlog()
        return woken

    write(tmp_path, 1, age=DAY)
    with lab(tmp_path, reading=Throttle(READING, override=override)) as harness:
        harness.engine.inboxes.capture.put(ScanNow())
        harness.touch()
        assert harness.captured() == {session(1)}
        assert override.works == {PUSHING}
        assert push_what_is_there(harness)
        assert not override.works
        harness.turn()
        assert not push_what_is_there(harness), "nothing happened since"


def test_other_settings_are_in_force_at_once() -> None:
    clock, machine = Clock(), Machine()
    machine.battery = True
    made = throttle(Backlog(), clock, machine=machine)
    assert not made.allows()
    made.apply_limits(Backlog(on_battery="continue", max_cpu=1.0))
    assert (made.seconds_until_open(), made.allows()) == (0, True)
    made.start()
    clock.works(10)
    made.finish()
    assert made.seconds_until_open() > 900
    made.apply_limits(Backlog(on_battery="continue"))
    assert (made.seconds_until_open(), made.allows()) == (0, True)


def test_a_metered_network_holds_back_pushing_alone() -> None:
    clock, machine = Clock(), Machine()
    machine.metered = True
    assert throttle(Backlog(), clock, READING, machine).allows()
    pushing = throttle(Backlog(), clock, PUSHING, machine)
    assert not pushing.allows()
    assert pushing.reason == ON_METERED
    assert throttle(Backlog(on_metered="continue"), clock, PUSHING, machine).allows()


# The line


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        made.push()  # both sides know one another: nothing is asked before the first stream
        yield made


@contextmanager
def pusher(harness: DaemonHarness, made: Throttle) -> Iterator[Pusher]:
    """Return the pusher without its thread."""
    resources = harness.resources()
    pushing = Pusher(resources, Target(harness.endpoint.url, Token(harness.endpoint.token)), made)
    try:
        yield pushing
    finally:
        pushing.close()


def old(harness: DaemonHarness, number: int, *, size: int, age: float = DAY) -> str:
    """Write an incompressible session of this size, last changed this long ago."""
    name = f".claude/projects/-home-dev-project/{session(number)}.jsonl"
    path = harness.write(name, *(claude(session(number), n, text=os.urandom(1500).hex()) for n in range(size // 3000)))
    date(harness, path, age)
    return path


def date(harness: DaemonHarness, path: str, age: float = 0.0) -> None:
    """Set the time of a file's last change to this long ago."""
    changed = harness.now_ms / 1000 - age
    os.utime(path, (changed, changed))


def push(made: Pusher, turns: int = 99) -> int:
    """Push until nothing is left to push; return the bytes on the wire."""
    before = made.client.sent_bytes
    while made.push().more and made.state.health.next_attempt_ms is None and turns:
        turns -= 1
    return made.client.sent_bytes - before


def test_the_backlog_takes_no_more_of_the_line_than_is_allowed(harness: DaemonHarness) -> None:
    """It sends a batch of one second's rate, or one segment, and pauses for as long. Each byte arrives once."""
    clock = Clock()
    limit = 100_000
    with pusher(harness, throttle(Backlog(max_upload=limit), clock, PUSHING)) as made:
        paths = [old(harness, number, size=300_000) for number in range(2, 5)]
        harness.scan()
        began, total = clock.now, 0
        for _ in range(99):
            sent = push(made)
            total += sent
            if not made.throttled:
                break
            assert sent < 2 * limit  # one segment of these
            clock.now += made.throttle.seconds_until_open()
        assert total <= limit * (clock.now - began) + 2 * limit
        assert total > 400_000
        for number, path in enumerate(paths, start=2):
            assert harness.held(session(number)) == Path(path).read_bytes()


def test_while_the_line_rests_live_changes_are_pushed(harness: DaemonHarness) -> None:
    clock = Clock()
    with pusher(harness, throttle(Backlog(max_upload=50_000), clock, PUSHING)) as made:
        for number in (2, 3):
            old(harness, number, size=300_000)
        harness.scan()
        push(made)
        assert made.throttled
        path = harness.write(CLAUDE, claude(SESSION, 1))
        date(harness, path)
        harness.scan()
        assert 0 < push(made) < 5000
        assert harness.held(SESSION) == Path(path).read_bytes()
        assert SESSION in harness.held_sessions()
        assert made.throttled


def test_on_a_metered_network_only_live_changes_are_pushed(harness: DaemonHarness) -> None:
    clock, machine = Clock(), Machine()
    machine.metered = True
    with pusher(harness, throttle(Backlog(), clock, PUSHING, machine)) as made:
        old(harness, 2, size=9000)
        date(harness, harness.write(CLAUDE, claude(SESSION, 1)))
        harness.scan()
        push(made)
        assert set(harness.held_sessions()) == {SESSION}
        assert health.read_endpoint(harness.spool).waits == ON_METERED
        machine.metered = False
        clock.now += made.throttle.seconds_until_open()
        push(made)
        assert set(harness.held_sessions()) == {SESSION, session(2)}
        assert health.read_endpoint(harness.spool).waits is None
        asked = machine.asked
        clock.now += 9 * ASK_AGAIN
        date(harness, harness.write(CLAUDE, claude(SESSION, 2)))
        harness.scan()
        push(made)
        assert machine.asked == asked


def test_segments_behind_a_parked_one_are_no_backlog(harness: DaemonHarness) -> None:
    """Segments behind a parked one are no backlog: the system is not asked for them, and no limit is lifted."""
    clock, machine = Clock(), Machine()
    machine.metered = True
    override = Override()
    limits = Throttle(
        PUSHING, Backlog(), override=override, power=machine, clock=lambda: clock.now, cpu=lambda: clock.cpu
    )
    with pusher(harness, limits) as made:
        path = old(harness, 2, size=3000)
        harness.scan()
        with open(path, "ab") as file:
            file.write(encode(claude(session(2), 9)))
        os.utime(path, (1_700_000_000, 1_700_000_000))
        harness.scan()
        with harness.spool.transaction():
            first, *behind = harness.spool.outbox.segments(9, 1 << 20)
            harness.spool.outbox.park_segment(first, "no")
            assert behind
            for due in harness.spool.outbox.sessions(9):
                harness.spool.outbox.acknowledge(due)
        push(made)
        assert (machine.asked, made.throttled, health.read_endpoint(harness.spool).waits) == (0, False, None)
        override.start()
        override.finish(READING)
        push(made)
        assert not override.works


# Reading the system's state


def supply(base: Path, name: str, **files: str) -> None:
    (base / name).mkdir(parents=True)
    for key, value in files.items():
        (base / name / key).write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("supplies", "expected"),
    [
        ({}, False),
        ({"AC": {"type": "Mains", "online": "1"}, "BAT0": {"type": "Battery", "status": "Charging"}}, False),
        ({"AC": {"type": "Mains", "online": "0"}, "BAT0": {"type": "Battery", "status": "Discharging"}}, True),
        ({"AC": {"type": "Mains", "online": "0"}, "BAT0": {"type": "Battery", "status": "Full"}}, True),
        ({"AC": {"type": "Mains", "online": "1"}, "BAT0": {"type": "Battery", "status": "Discharging"}}, False),
        ({"AC": {"type": "Mains", "online": "0"}}, False),
        ({"BAT0": {"type": "Battery", "status": "Discharging"}}, True),
        ({"BAT0": {"type": "Battery", "status": "Full"}}, False),
        (
            {
                "AC": {"type": "Mains", "online": "0"},
                "usb": {"type": "USB", "online": "1"},
                "BAT0": {"type": "Battery", "status": "Charging"},
            },
            False,
        ),
        ({"mouse": {"type": "Battery", "status": "Discharging", "scope": "Device"}}, False),
        ({"ups": {"type": "UPS", "status": "Discharging", "scope": "System"}}, True),
        ({"odd": {}}, False),
    ],
)
def test_power_supplies_of_linux_are_read(tmp_path: Path, supplies: dict[str, dict[str, str]], expected: bool) -> None:
    """A charger counts with any plug. The battery of a mouse does not, nor does a plug without a battery."""
    for name, files in supplies.items():
        supply(tmp_path, name, **files)
    assert PowerAndNetwork(str(tmp_path), platform="linux").on_battery() is expected
    assert PowerAndNetwork(str(tmp_path / "none"), platform="linux").on_battery() is False


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t85%; discharging; 4:05 remaining\n", True),
        ("Now drawing from 'AC Power'\n -InternalBattery-0 (id=1)\t85%; charging; 0:31 remaining\n", False),
        ("", False),
    ],
)
def test_macos_tells_by_pmset(printed: str, expected: bool) -> None:
    asked: list[Sequence[str]] = []

    def ask(command: Sequence[str]) -> str:
        asked.append(command)
        return printed

    made = PowerAndNetwork(ask=ask, platform="darwin")
    assert made.on_battery() is expected
    assert asked == [["pmset", "-g", "batt"]]
    assert made.on_metered() is False


@pytest.mark.parametrize(
    ("printed", "expected"), [("u 1\n", True), ("u 3\n", True), ("u 0\n", False), ("u 4\n", False), ("", False)]
)
def test_network_manager_reports_metered_networks(printed: str, expected: bool) -> None:
    """In NMMetered, 1 is yes and 3 a guessed yes. If NetworkManager does not run, it is not started."""
    asked: list[Sequence[str]] = []

    def ask(command: Sequence[str]) -> str:
        asked.append(command)
        return printed

    assert PowerAndNetwork(ask=ask, platform="linux").on_metered() is expected
    assert asked[0][0] == "busctl"
    assert "--auto-start=no" in asked[0]


@pytest.mark.parametrize(("code", "expected"), [(0, True), (1, False), (3, False)])
def test_what_a_program_prints_counts_only_if_it_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: bool
) -> None:
    program = tmp_path / "busctl"
    program.write_text(f"#!/bin/sh\necho u 1\nexit {code}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert PowerAndNetwork(platform="linux").on_metered() is expected


def test_a_missing_program_means_no(tmp_path: Path) -> None:
    """The real query on this machine ends, and gives a yes or a no."""
    assert PowerAndNetwork().on_metered() in (True, False)
    assert PowerAndNetwork(platform="darwin").on_battery() in (True, False)


# The configuration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('max_cpu = "50%"', Backlog(max_cpu=50.0)),
        ("max_cpu = 12.5", Backlog(max_cpu=12.5)),
        ('max_upload = "1MB/s"', Backlog(max_upload=1_000_000)),
        ('max_upload = "64 KiB/s"', Backlog(max_upload=65_536)),
        ('max_upload = "0"', Backlog()),
        ('on_battery = "continue"\non_metered = "continue"', Backlog(on_battery="continue", on_metered="continue")),
    ],
)
def test_limits_are_written_as_people_do(tmp_path: Path, text: str, expected: Backlog) -> None:
    (tmp_path / "c.toml").write_text(f"[backlog]\n{text}\n")
    assert load(str(tmp_path / "c.toml"), {}).config.backlog == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('max_cpu = "0%"', 'expected a percentage like "50%", at most "100%"'),
        ('max_cpu = "200%"', "expected a percentage like"),
        ('max_upload = "fast"', 'expected bytes per second, or text like "1MB/s"; 0 means no limit'),
        ('on_battery = "stop"', 'expected one of "pause", "continue"'),
    ],
)
def test_a_wrong_limit_says_what_is_wanted(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(f"[backlog]\n{text}\n")
    with pytest.raises(ConfigError, match="backlog") as caught:
        load(str(tmp_path / "c.toml"), {})
    assert message in str(caught.value)
