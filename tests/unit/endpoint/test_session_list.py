"""The list of sessions is read with `http.client`; whatever is unusual is left to the other client."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Iterator

import pytest

from sessiond.endpoint import session_list
from sessiond.endpoint.session_list import LONGEST, SessionList, Unsuitable

BODY = b'{"sessions":[],"next":"more"}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n" % len(BODY)


class Server:
    """Answers each request on one connection with the next of some answers, and closes it after the last."""

    def __init__(self, *answers: bytes) -> None:
        self.requests: list[bytes] = []
        self._answers = answers
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/below/"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            for answer in self._answers:
                self.requests.append(connection.recv(1 << 16))
                connection.sendall(answer)

    def close(self) -> None:
        self._thread.join()
        self._socket.close()


def ask(server: Server, times: int = 1) -> Iterator[str | None]:
    """Ask for pages, and yield where each next one begins."""
    found = SessionList(server.url, "secret", device_id=uuid.UUID(int=7), timeout=60, ca_file="")
    try:
        for _ in range(times):
            yield found.sessions("a/b", 5, {"tool": "x&y"}).next
    finally:
        found.close()
        server.close()


def test_pages_are_read_over_one_connection() -> None:
    """An answer may arrive in any pieces; the request is what the other client sends."""
    server = Server(HEAD + b"\r\n" + BODY, HEAD + b"\r\n" + BODY)
    assert list(ask(server, 2)) == ["more", "more"]
    lines = server.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /below/v1/sessions?limit=5&tool=x%26y&after=a%2Fb HTTP/1.1"
    assert {"Authorization: Bearer secret", "Accept-Encoding: identity", f"Sessiond-Device: {uuid.UUID(int=7)}"} <= set(
        lines
    )
    assert server.requests[1] == server.requests[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        HEAD + b"\r\n" + BODY[:-1],
        HEAD.replace(b"200 OK", b"401 Unauthorized") + b"\r\n" + BODY,
        HEAD.replace(b"200 OK", b"302 Found") + b"Location: http://127.0.0.1:1/\r\n\r\n" + BODY,
        HEAD.replace(b"HTTP/1.1", b"ICY") + b"\r\n" + BODY,
        HEAD.replace(b"application/json", b"text/html") + b"\r\n" + BODY,
        b"HTTP/1.1 200 OK\r\n" + b"X-Filler: 1\r\n" * 10_000,
        HEAD + b"\r\n" + b'{"sessions":[],"next":4711111}',
        HEAD + b"\r\n" + b"[" * len(BODY),
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (LONGEST + 1)
        + BODY.ljust(LONGEST + 1),
    ],
)
def test_an_unusual_answer_is_left_to_the_other_client(answer: bytes) -> None:
    """Nothing of it is believed: a redirect, another status, a part of an answer, no JSON, too many or long headers."""
    with pytest.raises(Unsuitable):
        list(ask(Server(answer)))


@pytest.mark.parametrize(
    ("url", "proxies", "direct"),
    [
        ("https://sync.example.org", {}, True),
        ("https://sync.example.org", {"https_proxy": "http://proxy:1"}, False),
        ("https://sync.example.org", {"ALL_PROXY": "http://proxy:1"}, False),
        ("https://sync.example.org", {"NO_PROXY": "*", "HTTP_PROXY": ""}, True),
        ("http://localhost:1", {"http_proxy": "http://proxy:1"}, True),
    ],
)
def test_where_there_may_be_a_proxy_the_other_client_is_used(
    url: str, proxies: dict[str, str], direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_list.os, "environ", proxies)
    monkeypatch.setattr(session_list.sys, "platform", "linux")
    try:
        SessionList(url, None, device_id=uuid.UUID(int=7), timeout=60, ca_file="")
    except Unsuitable:
        assert not direct
    else:
        assert direct
