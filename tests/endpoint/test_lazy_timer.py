"""A time limit that moves with each request."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import cast

from sessiond.endpoint.server.lazy_timer import LazyTimer


class Handle:
    """A scheduled call."""

    def __init__(self, loop: Loop, time: float, call: Callable[[], None]) -> None:
        self.loop, self.time, self.call = loop, time, call

    def when(self) -> float:
        """Return the time of the call."""
        return self.time

    def cancel(self) -> None:
        """Remove the call."""
        self.loop.handles.remove(self)


class Loop:
    """An event loop whose time is set by the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self.handles: list[Handle] = []
        self.scheduled = 0

    def time(self) -> float:
        """Return the time."""
        return self.now

    def call_at(self, time: float, call: Callable[[], None]) -> Handle:
        """Schedule a call."""
        self.scheduled += 1
        self.handles.append(Handle(self, time, call))
        return self.handles[-1]

    def advance(self, to: float) -> None:
        """Advance the time, and make the calls that are due until then."""
        while due := [each for each in self.handles if each.time <= to]:
            first = min(due, key=Handle.when)
            self.handles.remove(first)
            self.now = first.time
            first.call()
        self.now = to


def timer() -> tuple[LazyTimer, Loop, list[float]]:
    """Return a timer, its loop, and the times at which its limit was reached."""
    loop = Loop()
    reached: list[float] = []
    return LazyTimer(cast("asyncio.AbstractEventLoop", loop), lambda: reached.append(loop.now)), loop, reached


def test_a_limit_is_reached_once() -> None:
    """Nothing is scheduled after it."""
    limit, loop, reached = timer()
    limit.set(10)
    loop.advance(100)
    assert (reached, loop.handles) == ([10], [])


def test_a_new_limit_replaces_the_one_before() -> None:
    """A later, an earlier, and none."""
    limit, loop, reached = timer()
    limit.set(10)
    limit.set(50)
    loop.advance(49)
    assert reached == []
    limit.set(20)
    loop.advance(68)
    assert reached == []
    loop.advance(70)
    assert reached == [69]
    limit.set(10)
    limit.set(None)
    loop.advance(200)
    assert reached == [69]


def test_an_earlier_limit_is_in_time() -> None:
    """The timer of the event loop is replaced."""
    limit, loop, reached = timer()
    limit.set(75)
    loop.advance(20)
    limit.set(10)
    loop.advance(100)
    assert reached == [30]


def test_requests_in_a_row_cost_no_timers() -> None:
    """Each one removes the limit and sets it again."""
    limit, loop, reached = timer()
    for at in range(70):
        loop.advance(at)
        limit.set(None)
        limit.set(75)
    assert loop.scheduled == 1
    loop.advance(143)
    assert (reached, loop.scheduled) == ([], 2)
    loop.advance(145)
    assert reached == [144]


def test_a_closed_timer_keeps_nothing() -> None:
    """The connection whose function it called is freed at once, without the garbage collector."""

    class Connection:
        def __init__(self, loop: Loop) -> None:
            self.timer = LazyTimer(cast("asyncio.AbstractEventLoop", loop), self.expire)

        def expire(self) -> None:
            raise AssertionError

    loop = Loop()
    connection = Connection(loop)
    connection.timer.set(10)
    connection.timer.close()
    assert loop.handles == []
    connection.timer.set(20)  # what happens after the end
    loop.advance(100)
    freed = weakref.ref(connection)
    gc.disable()
    try:
        del connection
        assert freed() is None
    finally:
        gc.enable()
