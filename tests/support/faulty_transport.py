"""A transport in front of an endpoint that fails in the ways networks and servers do."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256

import httpx

from sessiond import zstd
from sessiond.endpoint import dictionary

_DICTIONARIES: dict[bytes, bytes] = {}


class FaultyTransport(httpx.BaseTransport):
    """A transport in front of the real one; `fate` is called with each request and may answer or fail instead."""

    def __init__(self) -> None:
        self.real = httpx.HTTPTransport(verify=False)  # reading the authorities takes longer than most tests
        self.fate: Callable[[httpx.Request, Callable[[], httpx.Response]], httpx.Response] | None = None
        self.requests: list[tuple[str, int]] = []
        self.encodings: list[str] = []
        """Of the pushes."""
        self.delivered: list[str] = []
        """Paths of the requests that the real endpoint answered."""
        self.withheld: frozenset[str] = frozenset()
        """Features that the endpoint has and does not tell of: it is one of an older version."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        if request.url.path == "/v1/push":
            self.encodings.append(request.headers["content-encoding"])
            pushed(self.encodings[-1], body)
        self.requests.append((request.url.path, len(body)))
        fresh = httpx.Request(request.method, request.url, headers=request.headers, content=body)
        if self.fate is not None:
            return self.fate(request, lambda: self.deliver(fresh))
        answer = self.deliver(fresh)
        if request.url.path == "/v1" and self.withheld:
            about = json.loads(answer.read())
            about["features"] = [name for name in about["features"] if name not in self.withheld]
            return httpx.Response(
                answer.status_code,
                headers={"content-type": "application/json"},
                stream=httpx.ByteStream(json.dumps(about).encode()),
            )
        return answer

    def deliver(self, request: httpx.Request) -> httpx.Response:
        """Return the answer of the real endpoint."""
        answer = self.real.handle_request(request)
        self.delivered.append(request.url.path)
        return answer

    def close(self) -> None:
        self.real.close()


def pushed(encoding: str, body: bytes) -> bytes:
    """Decode the body of a push. Every body must pass through here, as a later one may refer to it."""
    known = b""
    if encoding == dictionary.ENCODING:
        digest, body = dictionary.unpack(body)
        known = _DICTIONARIES[digest]
    plain = b"".join(zstd.decompress_stream((body,), 1 << 30, known))
    grown = dictionary.extended(known, plain)
    _DICTIONARIES[sha256(grown).digest()] = grown
    return plain
