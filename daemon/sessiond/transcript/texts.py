"""Long texts of items, kept outside of memory: a session may have gigabytes of them, and is shown item by item."""

from __future__ import annotations

import os
from typing import IO, NamedTuple

LONG = 256
"""Characters from which on a text is kept here instead of in its item."""
IN_MEMORY = 4 << 20
"""Bytes of all texts above which they are written to an unnamed file."""


class Span(NamedTuple):
    """A text that was put here."""

    offset: int
    length: int


class Texts:
    """Keeps texts in memory, and in an unnamed file once they are many. Both go with the object."""

    def __init__(self, directory: str | None = None, *, in_memory: int = IN_MEMORY) -> None:
        """`directory` is where the file is created; None: where temporary files are."""
        self._directory, self._in_memory = directory, in_memory
        self._buffer = bytearray()
        self._file: IO[bytes] | None = None
        self._written = 0

    def put(self, content: bytes) -> Span:
        """Keep a text. Raises: OSError, for example if the disk is full."""
        span = Span(self._written + len(self._buffer), len(content))
        self._buffer += content
        if len(self._buffer) > self._in_memory:
            self._write()
        return span

    def get(self, span: Span) -> bytes:
        """Return a text. Raises: OSError."""
        if span.offset >= self._written:
            start = span.offset - self._written
            return bytes(self._buffer[start : start + span.length])
        assert self._file is not None
        return os.pread(self._file.fileno(), span.length, span.offset)

    def put_text(self, text: str) -> Span:
        """Keep a text. Raises: OSError."""
        return self.put(text.encode("utf-8", "surrogatepass"))

    def get_text(self, span: Span) -> str:
        """Return a text. Raises: OSError."""
        return self.get(span).decode("utf-8", "surrogatepass")

    def __del__(self) -> None:
        """Close the file, which frees it."""
        if self._file is not None:
            self._file.close()

    def _write(self) -> None:
        if self._file is None:
            from tempfile import TemporaryFile  # late: few sessions need it

            self._file = TemporaryFile(dir=self._directory)  # noqa: SIM115 - closed with the object
        self._file.seek(self._written)
        self._file.write(self._buffer)
        self._file.flush()
        self._written += len(self._buffer)
        self._buffer = bytearray()
