"""The client that also reads: the bytes of streams, as the endpoint holds them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from urllib.parse import quote

from sessiond.endpoint.client import Client
from sessiond.errors import NotFound
from sessiond.lean import without

with without("httpx._main"):
    import httpx

PIECE = 2 << 20
"""Bytes of a stream that one request asks for; less than the client takes as an answer."""


class ReadingClient(Client):
    """A client for commands that show what the endpoint holds."""

    def stream(self, machine_id: str, session: uuid.UUID, name: str) -> Iterator[bytes]:
        """Yield the bytes of the current generation of a stream, piece by piece.

        Raises: NotFound where the endpoint has none of it, EndpointError.
        """
        path = httpx.URL(f"{self.url}/v1/sessions/{quote(machine_id)}/{session}/streams/{quote(name)}")
        at, whole = 0, False
        while not whole:
            deadline = time.monotonic() + self._timeout
            span = {"Range": f"bytes={at}-{at + PIECE - 1}"}
            try:
                response, content = self._exchange("GET", path, span, None, deadline)
            except httpx.TransportError as error:
                raise self._translate(error) from error
            if response.status_code == 404:
                raise NotFound(f"{self.url} has no stream {name} of session {session}")
            if response.status_code == 416 and at:
                return
            if response.status_code != 206:
                self._raise_for_status(response, content)
            whole = response.status_code == 200 or len(content) < PIECE
            at += len(content)
            yield content
