"""When roots are scanned, and why."""

from __future__ import annotations

import math
import time

import pytest

from sessiond.watch import RescanReason
from sessiond.watch.rescan_schedule import RescanSchedule
from support.watching import tree

ONE, TWO = tree("/one"), tree("/two")
SOON = 2.0
"""Seconds between a call and the check of its times, at most."""


def started(*, rescan: float = 60.0, poll: float = 5.0) -> RescanSchedule:
    """Return a schedule of two roots that were scanned just now."""
    schedule = RescanSchedule([ONE, TWO], rescan, poll)
    schedule.ask(RescanReason.START)
    schedule.take()
    return schedule


def test_everything_is_due_at_first() -> None:
    """At the start no root has been scanned."""
    schedule = RescanSchedule([ONE, TWO], rescan=60.0, poll=5.0)
    assert schedule.next([]) == -math.inf
    schedule.tick([])
    assert schedule.complete
    assert schedule.take() == {ONE: RescanReason.DUE, TWO: RescanReason.DUE}


def test_a_request_is_due_at_once_and_once() -> None:
    """A request is for one root or for all. The first reason is kept."""
    schedule = started()
    assert schedule.next([]) > time.monotonic()
    schedule.ask(RescanReason.FOUND, [TWO])
    assert schedule.next([]) == -math.inf
    assert not schedule.complete
    schedule.ask(RescanReason.OVERFLOW)
    assert schedule.complete
    assert schedule.take() == {ONE: RescanReason.OVERFLOW, TWO: RescanReason.FOUND}
    assert schedule.take() == {}


def test_only_a_scan_of_all_roots_postpones_the_next_one() -> None:
    """A scan of one root shows nothing about the others."""
    schedule = started(rescan=60.0)
    before = schedule.next([])
    schedule.ask(RescanReason.FOUND, [ONE])
    schedule.take()
    assert schedule.next([]) == before
    schedule.ask(RescanReason.WAKE)
    schedule.take()
    assert schedule.next([]) > before


def test_a_polled_root_is_due_sooner_than_the_others() -> None:
    """Its pause counts from the end of its own last scan."""
    schedule = started(rescan=60.0, poll=5.0)
    now = time.monotonic()
    assert schedule.next([]) == pytest.approx(now + 60, abs=SOON)
    assert schedule.next([TWO]) == pytest.approx(now + 5, abs=SOON)
    before = schedule.next([TWO])
    schedule.record_scan(ONE, 0.0)
    assert schedule.next([TWO]) == before
    schedule.record_scan(TWO, 0.0)
    assert schedule.next([TWO]) > before


def test_the_clock_makes_roots_due() -> None:
    """A polled root is due alone, or all roots are."""
    polled = started(poll=0.0)
    polled.tick([TWO])
    assert polled.take() == {TWO: RescanReason.POLL}
    quiet = started()
    quiet.tick([TWO])
    assert quiet.take() == {}
    full = started(rescan=0.0)
    full.tick([TWO])
    assert full.take() == {ONE: RescanReason.DUE, TWO: RescanReason.DUE}


def test_the_costs_of_all_roots_count_for_a_scan_of_all() -> None:
    """A polled root is scheduled by its own cost. A scan that became cheap counts with its new cost."""
    schedule = started(rescan=60.0, poll=5.0)
    schedule.record_scan(ONE, 0.05)
    schedule.record_scan(TWO, 0.1)
    now = time.monotonic()
    assert schedule.next([]) == pytest.approx(now + 300, abs=SOON)
    assert schedule.next([ONE]) == pytest.approx(now + 10, abs=SOON)
    assert schedule.next([ONE, TWO]) == pytest.approx(now + 10, abs=SOON)
    assert schedule.next([TWO]) == pytest.approx(now + 20, abs=SOON)
    schedule.record_scan(TWO, 0.0)
    assert schedule.next([]) == pytest.approx(now + 100, abs=SOON)


def test_an_added_root_counts_as_one_of_all() -> None:
    """The scan of all roots is incomplete until an added root was scanned too."""
    schedule = started()
    three = tree("/three")
    schedule.add([three])
    schedule.ask(RescanReason.FOUND, [ONE, TWO])
    assert not schedule.complete
    schedule.ask(RescanReason.FOUND, [three])
    assert schedule.complete
    schedule.take()
    schedule.ask(RescanReason.WAKE)
    assert schedule.take().keys() == {ONE, TWO, three}
