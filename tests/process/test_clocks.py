"""Wrong clocks, clocks that jump, and time that passed while the machine slept."""

from __future__ import annotations

import glob

import pytest
from process_lab import Request, World, until


@pytest.mark.parametrize(
    "shift",
    [
        pytest.param("-3d", id="days back"),
        pytest.param("+3650d", id="years on", marks=pytest.mark.slow),
        pytest.param("-20000d", id="no clock", marks=pytest.mark.slow),
    ],
)
def test_a_wrong_clock_costs_nothing(world: World, shift: str) -> None:
    """Sessions are captured and pushed under a wrong clock, then under the right one, then under the wrong one."""
    libraries = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not libraries:
        pytest.skip("libfaketime is not installed")
    fake = {"LD_PRELOAD": libraries[0], "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    # A workaround of libfaketime for some versions of glibc loses the interruption by a signal.
    fake |= {"FAKETIME_FORCE_MONOTONIC_FIX": "0"}
    for line, environ in enumerate((fake, {}, fake)):
        world.write(1, line * 10, line * 10 + 1)
        daemon = world.start(**environ)
        world.arrives(1)
        world.write(2, line * 10)
        world.arrives(1, 2)
        until(world.records_match, "the records")
        assert world.stop(daemon) == 0
    world.judge()


def test_a_connection_that_went_away_asleep_is_made_anew(world: World) -> None:
    """The endpoint closes idle connections silently: the next push uses a new connection, at once."""

    def leave(request: Request) -> None:
        request.forward_on()
        request.close_connection = True

    world.proxy.fate = leave
    world.start()
    for line in range(5):
        world.write(1, line)
        world.arrives(1)
    until(world.records_match, "the record")
    assert world.health().failures == 0
    assert not world.events("upload.failed")
    world.judge()
