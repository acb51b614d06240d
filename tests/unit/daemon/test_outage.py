"""The time of the next try after a failed push: schedule, restarts, changes of token, configuration and network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sessiond.config import Token
from sessiond.daemon import outage
from sessiond.daemon.daemon_run import CLOCK_CHECK, soonest
from sessiond.daemon.heartbeat import Heartbeat
from sessiond.errors import EndpointError, Refused, TooLarge, Unreachable, WrongEndpoint
from sessiond.spool.health import EndpointHealth

URL = "http://127.0.0.1:9"
KEY = b"k" * 32


class Clock:
    """A wall clock that is set by the test, and the state after each failed push."""

    def __init__(self) -> None:
        self.ms = 1_000_000_000
        self.health = EndpointHealth(url=URL)

    def fail(self, error: EndpointError) -> float:
        """Fail now; return the seconds until the next try, and move to that moment."""
        self.health = outage.after_failure(self.health, error, self.ms)
        assert self.health.next_attempt_ms is not None
        wait = (self.health.next_attempt_ms - self.ms) / 1000
        self.ms = self.health.next_attempt_ms
        return wait


@pytest.mark.parametrize(
    "error", [WrongEndpoint("a page"), Refused("401"), TooLarge("413")], ids=["wrong", "401", "413"]
)
def test_a_wrong_answer_is_retried_after_seconds_then_minutes_and_pauses_once_it_lasts(
    error: EndpointError,
) -> None:
    """The waits are 5 s, 30 s and 2 min, and a quarter of an hour after the trouble has lasted for that long."""
    clock, began = Clock(), Clock().ms
    assert 4 <= clock.fail(error) <= 6
    assert 24 <= clock.fail(error) <= 36
    while clock.ms - began < 900_000:
        assert 96 <= clock.fail(error) <= 144
        assert not clock.health.paused
    assert 720 <= clock.fail(error) <= 1080
    assert clock.health.paused
    assert clock.health.rejected_since_ms == began


def test_a_login_page_after_days_without_a_network_is_tried_again_after_seconds() -> None:
    """The time without an answer does not count for a wrong answer."""
    clock = Clock()
    for _ in range(400):
        clock.fail(Unreachable("no network"))
        clock.ms += 600_000
    assert clock.fail(WrongEndpoint("a page")) <= 6
    assert clock.health.rejected_since_ms != clock.health.failing_since_ms


def test_trouble_of_two_kinds_in_turns_is_one_trouble() -> None:
    """A load balancer that answers 404 and 401 in turn must not be asked every five seconds without end."""
    clock = Clock()
    waits = [clock.fail(WrongEndpoint("404") if number % 2 else Refused("401")) for number in range(20)]
    assert waits[-1] > 700


def test_an_answer_that_is_missing_ends_the_count_of_wrong_ones() -> None:
    clock = Clock()
    for _ in range(15):
        clock.fail(Refused("401"))
    assert clock.health.paused
    clock.fail(Unreachable("gone"))
    assert (clock.health.paused, clock.health.rejections) == (False, 0)
    assert clock.fail(Refused("401")) <= 6


def test_a_clock_that_is_set_does_not_make_a_long_pause_of_one_fault() -> None:
    """A machine without a battery begins in 1970, and then learns the time."""
    clock = Clock()
    clock.ms = 1000
    assert clock.fail(Refused("401")) <= 6
    clock.ms = 1_800_000_000_000
    assert clock.fail(Refused("401")) <= 36
    clock.ms = 1000
    assert clock.fail(Refused("401")) <= 144
    assert clock.fail(Refused("401")) <= 144, "nor does it stay negative"


def digest(**changed: object) -> str:
    given: dict[str, object] = {"url": URL, "token": Token("a-token-a-token"), "ca_file": "", "key": KEY} | changed
    return outage.setup_digest(**given)  # type: ignore[arg-type]


def test_a_restart_keeps_the_wait_and_a_changed_setup_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed token, certificate, proxy or address ends it at the start."""
    clock = Clock()
    for _ in range(15):
        clock.fail(Refused("401"))
    stored, paused = digest(), clock.health
    assert outage.at_start(paused, digest(), stored) == paused
    authorities = tmp_path / "ca.pem"
    authorities.write_text("-----BEGIN CERTIFICATE-----")
    changes: list[dict[str, object]] = [{"token": None}, {"token": Token("another-token")}, {"url": f"{URL}1"}]
    for changed in (*changes, {"ca_file": str(authorities)}):
        fresh = outage.at_start(paused, digest(**changed), stored)
        assert (fresh.next_attempt_ms, fresh.rejections, fresh.paused) == (None, 0, False)
        assert fresh.failing_since_ms == paused.failing_since_ms, "status still says since when nothing arrives"
    monkeypatch.setattr(outage, "BOOT_ID", str(tmp_path / "boot_id"))
    (tmp_path / "boot_id").write_text("another boot\n")
    assert outage.at_start(paused, digest(), stored).next_attempt_ms is None


def test_the_first_waits_after_a_boot_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint on the same network boots too: failures before the shutdown must not delay it."""
    clock = Clock()
    for _ in range(30):
        clock.fail(Unreachable("down"))
    fresh = outage.at_start(clock.health, "after the boot", "before it")
    assert fresh.next_attempt_ms is None
    again = outage.after_failure(fresh, Unreachable("not up yet"), clock.ms)
    assert again.next_attempt_ms is not None
    assert again.next_attempt_ms - clock.ms <= 4000


def test_a_pause_that_an_older_version_noted_after_one_fault_is_dropped() -> None:
    """Its spool says `wrong` and a time in a quarter of an hour, and counts nothing."""
    old = EndpointHealth(url=URL, failures=1, failing_since_ms=1, kind="wrong", next_attempt_ms=900_000)
    assert outage.at_start(old, digest(), None).next_attempt_ms is None
    away = EndpointHealth(url=URL, failures=1, failing_since_ms=1, kind="unreachable", next_attempt_ms=900_000)
    assert outage.at_start(away, digest(), None) == away


def test_the_token_is_not_in_what_is_stored() -> None:
    """Only the installation's key allows checking a guess."""
    assert "a-token" not in digest()
    assert digest() != digest(key=b"l" * 32)


def test_another_network_ends_every_wait_but_not_more_often_than_the_shortest() -> None:
    """Containers come and go each second; a refused token stays refused."""
    clock = Clock()
    for _ in range(15):
        clock.fail(WrongEndpoint("a login page"))
    tried = clock.ms
    paused = clock.health.replace(next_attempt_ms=tried + 900_000)
    late = outage.after_network_change(paused, tried, tried + 60_000)
    assert late.next_attempt_ms == tried + 60_000
    soon = outage.after_network_change(paused, tried, tried + 1000)
    assert soon.next_attempt_ms == tried + 5000
    assert outage.after_network_change(soon, tried, tried + 2000) == soon, "a second event moves nothing"
    away = outage.after_failure(EndpointHealth(url=URL), Unreachable("down"), tried)
    assert outage.after_network_change(away, tried, tried + 10).next_attempt_ms is None
    well = EndpointHealth(url=URL, next_attempt_ms=tried + 500)
    assert outage.after_network_change(well, tried, tried) == well


def test_the_state_survives_the_spool() -> None:
    """It is the same after being stored as JSON."""
    clock = Clock()
    clock.fail(Refused("401"))
    assert EndpointHealth.from_json(json.loads(json.dumps(vars(clock.health)))) == clock.health


class Loop:
    """A thread's loop."""

    def __init__(self) -> None:
        self.iterations = 0


def test_one_hanging_thread_is_not_reported_as_alive() -> None:
    """The other one goes on, but the service manager has to restart the process."""
    heartbeat, turning, hanging = Heartbeat(), Loop(), Loop()
    for loops in ((turning, hanging), (hanging, turning)):
        now = 0.0
        assert heartbeat.alive(loops, now, 120)
        for now in (60.0, 119.0):
            turning.iterations += 1
            assert heartbeat.alive(loops, now, 120)
        for now in (120.0, 500.0):
            turning.iterations += 1
            assert not heartbeat.alive(loops, now, 120)
        hanging.iterations += 1
        turning.iterations += 1
        assert heartbeat.alive(loops, 501.0, 120)
        heartbeat = Heartbeat()


@pytest.mark.parametrize(
    ("beat", "edit", "pause_end", "wait"),
    [
        (None, None, None, None),
        (30.0, None, None, 30.0),
        (None, 0.2, None, 0.2),
        (None, None, 3.0, 3.0),
        (None, None, 3600.0, CLOCK_CHECK),
        (30.0, 0.2, 3.0, 0.2),
        (30.0, 5.0, 3.0, 3.0),
        (30.0, None, 3600.0, 30.0),
        (-1.0, None, 3.0, 0.0),
        (None, None, -5.0, 0.0),
    ],
)
def test_main_wakes_for_whatever_is_due_first(
    beat: float | None, edit: float | None, pause_end: float | None, wait: float | None
) -> None:
    """A timed pause ends on time, and not at the next check of the clock."""
    assert soonest(beat, edit, pause_end) == wait
