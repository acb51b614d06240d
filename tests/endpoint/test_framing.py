"""The end of a request must not be ambiguous."""

from __future__ import annotations

import socket

import httpx

from sessiond.endpoint.server import Running


def test_a_request_with_two_lengths_is_refused_and_ends_its_connection(endpoint: Running) -> None:
    """A proxy that uses the other length would take the rest for another client's request."""
    head = f"Host: x\r\nAuthorization: Bearer {endpoint.token}\r\n"
    smuggled = f"GET /v1/sessions HTTP/1.1\r\n{head}Connection: close\r\n\r\n"
    body = f"0\r\n\r\n{smuggled}"
    lengths = f"Content-Length: {len(body)}\r\nTransfer-Encoding: chunked\r\n"
    port = httpx.URL(endpoint.url).port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"POST /v1/push HTTP/1.1\r\n{head}{lengths}\r\n{body}".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
