"""Many connections at once, and slow ones: a normal client is served beside them."""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from endpoint_lines import DEVICE, Pusher, append, serving
from starlette.responses import JSONResponse
from uvicorn.server import ServerState

from sessiond import logs
from sessiond.endpoint.server.connections import (
    KNOWN,
    MAX_HEAD,
    MAX_PIPELINED,
    Connection,
    Connections,
    Phase,
    Timeouts,
)
from sessiond.endpoint.server.digester import LATER
from sessiond.endpoint.server.listener import BUSY, MAX_CONNECTIONS, RESERVED, most_connections
from sessiond.endpoint.server.problems import FULL, SOON, retry_after

DEVICE_LINE = f"Sessiond-Device: {DEVICE}\r\n"
HALF = b"GET /v1 HTTP/1.1\r\nHost: x\r\nX-Half: "
WHOLE = b"GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n"
TIMEOUTS = Timeouts(headers=10, idle=75, answer=60, rest=11, close=12)


class Timer:
    """A scheduled call."""

    def __init__(self, loop: Loop, time: float, call: Callable[..., None]) -> None:
        self.loop, self.time, self.call = loop, time, call

    def when(self) -> float:
        """Return the time of the call."""
        return self.time

    def cancel(self) -> None:
        """Cancel the call."""
        if self in self.loop.timers:
            self.loop.timers.remove(self)


class Loop:
    """An event loop whose time is set by the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.tasks: list[Any] = []

    def time(self) -> float:
        """Return the seconds since the loop began."""
        return self.now

    def call_at(self, time: float, call: Callable[..., None]) -> Timer:
        """Record a call."""
        self.timers.append(Timer(self, time, call))
        return self.timers[-1]

    def call_later(self, seconds: float, call: Callable[..., None]) -> Timer:
        """Record a call."""
        return self.call_at(self.now + seconds, call)

    def create_task(self, task: Any) -> Any:
        """Record a task that never runs, like an application that takes its time."""
        task.close()
        self.tasks.append(task)
        return self

    def add_done_callback(self, call: Any) -> None:
        """Never call it."""

    def wait(self, seconds: float) -> None:
        """Advance the time, and make the calls that are scheduled in it."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.time <= end]:
            timer = min(due, key=Timer.when)
            timer.cancel()
            self.now = timer.time
            timer.call()
        self.now = end


class Transport:
    """A connection that records the calls."""

    def __init__(self) -> None:
        self.sent = b""
        self.state = "open"

    def write(self, data: bytes) -> None:
        """Record the bytes."""
        self.sent += data

    def close(self) -> None:
        """Close when all is sent."""
        self.state = "closing"

    def abort(self) -> None:
        """Record that it is closed at once."""
        self.state = "aborted"

    def is_closing(self) -> bool:
        """Return whether it will be closed."""
        return self.state != "open"

    def pause_reading(self) -> None:
        """Do nothing: no data arrives."""

    def resume_reading(self) -> None:
        """Do nothing: no data arrives."""

    def get_extra_info(self, name: str) -> None:
        """Return nothing."""


def connect(connections: Connections, address: str = "192.0.2.1") -> tuple[Connection, Loop, Transport]:
    """Accept a connection that exists in this test only."""
    loop, transport = Loop(), Transport()
    config = uvicorn.Config(JSONResponse({}), http="httptools", ws="none", log_config=None)
    made = Connection(
        config=config,
        server_state=ServerState(),
        app_state={},
        _loop=loop,
        connections=connections,
        address=address,
    )
    made.connection_made(transport)  # type: ignore[arg-type]
    return made, loop, transport


def answer(connection: Connection) -> None:
    """Answer the request as an application does."""
    cycle = connection.cycle
    cycle.response_started = cycle.response_complete = True
    connection.on_response_complete()


def test_headers_have_to_be_complete_in_time() -> None:
    """The time begins with the connection, and slow bytes do not extend it."""
    connection, loop, transport = connect(Connections(9, TIMEOUTS))
    assert connection.phase is Phase.HEADERS
    for byte in HALF:
        loop.wait(9.9 / len(HALF))
        connection.data_received(bytes([byte]))
    assert transport.state == "open"
    loop.wait(0.2)
    assert transport.sent.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert json.loads(transport.sent.partition(b"\r\n\r\n")[2])["type"] == "too-slow"
    loop.wait(11.8)
    assert transport.state == "closing"
    loop.wait(0.2)
    assert transport.state == "aborted"


def test_a_connection_without_a_byte_is_closed_without_a_word() -> None:
    """A client that starts a request at that moment must not read an answer to something else."""
    _, loop, transport = connect(Connections(9, TIMEOUTS))
    loop.wait(9.9)
    assert transport.state == "open"
    loop.wait(0.2)
    assert (transport.sent, transport.state) == (b"", "closing")


def test_a_request_has_no_timeout_while_it_is_worked_on_and_then_the_connection_is_idle() -> None:
    """The connection does not limit how long an answer may take."""
    connection, loop, transport = connect(Connections(9, TIMEOUTS))
    for idle in (1, 74.9):
        connection.data_received(WHOLE)
        loop.wait(1000)
        assert (transport.state, connection.phase) == ("open", Phase.WORKING)
        answer(connection)
        loop.wait(idle)
        assert (transport.state, connection.phase) == ("open", Phase.IDLE)
    connection.data_received(HALF)
    loop.wait(9.9)
    assert (transport.state, connection.phase) == ("open", Phase.HEADERS)
    connection.data_received(b"x\r\n\r\n")
    answer(connection)
    loop.wait(74.9)
    assert transport.state == "open"
    loop.wait(0.2)
    assert (transport.sent, transport.state) == (b"", "closing")


def test_headers_that_begin_on_an_idle_connection_have_their_own_time() -> None:
    """The time of an idle connection is longer."""
    connection, loop, transport = connect(Connections(9, TIMEOUTS))
    connection.data_received(WHOLE)
    answer(connection)
    loop.wait(20)
    connection.data_received(HALF)
    loop.wait(10.1)
    assert transport.state == "closing"


def test_the_rest_of_a_body_that_was_refused_is_read_for_a_moment_only() -> None:
    """The client may still be sending when it is answered; a body that trickles without end is cut off."""
    connection, loop, transport = connect(Connections(9, TIMEOUTS))
    connection.data_received(b"POST /v1/push HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n")
    assert connection.phase is Phase.BODY
    answer(connection)
    assert connection.phase is Phase.REST
    for _ in range(5):
        loop.wait(2.1)
        connection.data_received(b"x")
    assert transport.state == "open"
    loop.wait(0.6)
    assert transport.state == "closing"


def test_headers_have_a_limit() -> None:
    """The parser keeps a header until it ends, so one without an end would use up the memory."""
    connection, _, transport = connect(Connections(9, TIMEOUTS))
    connection.data_received(HALF)
    for _ in range(MAX_HEAD // 1000):
        connection.data_received(b"x" * 1000)
    assert transport.sent == b""
    connection.data_received(b"x" * 1000)
    assert transport.sent.startswith(b"HTTP/1.1 431 ")
    assert json.loads(transport.sent.partition(b"\r\n\r\n")[2])["type"] == "too-large"
    assert (transport.state, connection.phase) == ("closing", Phase.CLOSING)
    sent = transport.sent
    connection.data_received(b"x" * 100_000)
    assert transport.sent == sent


def test_what_follows_a_body_has_a_limit() -> None:
    """Trailers are parsed like headers, and nothing reads them. A body may have any length."""
    connection, _, transport = connect(Connections(9, TIMEOUTS))
    connection.data_received(b"POST /v1/push HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(100):
        connection.data_received(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
    connection.data_received(b"0\r\n")
    headers = list(connection.headers)
    for _ in range(MAX_HEAD // 1000):
        connection.data_received(b"X-Trailer: " + b"x" * 987 + b"\r\n")
    assert (connection.headers, transport.state) == (headers, "open")
    connection.data_received(b"X-Trailer: " + b"x" * 987 + b"\r\n")
    assert transport.state == "closing"


def test_few_requests_may_wait_for_the_answer_to_an_earlier_one() -> None:
    """Each of them takes memory before its token is looked up."""
    connection, loop, transport = connect(Connections(9, TIMEOUTS))
    connection.data_received(WHOLE * (MAX_PIPELINED + 1))
    assert (len(loop.tasks), transport.state) == (1, "open")
    connection.data_received(WHOLE)
    assert (transport.sent, transport.state) == (b"", "closing")


@pytest.mark.parametrize(
    ("before", "after", "answered"),
    [
        (b"", b"\r\nno request\r\n", True),
        (WHOLE, b"no request\r\n", False),
        (WHOLE, HALF + b"x" * MAX_HEAD, False),
        (WHOLE, b"POST /v1/push HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno size", False),
        (b"", b"POST /v1/push HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno size", True),
    ],
)
def test_an_error_is_not_taken_for_the_answer_to_an_earlier_request(
    before: bytes, after: bytes, answered: bool
) -> None:
    """That request may be a push, which is being stored."""
    connection, _, transport = connect(Connections(9, TIMEOUTS))
    for data in (before, after):
        connection.data_received(data)
    assert (transport.sent != b"", transport.state) == (answered, "closing")


UPGRADE = b" /v1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"


def test_a_request_for_another_protocol_is_answered_in_this_one() -> None:
    """curl asks for HTTP/2 in this way. What follows such a request is not parsed, so the connection ends with it."""
    connection, loop, transport = connect(Connections(9, TIMEOUTS))
    connection.data_received(b"GET" + UPGRADE + b"\r\n")
    assert (len(loop.tasks), connection.cycle.keep_alive, transport.state) == (1, False, "open")


@pytest.mark.parametrize("body", [b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"])
def test_a_body_that_would_not_be_parsed_is_refused(body: bytes) -> None:
    """A push without its lines would be answered like an empty one."""
    connection, loop, transport = connect(Connections(9, TIMEOUTS))
    connection.data_received(b"POST" + UPGRADE + body)
    assert transport.sent.startswith(b"HTTP/1.1 400 ")
    assert json.loads(transport.sent.partition(b"\r\n\r\n")[2])["type"] == "malformed"
    assert (loop.tasks, transport.state) == ([], "closing")


def test_an_answer_that_is_not_taken_is_cut_off() -> None:
    """The time starts again whenever the client has received what was sent."""
    connection, loop, transport = connect(Connections(9, TIMEOUTS))
    connection.data_received(WHOLE)
    for _ in range(3):
        connection.pause_writing()
        loop.wait(59.9)
        connection.resume_writing()
    loop.wait(100)
    assert transport.state == "open"
    connection.pause_writing()
    loop.wait(60.1)
    assert transport.state == "aborted"


def test_a_lost_connection_is_forgotten() -> None:
    """Neither the connection nor any of its timers is kept."""
    connections = Connections(9, TIMEOUTS)
    connection, loop, _ = connect(connections)
    connection.connection_lost(None)
    assert (len(connections), loop.timers) == (0, [])


def test_who_is_dropped_first() -> None:
    """Strangers are dropped before known clients, addresses with many connections first, half-sent bodies last."""
    connections = Connections(7, TIMEOUTS)
    known, *_ = connect(connections)
    known.data_received(WHOLE)
    known.scope[KNOWN] = True  # type: ignore[typeddict-unknown-key]
    answer(known)
    alone, *_ = connect(connections, "192.0.2.2")
    body, *_ = connect(connections)
    body.data_received(b"POST /v1/push HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n")
    first, *_ = connect(connections)
    second, *_ = connect(connections)
    second.data_received(HALF)
    working, *_ = connect(connections)
    working.data_received(WHOLE)
    for victim in (first, second, alone, body, known):
        before = connections._open.copy()
        assert connections.drop()
        assert before - connections._open == {victim}
        victim.connection_lost(None)
    assert not connections.drop(), "what is being answered is never dropped"
    assert connections.dropped == 5


def half_sent(url: str, count: int) -> list[socket.socket]:
    """Begin requests and leave them unfinished."""
    host, port = url.removeprefix("http://").split(":")
    opened = []
    for _ in range(count):
        opened.append(socket.create_connection((host, int(port)), timeout=60))
        opened[-1].sendall(HALF)
    return opened


def close(connections: list[socket.socket]) -> None:
    """Close them all."""
    for connection in connections:
        connection.close()


def test_half_sent_requests_do_not_block_other_clients(tmp_path: Path) -> None:
    """There are many times more of them than the endpoint has room for."""
    connections = Connections(20)
    with serving(tmp_path, connections=connections) as it, Pusher(it.url, it.token) as pusher:
        begun = half_sent(it.url, 100)
        offset = 0
        for _ in range(5):
            assert pusher.said(append(offset, b"x\n")) == ["stored"]
            offset += 2
            begun += half_sent(it.url, 20)
        assert pusher.bytes_of() == b"x\n" * 5
        assert len(connections) <= 20
        assert connections.dropped >= 100
        close(begun)


def test_a_full_endpoint_answers_503_at_once(tmp_path: Path) -> None:
    """It gets 503 at once instead of waiting for a timeout."""
    line = json.dumps(append(0, b"x")).encode()
    head = f"POST /v1/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {{}}\r\n{DEVICE_LINE}"
    head += f"Content-Length: {len(line)}\r\n\r\n"
    connections = Connections(2)
    with serving(tmp_path, connections=connections) as it:
        host, port = it.url.removeprefix("http://").split(":")
        with it.store.write():
            busy = [socket.create_connection((host, int(port)), timeout=60) for _ in range(2)]
            for each in busy:
                each.sendall(head.format(it.token).encode() + line)
            end = time.monotonic() + 60
            while [each.phase for each in connections._open.copy()] != [Phase.WORKING] * 2:
                assert time.monotonic() < end
            refused = httpx.get(f"{it.url}/v1", verify=False, timeout=60)
        assert refused.status_code == 503
        assert refused.json()["type"] == "busy"
        assert 1 <= int(refused.headers["retry-after"]) <= 5
        assert refused.headers["content-type"] == "application/problem+json"
        for each in busy:
            assert each.recv(65536).startswith(b"HTTP/1.1 200 OK")
        close(busy)
        assert httpx.get(f"{it.url}/v1", verify=False, timeout=60).status_code == 200


class Starved(socket.socket):
    """A listening socket of a process that has no descriptor left for some time."""

    failures = 5

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept, or fail as the system does."""
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def test_without_descriptors_it_waits_instead_of_spinning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It goes on when there are some again. The log has one line about it, and no traceback."""
    logs.configure(level="warning")  # to the stderr of this test, whatever test was before it
    listener = Starved(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    with serving(tmp_path, listener=listener) as it:
        assert httpx.get(f"{it.url}/v1", verify=False, timeout=60).status_code == 200
    assert listener.failures == 0
    errors = capfd.readouterr().err
    assert errors.count("endpoint.exhausted") == 1
    assert "Traceback" not in errors


def test_malformed_requests_are_not_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A log of malformed requests would let anyone fill the disk."""
    logs.configure(level="warning")
    with serving(tmp_path) as it:
        host, port = it.url.removeprefix("http://").split(":")
        for sent in (b"\x16\x03\x01 no http\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"):
            with socket.create_connection((host, int(port)), timeout=60) as connection:
                connection.sendall(sent)
                assert connection.recv(100).startswith(b"HTTP/1.1 4")
    assert capfd.readouterr().err == ""


def test_the_limit_of_open_files_is_raised_as_far_as_allowed() -> None:
    """A service starts with a soft limit of 1,024, which leaves too little for a thousand connections."""
    code = (
        "import resource, sys\n"
        "from sessiond.endpoint.server.listener import raise_limit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))\n"
        "print(raise_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert hard == resource.RLIM_INFINITY or hard >= 2000
    for soft, allowed, wanted in ((200, 256, 256), (200, 2000, MAX_CONNECTIONS + RESERVED), (1500, 2000, 1500)):
        done = subprocess.run(
            [sys.executable, "-c", code, str(soft), str(allowed)],
            env=os.environ | {"PYTHONPATH": "daemon"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [str(wanted)] * 2
    assert [most_connections(each) for each in (64, 256, 100_000)] == [16, 160, MAX_CONNECTIONS]


def test_few_descriptors_are_enough_beside_half_sent_requests(tmp_path: Path) -> None:
    """A whole process with 256 descriptors serves requests, logs nothing, and ends cleanly."""
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
        "from sessiond.endpoint.server.run import Options, serve\n"
        "path = sys.argv[1]\n"
        "serve(Options(directory=path, port=0, announce='-', token_file=path + '/token', until_eof=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": "daemon"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    begun = half_sent(url, 400)
    with Pusher(url, (tmp_path / "token").read_text().strip()) as pusher:
        assert pusher.said(append(0, b"x\n")) == ["stored"]
        assert pusher.bytes_of() == b"x\n"
        assert len(select.select(begun, [], [], 0)[0]) >= 400 - 160
    close(begun)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")


def test_clients_that_were_refused_together_come_back_apart() -> None:
    """Each answer that asks them to wait has a random time, also the one to a connection that is one too many."""
    refused = {answer.partition(b"Retry-After: ")[2][:1] for answer in BUSY}
    assert refused == {b"1", b"2", b"3", b"4", b"5"}
    for least, most in (SOON, FULL, LATER):
        asked = {int(retry_after(least, most)["Retry-After"]) for _ in range(50)}
        assert len(asked) > 1
        assert least <= min(asked) <= max(asked) <= most
