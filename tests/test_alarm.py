"""The alarm that bounds a request as a whole."""

from __future__ import annotations

import threading
import time

import pytest

from sessiond.endpoint.alarm import Alarm


@pytest.mark.parametrize("before", [None, 3600.0])
def test_it_rings_once_at_its_time_whatever_time_it_had_before(before: float | None) -> None:
    """Its thread may sleep until a later time; a sooner one wakes it."""
    rung, done = [], threading.Event()

    def ring() -> None:
        rung.append(time.monotonic())
        done.set()

    alarm = Alarm(ring)
    if before is not None:
        alarm.arm(time.monotonic() + before)
        alarm.disarm()
    at = time.monotonic() + 0.05
    alarm.arm(at)
    assert done.wait(60)
    alarm.close()
    assert len(rung) == 1
    assert rung[0] >= at


def test_a_disarmed_one_is_silent_and_serves_again() -> None:
    """A request that ended is not cut later; the next one is, if it must be."""
    rung = threading.Event()
    alarm = Alarm(rung.set)
    alarm.arm(time.monotonic() + 0.02)
    alarm.disarm()
    assert not rung.wait(0.1)
    alarm.arm(time.monotonic() + 0.02)
    assert rung.wait(60)
    alarm.close()


def test_it_has_one_thread_for_all_requests() -> None:
    """A thread for each request costs as much as the request's bytes."""
    before, alarm = threading.active_count(), Alarm(lambda: None)
    for _ in range(50):
        alarm.arm(time.monotonic() + 60)
        alarm.disarm()
    assert threading.active_count() == before + 1
    alarm.close()
    assert threading.active_count() == before
