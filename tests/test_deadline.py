"""The alarm that bounds a request as a whole."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from contextlib import suppress

import httpx
import pytest

from sessiond.endpoint.client import Client
from sessiond.endpoint.deadline import DeadlineTimer
from sessiond.errors import Unreachable


@pytest.mark.parametrize("before", [None, 3600.0])
def test_it_rings_once_at_its_time_whatever_time_it_had_before(before: float | None) -> None:
    """Its thread may sleep until a later time; a sooner one wakes it."""
    rung, done = [], threading.Event()

    def ring() -> None:
        rung.append(time.monotonic())
        done.set()

    alarm = DeadlineTimer(ring)
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
    alarm = DeadlineTimer(rung.set)
    alarm.arm(time.monotonic() + 0.02)
    alarm.disarm()
    assert not rung.wait(0.1)
    alarm.arm(time.monotonic() + 0.02)
    assert rung.wait(60)
    alarm.close()


def test_it_has_one_thread_for_all_requests() -> None:
    """A thread for each request costs as much as the request's bytes."""
    before, alarm = threading.active_count(), DeadlineTimer(lambda: None)
    for _ in range(50):
        alarm.arm(time.monotonic() + 60)
        alarm.disarm()
    assert threading.active_count() == before + 1
    alarm.close()
    assert threading.active_count() == before


class Late(httpx.HTTPTransport):
    """A name that takes longer to be found than the whole request may take."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        threading.Event().wait(0.4)
        return super().handle_request(request)


def test_a_connection_that_comes_after_the_deadline_is_cut() -> None:
    """Nothing was there to cut when the alarm rang; headers that drip in would keep us."""
    cut = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            for _ in range(200):
                connection.sendall(b"X-Drop: 1\r\n")
                threading.Event().wait(0.05)
            return
        cut.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=drip)
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = Client(url, None, device_id=uuid.uuid4(), timeout=0.2, transport=Late())
        with pytest.raises(Unreachable, match="in time"):
            client.about()
        client.close()
        server.join()
    assert cut.is_set()
