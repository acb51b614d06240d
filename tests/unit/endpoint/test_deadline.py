"""The deadline of a whole request."""

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
from sessiond.endpoint.transport import DeadlineTransport
from sessiond.errors import Unreachable


@pytest.mark.parametrize("before", [None, 3600.0])
def test_it_fires_once_at_its_deadline_after_an_earlier_or_later_one(before: float | None) -> None:
    """Its thread may sleep until a later deadline; an earlier one wakes it."""
    fired, done = [], threading.Event()

    def on_timeout() -> None:
        fired.append(time.monotonic())
        done.set()

    timer = DeadlineTimer(on_timeout)
    if before is not None:
        timer.arm(time.monotonic() + before)
        timer.disarm()
    at = time.monotonic() + 0.05
    timer.arm(at)
    assert done.wait(60)
    timer.close()
    assert len(fired) == 1
    assert fired[0] >= at


def test_a_disarmed_timer_does_not_fire_and_can_be_armed_again() -> None:
    """A request that has ended is not aborted; the next one is, if it is late."""
    fired = threading.Event()
    timer = DeadlineTimer(fired.set)
    timer.arm(time.monotonic() + 0.5)
    timer.disarm()
    assert not fired.wait(0.8)
    timer.arm(time.monotonic() + 0.02)
    assert fired.wait(60)
    timer.close()


def test_one_thread_serves_all_requests() -> None:
    """A thread for each request costs as much as the request's bytes."""
    before, timer = threading.active_count(), DeadlineTimer(lambda: None)
    for _ in range(50):
        timer.arm(time.monotonic() + 60)
        timer.disarm()
    assert threading.active_count() == before + 1
    timer.close()
    assert threading.active_count() == before


class Late(httpx.HTTPTransport):
    """A transport that connects only after the deadline, as a slow name lookup does."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        threading.Event().wait(0.4)
        return super().handle_request(request)


def test_a_connection_that_comes_after_the_deadline_is_cut() -> None:
    """There was no connection to abort at the deadline, and headers that arrive byte by byte would never time out."""
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
        client = Client(url, None, device_id=uuid.uuid4(), timeout=0.2, transport=DeadlineTransport(Late()))
        with pytest.raises(Unreachable, match="in time"):
            client.about()
        client.close()
        server.join()
    assert cut.is_set()
