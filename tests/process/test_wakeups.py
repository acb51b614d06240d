"""Every wake-up works by itself: the rescan interval is an hour here, so no rescan can hide one that is lost."""

from __future__ import annotations

import os
import signal

import pytest
from process_lab import TOKEN, Request, World, session, until

from support.harness import claude, encode


@pytest.fixture
def slow(world: World) -> World:
    """Yield a world whose daemon rescans once an hour."""
    world.settings["rescan"] = '"1h"'
    world.configure()
    return world


def started(slow: World) -> None:
    """Start a daemon and wait until its first scan is over and everything is pushed."""
    slow.write(1, 1)
    slow.start()
    slow.arrives()


def test_a_change_of_a_file_arrives_without_a_rescan(slow: World) -> None:
    started(slow)
    slow.write(1, 2)
    slow.arrives()
    slow.write(2, 1)
    slow.arrives()


def test_a_tool_that_is_installed_later_arrives_without_a_rescan(slow: World) -> None:
    """Its directory does not exist when the daemon starts."""
    os.rename(os.path.join(slow.home, ".claude"), os.path.join(slow.base, "later"))
    slow.start()
    os.rename(os.path.join(slow.base, "later"), os.path.join(slow.home, ".claude"))
    slow.write(1, 1)
    slow.arrives()


def test_an_endpoint_that_is_back_gets_all_without_a_rescan(slow: World) -> None:
    started(slow)
    slow.proxy.fate = Request.cut
    slow.write(1, 2)
    until(lambda: slow.health().failures, "a failure")
    slow.proxy.fate = None
    slow.arrives()


def test_a_new_token_is_used_without_a_rescan(slow: World) -> None:
    slow.configure(token="a-token-that-is-refused")
    slow.write(1, 1)
    slow.start()
    until(lambda: slow.health().kind == "refused", "the refusal")
    slow.write_token(TOKEN)
    slow.arrives()


def test_another_address_is_used_without_a_rescan(slow: World) -> None:
    slow.configure(url='"http://127.0.0.1:9"')
    slow.write(1, 1)
    slow.start()
    until(lambda: slow.health().failures, "a failure")
    slow.configure()
    slow.arrives()


def test_a_pause_ends_without_a_rescan(slow: World) -> None:
    """The user's timed pause ends by the clock, not by an event."""
    started(slow)
    assert slow.run("pause", "1s").returncode == 0
    slow.write(1, 2)
    slow.arrives()


def test_room_in_the_outbox_is_used_without_a_rescan(slow: World) -> None:
    """What did not fit is read as soon as something was acknowledged."""
    slow.settings["outbox.max_bytes"] = '"1 MiB"'
    slow.configure()
    slow.proxy.fate = lambda request: request.answer(503)
    for number in range(1, 4):
        with open(slow.path(number), "ab") as file:
            file.writelines(encode(claude(session(number), n, text=os.urandom(2000).hex())) for n in range(300))
    daemon = slow.start()
    until(lambda: slow.health().failures, "a failure")
    slow.proxy.fate = None
    daemon.send_signal(signal.SIGUSR1)
    slow.arrives()
