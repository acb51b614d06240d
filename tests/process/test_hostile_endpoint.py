"""An endpoint that fails, lies or attacks: capturing continues, nothing is lost, and pushing recovers."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from signal import SIGUSR1

from process_lab import TOKEN, Proxy, Request, World, session, until

from support.harness import pushed

Fate = Callable[[Request], None]


def drip_headers(request: Request) -> None:
    """Send a header without end, a byte now and then, so that each read succeeds."""
    request.close_connection = True
    with suppress(OSError):
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not request.server.over.wait(0.1):
            request.wfile.write(b"x")


def drip_body(request: Request) -> None:
    """Send the right answer, so slowly that it never ends."""
    request.close_connection = True
    with suppress(OSError):
        request.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")
        while not request.server.over.wait(0.1):
            request.wfile.write(b" ")


def endless_headers(request: Request) -> None:
    """Send far more headers than a client accepts."""
    request.close_connection = True
    with suppress(OSError):
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(100_000):
            request.wfile.write(b"X-%d: x\r\n" % number)


def continues(request: Request) -> None:
    """Answer 100 Continue without end."""
    request.close_connection = True
    with suppress(OSError):
        while not request.server.over.wait(0.05):
            request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def cut(request: Request) -> None:
    """Store the push, and end the connection in the middle of the answer."""
    _, _, body = request.forward()
    request.close_connection = True
    with suppress(OSError):
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        request.wfile.write(head.encode() + body[: len(body) // 2])
    request.cut()


def portal(request: Request) -> None:
    """Answer with a network's login page, as 200."""
    request.answer(200, "text/html", b"<html>Welcome to the hotel</html>")


def json_portal(request: Request) -> None:
    """Answer with JSON of another service."""
    request.answer(200, "application/json", b'{"status":"ok"}')


def bomb(request: Request) -> None:
    """Answer with half a megabyte that decompresses to half a gigabyte."""
    request.answer(200, body=gzip.compress(b" " * (1 << 20)) * 512, content_encoding="gzip")


def huge(request: Request) -> None:
    """Send a body without end, as fast as possible."""
    request.close_connection = True
    with suppress(OSError):
        request.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        while not request.server.over.is_set():
            request.wfile.write(b" " * 65536)


def deep(request: Request) -> None:
    """Answer with JSON that is nested deeper than any stack."""
    request.answer(200, body=b'{"x":' + b"[" * 200_000)


def deep_problem(request: Request) -> None:
    """Answer with the same as an error."""
    request.answer(500, body=b'{"x":' + b"[" * 200_000)


def garbage(request: Request) -> None:
    """Answer with bytes that are not HTTP."""
    request.close_connection = True
    request.wfile.write(b"\x00\xff\x16\x03SSH-2.0\r\n\r\n" * 10)


def bad_redirect(request: Request) -> None:
    """Redirect to an invalid address."""
    request.answer(302, Location="http://[::1:99999\\x")


def bad_dates(request: Request) -> None:
    """Answer with Retry-After values that can't be read."""
    count = len(request.server.seen)
    values = ("nan", "-5", "Sun, 99 Foo 99999 25:61:61", "Mon, 01 Jan 0001 00:00:00 GMT", "1e999", "soon", "")
    request.answer(503, Retry_After=values[count % len(values)])


def lies(request: Request) -> None:
    """Report every item as stored, store nothing, and name another batch."""
    if request.path == "/v1/push":
        request.answer(200, body=b'{"batch":"x","results":[{"status":"stored"}]}')
    else:
        request.forward_on()


def missing(request: Request) -> None:
    """Answer 404."""
    request.answer(404, "application/problem+json", b'{"title":"no such place"}')


def other_protocol(request: Request) -> None:
    """Answer as an endpoint of another protocol version."""
    status, kind, body = request.forward()
    request.answer(status, kind, body.replace(b'"protocol":1', b'"protocol":9'))


QUICK = [endless_headers, cut, portal, json_portal, bomb, huge, deep, deep_problem, garbage, bad_redirect, lies]
QUICK += [bad_dates, missing]
SLOW = [drip_headers, drip_body, continues]


def endure(world: World, fates: list[Fate]) -> None:
    """Apply each fate: a failure is stored, capturing goes on, memory stays flat; afterwards everything arrives."""
    daemon = world.start()
    for line, fate in enumerate(fates):
        world.write(1, line)
        world.arrives(1)
        until(lambda: not world.health().failures, "health")
        world.proxy.fate = fate
        asked = len(world.proxy.seen)
        world.write(2, line)
        until(lambda asked=asked: len(world.proxy.seen) > asked, "a request")
        world.write(3, line)
        until(lambda: world.health().failures, f"a failure by {fate.__name__}")
        until(lambda: world.captured(3), f"capturing with {fate.__name__}")
        assert daemon.poll() is None, f"{fate.__name__}: {world.said()}"
        world.proxy.fate = None
        daemon.send_signal(SIGUSR1)
    world.arrives()
    world.judge()
    assert world.memory(daemon.pid) < 150 << 20
    assert "Traceback" not in world.said()


def test_a_bad_answer_costs_nothing(world: World) -> None:
    """The answers come at once: bombs, login pages, garbage, lies, nesting, half an answer."""
    endure(world, QUICK)


def test_an_answer_that_drips_ends_in_time(world: World) -> None:
    """Each read succeeds, but the request as a whole has a deadline."""
    world.configure(timeout='"500ms"')
    endure(world, SLOW)


def test_another_protocol_is_named(world: World) -> None:
    """The daemon pauses and reports what to do."""
    world.proxy.fate = other_protocol
    world.write(1, 1)
    world.start()
    until(lambda: world.health().kind == "wrong", "the word")
    assert "protocol 9" in (world.health().reason or "")
    world.proxy.fate = None
    os.kill(world.pid(), SIGUSR1)
    world.arrives()


def test_a_hanging_endpoint_does_not_hold_up_capturing(world: World) -> None:
    """It accepts the connection and never answers: the request is given up, and retried with growing waits."""
    world.configure(timeout='"3s"')  # a well endpoint on a busy machine answers within it
    world.proxy.fate = Request.hang
    world.write(1, 1)
    world.start()
    until(lambda: world.health().failures, "a failure")
    assert "in time" in (world.health().reason or "")
    assert world.health().kind == "unreachable"
    world.proxy.fate = None
    world.arrives()


def test_a_redirect_is_not_followed_and_the_token_stays_here(world: World) -> None:
    """The error names the other host, which receives nothing."""
    other = Proxy(world.proxy.port)
    try:
        world.proxy.fate = lambda request: request.answer(status, Location=f"{other.url}/v1")
        world.write(1, 1)
        for status in (301, 302, 303, 307, 308):
            if world.started:
                world.look()
            else:
                world.start()
            until(lambda status=status: str(status) in (world.health().reason or ""), f"the word of {status}")
            assert world.health().kind == "wrong"
            assert "redirect to 127.0.0.1" in (world.health().reason or "")
        assert other.seen == []
    finally:
        other.end()


def test_a_refused_token_pauses_until_it_changes(world: World) -> None:
    """After 401 capturing goes on, nothing is dropped, and requests are rare. A new token is used at once."""
    world.configure(token="wrong-token-of-the-user")
    world.write(1, 1, 2)
    daemon = world.start()
    until(lambda: world.health().kind == "refused", "the word")
    world.write(2, 1)
    until(lambda: world.captured(2), "capturing goes on")
    asked = len(world.proxy.seen)
    time.sleep(1)
    assert len(world.proxy.seen) <= asked + 1
    world.write_token(TOKEN)
    world.arrives()
    world.judge()
    assert daemon.poll() is None


def test_a_token_in_an_error_is_shown_nowhere_while_it_fails(world: World) -> None:
    """The endpoint repeats the Authorization header in its answer: the log, the spool and `status` never have it."""
    echo = json.dumps({"title": "no", "detail": "x" * 180 + f"Bearer {TOKEN}"}).encode()
    world.proxy.fate = lambda request: request.answer(status, "application/problem+json", echo)
    world.write(1, 1)
    for status in (500, 401, 404):
        if world.started:
            world.look()
        else:
            world.start()
        until(lambda status=status: str(status) in (world.health().reason or ""), f"the word of {status}")
        shown = [world.said(), repr(vars(world.health()))]
        for words in (("status",), ("status", "--json"), ("queue",), ("queue", "--json"), ("doctor", "--json")):
            done = world.run(*words)
            shown.append(done.stdout + done.stderr)
        assert f"answered {status}" in shown[2]
        assert not [text for text in shown if TOKEN[:12] in text]


def test_one_item_that_is_refused_is_parked_alone(world: World) -> None:
    """Pushes with a certain record get 400: it is found by halving, and the others are stored."""
    poison = session(3)

    def fate(request: Request) -> None:
        text = pushed(request.headers["content-encoding"], request.body) if request.path == "/v1/push" else b""
        if poison.encode() in text:
            request.answer(400, "application/problem+json", b'{"title":"no such record, please"}')
        else:
            request.forward_on()

    world.proxy.fate = fate
    for number in range(8):
        world.write(number, 1, 2)
    world.start()
    world.arrives(0, 1, 2, 4, 5, 6, 7)
    until(lambda: world.waiting() == 0, "an empty outbox")
    with world.spool() as spool:
        sessions, segments = spool.outbox.parked()
    assert [str(item.uuid) for item in sessions] == [str(item.session) for item in segments] == [poison]
    assert world.held(poison) is None


def test_too_large_a_push_is_halved(world: World) -> None:
    """Larger pushes get 413: smaller ones are stored, and nothing is parked."""

    def fate(request: Request) -> None:
        if request.path == "/v1/push" and len(request.body) > 1500:
            request.answer(413, "application/problem+json", b'{"title":"too large"}')
        else:
            request.forward_on()

    world.proxy.fate = fate
    for number in range(30):
        world.write(number, 1, 2)
    world.start()
    world.arrives()
    world.judge()
    with world.spool() as spool:
        assert spool.stats.waiting().parked == 0


def test_an_outage_for_days_is_few_requests_and_loses_nothing(world: World) -> None:
    """The daemon waits as long as 503 with Retry-After says, even over a restart; then everything arrives."""
    world.proxy.fate = lambda request: request.answer(503, Retry_After="2000")
    world.write(1, 1, 2)
    daemon = world.start()
    due = until(lambda: world.health().next_attempt_ms, "a wait")
    assert due > time.time_ns() // 1_000_000 + 1_900_000
    asked = len(world.proxy.seen)
    for line in range(3, 20):
        world.write(1, line)
    until(lambda: world.captured(1), "capturing goes on")
    assert world.stop(daemon) == 0
    world.start()
    until(lambda: world.captured(1), "the look at the start")
    time.sleep(0.5)
    assert len(world.proxy.seen) == asked
    assert world.health().next_attempt_ms == due
    world.proxy.fate = None
    os.kill(world.pid(), SIGUSR1)
    world.arrives()
    world.judge()


def test_an_endpoint_that_is_not_there_is_waited_for(world: World) -> None:
    """While the connection is refused, sessions are captured and kept, and pushed when the endpoint listens."""
    url, port = world.proxy.url, world.proxy.server_port
    world.proxy.end()
    world.write(1, 1)
    world.start()
    until(lambda: world.health().failures, "a failure")
    assert url in (world.health().reason or "")
    world.proxy = Proxy(world.proxy.port, listen=port)
    world.arrives()
    world.judge()
