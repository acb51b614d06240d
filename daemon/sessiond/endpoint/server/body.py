"""Request bodies: read and decoded up to a limit, so that no byte beyond it is ever in memory."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
from starlette.requests import Request

from sessiond import zstd
from sessiond.decoding import json_decoder
from sessiond.endpoint.server import problems
from sessiond.endpoint.server.problems import HttpError

ENCODINGS = ("zstd", "gzip", "identity")
SECONDS = 120
"""For a whole body. A slower sender would hold memory for too long."""
STALL = 30
"""Seconds for the next part of a body."""
BUFFERED = 128 << 20
"""Bytes of all bodies that are being received or wait for a thread."""
NO_LIMIT = 1 << 62  # the zstd decoder needs no limit: `decode` counts the bytes
Decoded = TypeVar("Decoded")
MAX_MEMBERS = 256
"""Members of a gzip body. An empty one costs the sender 20 bytes and the endpoint a new decoder."""


def check_kind(request: Request, kinds: frozenset[str], *more: str) -> str:
    """Return the content encoding of a body whose media type is one of `kinds`: one of ENCODINGS or `more`.

    Raises:
        HttpError: 415, another media type or encoding.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind and kind not in kinds:
        raise HttpError(415, "unsupported-media-type", f"the body is {kind}, not {' or '.join(sorted(kinds))}")
    encoding = request.headers.get("content-encoding", "identity").strip().lower() or "identity"
    if encoding not in ENCODINGS and encoding not in more:
        raise HttpError(
            415,
            "unsupported-encoding",
            f"the body is encoded as {encoding[:40]}, not {', '.join(ENCODINGS)}",
            headers={"Accept-Encoding": ", ".join(ENCODINGS)},
        )
    return encoding


class _Incoming:
    """A body that is being received, or that waits for a thread once it is `complete`."""

    def __init__(self, client: str, timeout: asyncio.Timeout) -> None:
        self.client = client
        self.size = 0
        self.complete = self.dropped = False
        self.timeout = timeout


class Bodies:
    """Holds the bodies of all requests until they are answered, up to `capacity` bytes.

    Use it from one event loop only.
    """

    def __init__(self, capacity: int = BUFFERED, *, seconds: float = SECONDS, stall: float = STALL) -> None:
        self.capacity, self.seconds, self.stall = capacity, seconds, stall
        self._size = 0
        self._incoming: dict[_Incoming, None] = {}

    @asynccontextmanager
    async def read(self, request: Request, limit: int, client: str) -> AsyncIterator[bytes]:
        """Read a body without decoding it. Its memory counts until the context ends. `client` identifies the sender.

        Raises:
            HttpError: 413 beyond `limit` bytes, before more of it is read; 408 if it takes too long; 400 if it ends
                early; 503 if other bodies need the memory.
        """
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
            raise _too_large(f"a body may have {limit} bytes as sent")
        incoming = _Incoming(client, asyncio.timeout(min(self.seconds, self.stall)))
        self._incoming[incoming] = None
        try:
            body = await self._receive(request, limit, incoming)
            incoming.complete = True
            yield body
        finally:
            del self._incoming[incoming]
            self._size -= incoming.size

    async def _receive(self, request: Request, limit: int, incoming: _Incoming) -> bytes:
        body = bytearray()
        now = asyncio.get_running_loop().time
        end = now() + self.seconds
        try:
            async with incoming.timeout as timeout:
                while True:
                    message = await request.receive()
                    if incoming.dropped:
                        break
                    if message["type"] == "http.disconnect":
                        # The client reads no answer. The error only keeps this from being logged as a failure.
                        raise HttpError(400, "malformed", "the body ended early")
                    part = message.get("body", b"")
                    if len(body) + len(part) > limit:
                        raise _too_large(f"a body may have {limit} bytes as sent")
                    self._reserve(incoming, len(part))
                    body += part
                    if not message.get("more_body"):
                        break
                    timeout.reschedule(min(end, now() + self.stall))
        except TimeoutError as error:
            if not incoming.dropped:
                detail = f"a body may take {self.seconds:g} seconds, and {self.stall:g} for each part of it"
                raise HttpError(408, "too-slow", detail) from error
        if incoming.dropped:
            raise HttpError(503, "busy", "too many other requests are being received", headers=problems.soon())
        return bytes(body)

    def _reserve(self, incoming: _Incoming, size: int) -> None:
        while self._size + size > self.capacity:
            self._drop(incoming)
        incoming.size += size
        self._size += size

    def _drop(self, incoming: _Incoming) -> None:
        """Drop the oldest incomplete body of the client whose bodies take the most memory.

        A complete body is never dropped: its client has sent everything and waits for the answer.
        """
        sizes: Counter[str] = Counter()
        for each in self._incoming:
            sizes[each.client] += each.size
        candidates = [each for each in self._incoming if not each.complete and not each.dropped and each.size]
        victim = max(candidates, key=lambda each: sizes[each.client], default=incoming)
        if victim is incoming:
            raise HttpError(503, "busy", "too many requests are waiting", headers=problems.soon())
        victim.dropped = True
        self._size -= victim.size
        victim.size = 0
        if not victim.timeout.expired():
            victim.timeout.reschedule(0)


def decode(body: bytes, encoding: str, limit: int, dictionary: bytes = b"") -> Iterator[bytes]:
    """Iterate over the decoded parts of a body. `dictionary`: the one with which zstd frames were compressed.

    Raises:
        HttpError: 413 as soon as more than `limit` bytes are decoded; 400 if the body is not encoded as stated.
    """
    if not body:
        return
    total = 0
    if encoding == "zstd":
        parts = zstd.decompress_stream((body,), NO_LIMIT, dictionary)
    else:
        parts = _gunzip(body) if encoding == "gzip" else iter((body,))
    try:
        for part in parts:
            total += len(part)
            if total > limit:
                raise _too_large(f"a body may have {limit} bytes when decoded")
            yield part
    except (zstd.Undecodable, zlib.error) as error:
        raise HttpError(400, "malformed", f"the body is not {encoding}: {error}") from error


def decode_json(kind: type[Decoded], body: bytes, encoding: str, limit: int) -> Decoded:
    """Return a JSON body as an object of this kind.

    Raises:
        HttpError: as `decode`; 400, it is not such an object.
    """
    try:
        return json_decoder(kind).decode(b"".join(decode(body, encoding, limit)))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise HttpError(400, "invalid", f"the request is not valid: {error}") from error


def split_lines(parts: Iterable[bytes], limit: int) -> list[bytes]:
    """Return the lines of a body without their line breaks. Nothing after the last line break is not a line.

    Raises:
        HttpError: 413 as soon as there are more than `limit` lines.
    """
    found: list[bytes] = []
    unfinished: list[bytes] = []
    for part in parts:
        head, *others = part.split(b"\n")
        unfinished.append(head)
        for each in others:
            found.append(b"".join(unfinished))
            unfinished = [each]
        if len(found) > limit:
            break
    last = b"".join(unfinished)
    if last:
        found.append(last)
    if len(found) > limit:
        raise _too_large(f"a push may have {limit} lines")
    return found


def _too_large(detail: str) -> HttpError:
    return HttpError(413, "too-large", detail)


def _gunzip(body: bytes) -> Iterator[bytes]:
    members = 1
    member = zlib.decompressobj(31)
    for start in range(0, len(body), zstd.SLICE):
        rest = body[start : start + zstd.SLICE]
        while rest:
            if member.eof:
                member, members = zlib.decompressobj(31), members + 1
                if members > MAX_MEMBERS:
                    raise HttpError(400, "malformed", f"more than {MAX_MEMBERS} gzip members in a row")
            yield member.decompress(rest, zstd.SLICE)
            rest = member.unused_data if member.eof else member.unconsumed_tail
    while not member.eof:
        part = member.decompress(member.unconsumed_tail, zstd.SLICE)
        if not part:
            raise HttpError(400, "malformed", "the gzip data ends in the middle of a member")
        yield part
