"""Reads an HTTP/1.1 answer from a connection (RFC 9112). Whatever the other side sends, little of it is in memory.

The standard library's http.client takes headers that were cut off for all of them, so a lost connection would look like
an endpoint that answers something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BufferedReader

from sessiond.memory import hide_modules

with hide_modules("httpx._main"):
    import httpx

PART = 64 << 10
"""Most bytes of a body that are read at once."""
MAX_LINE, MAX_LINES = 64 << 10, 100
"""Limits of a head: bytes of a line, and headers."""
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: .*)?", re.DOTALL)
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)
_LENGTH = re.compile(rb"[0-9]{1,15}")

Headers = list[tuple[bytes, bytes]]


class Head:
    """The status and the headers of an answer, and what they say about its body."""

    def __init__(self, minor: int, status: int, headers: Headers) -> None:
        """`minor` is the 1 of HTTP/1.1. Raises: httpx.RemoteProtocolError, the length of the body is not known."""
        self.status, self.headers = status, headers
        self.chunked = False
        self.length = self._read_length()
        """`length` is the number of bytes; None for chunks, and for a body that ends with the connection."""
        ends = self.length is None and not self.chunked
        closes = any(token.strip().lower() == b"close" for token in b",".join(self._all(b"connection")).split(b","))
        self.keeps_connection = minor == 1 and not ends and not closes

    def _read_length(self) -> int | None:
        if self.status < 200 or self.status in (204, 304):
            return 0
        if codings := self._all(b"transfer-encoding"):
            if [coding.strip().lower() for coding in codings] != [b"chunked"]:
                raise httpx.RemoteProtocolError("the answer has an unknown transfer encoding")
            self.chunked = True
            return None
        lengths = {length.strip() for value in self._all(b"content-length") for length in value.split(b",")}
        if len(lengths) > 1 or not all(_LENGTH.fullmatch(length) for length in lengths):
            raise httpx.RemoteProtocolError("the answer has an invalid Content-Length")
        return int(lengths.pop()) if lengths else None

    def _all(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.headers if known.lower() == name]


def read_head(file: BufferedReader) -> Head:
    """Read the head of an answer, and skip informational answers before it.

    Raises:
        httpx.ReadError: the connection was closed before the answer.
        httpx.RemoteProtocolError: it is no HTTP answer, or only a part of one.
    """
    while True:
        line = file.readline(MAX_LINE)
        if not line:
            raise httpx.ReadError("the connection was closed without an answer")
        found = _STATUS.fullmatch(_whole(line))
        if found is None:
            raise httpx.RemoteProtocolError("it is not an answer of HTTP/1.1")
        head = Head(int(found[1]), int(found[2]), _read_headers(file))
        if head.status >= 200 or head.status == 101:
            return head


def read_body(file: BufferedReader, head: Head) -> Iterator[bytes]:
    """Iterate over the parts of a body. Raises: httpx.RemoteProtocolError, it is cut off or malformed."""
    if head.chunked:
        yield from _read_chunks(file)
    elif head.length is not None:
        yield from _read_bytes(file, head.length)
    else:
        while part := file.read1(PART):
            yield part


def _read_chunks(file: BufferedReader) -> Iterator[bytes]:
    while True:
        found = _SIZE.fullmatch(_whole(file.readline(MAX_LINE)))
        if found is None:
            raise httpx.RemoteProtocolError("the answer has an invalid chunk")
        size = int(found[1], 16)
        if size == 0:
            _read_headers(file)  # the trailer
            return
        yield from _read_bytes(file, size)
        if _whole(file.readline(MAX_LINE)):
            raise httpx.RemoteProtocolError("the answer has a chunk that is longer than its size")


def _read_bytes(file: BufferedReader, left: int) -> Iterator[bytes]:
    while left:
        part = file.read1(min(left, PART))
        if not part:
            raise httpx.RemoteProtocolError(f"the answer ended {left} bytes early")
        left -= len(part)
        yield part


def _read_headers(file: BufferedReader) -> Headers:
    headers: Headers = []
    while line := _whole(file.readline(MAX_LINE)):
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name) or len(headers) == MAX_LINES:
            raise httpx.RemoteProtocolError("the answer has an invalid header, or too many")
        headers.append((name, value.strip(b" \t")))
    return headers


def _whole(line: bytes) -> bytes:
    """Return a line without its end. Raises: httpx.RemoteProtocolError, it is cut off or too long."""
    if not line.endswith(b"\n"):
        raise httpx.RemoteProtocolError("the answer ended early, or has a line that is too long")
    return line[:-2] if line.endswith(b"\r\n") else line[:-1]
