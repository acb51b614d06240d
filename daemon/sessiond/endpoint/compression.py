"""Compresses the bodies of pushes, with a dictionary of the previous ones where the endpoint offers that.

It is a transport between the client and the network, so the client only knows JSON lines. The dictionary changes
nothing but the length of a body: whenever the endpoint may have another one, the same lines are sent without it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sessiond import zstd
from sessiond.decoding import json_decoder
from sessiond.endpoint import dictionary
from sessiond.endpoint.answers import UNREADABLE, content_of, is_json, is_transient
from sessiond.memory import lean_imports

with lean_imports():
    import httpx

JSON_LINES = "application/x-ndjson"
"""The content type of bodies that are compressed."""
LEVEL = 3
TOO_LARGE = 413


class _Features(msgspec.Struct):
    """The only field of the answer to `GET /v1` that is needed here."""

    features: Sequence[str] = ()


class CompressingTransport(httpx.BaseTransport):
    """Compresses JSON lines before another transport sends them. Not thread-safe."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport
        self._dictionary = dictionary.PushDictionary()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, compressed if it has JSON lines. Raises: httpx.TransportError."""
        if request.headers.get("content-type") == JSON_LINES:
            return self._push(request)
        response = self._transport.handle_request(request)
        if request.method == "GET" and request.url.path.endswith("/v1"):
            self._note_features(response)
        return response

    def _push(self, request: httpx.Request) -> httpx.Response:
        # The dictionary is taken before the request. If the answer is lost, the endpoint may or may not have stored
        # the push, so its dictionary is unknown, and the next attempt is sent without one.
        body, known = request.read(), self._dictionary.take()
        if known:
            response = self._send(request, dictionary.pack(body, known, LEVEL), dictionary.ENCODING)
            if _accepted(response):
                self._dictionary.keep(known, body)
                return response
            if response.status_code == TOO_LARGE or is_transient(response.status_code):
                return response
            # The endpoint has another dictionary, or a proxy does not know the encoding: send it without one.
        response = self._send(request, zstd.compress(body, LEVEL), "zstd")
        if _accepted(response):
            self._dictionary.keep(b"", body)
        return response

    def _send(self, request: httpx.Request, body: bytes, encoding: str) -> httpx.Response:
        headers = request.headers.copy()
        headers["Content-Encoding"] = encoding
        headers["Content-Length"] = str(len(body))
        # `content` instead of `stream` would make the headers once more, which the request has already.
        stream = httpx.ByteStream(body)
        return self._transport.handle_request(
            httpx.Request(request.method, request.url, headers=headers, stream=stream, extensions=request.extensions)
        )

    def _note_features(self, response: httpx.Response) -> None:
        if not _accepted(response):
            return
        try:
            about = json_decoder(_Features).decode(content_of(response))
        except UNREADABLE:
            return
        self._dictionary.offer(about.features)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def _accepted(response: httpx.Response) -> bool:
    return response.status_code == 200 and is_json(response)
