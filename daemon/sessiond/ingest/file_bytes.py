"""The content of a side file: all of its bytes, captured in pieces and never decoded.

The pieces are masked like those of one long record, so a secret is found wherever it is cut (masked.py). Two things
differ from a file of lines. A piece may end anywhere, not only after a newline. And the last piece is masked without
the bytes that follow it once the file grows. Then its end is masked again and compared; see `masked_prefix`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from sessiond.ingest.content import Lines, SearchResult
from sessiond.ingest.context import ReadContext
from sessiond.ingest.line_reader import CONTEXT
from sessiond.reader import CHUNK, Checkpoint, Chunk, Digest, Extent, pread
from sessiond.redact.policy import Masked
from sessiond.sources.base import Kind

Mask = Callable[[Chunk], Masked]


class FileBytes(Lines):
    """The bytes of a side file."""

    raw = True

    def __init__(self, descriptor: int, digest: Digest, *, settled: bool = True, largest: int | None = None) -> None:
        """Unless the file is `settled`, its last line is left for later: it may be half of one, with half a secret.

        Bytes after the first `largest` are ignored.
        """
        super().__init__(descriptor, digest)
        self.largest = largest
        self.truncated = largest is not None and self.size > largest
        """Whether the file has more bytes than are captured."""
        self._held_back = 0 if settled or self.truncated else self._unfinished_end()
        self.size = min(self.size, largest or self.size) - self._held_back

    def _unfinished_end(self) -> int:
        end = pread(self._descriptor, min(CONTEXT, self.size), max(0, self.size - CONTEXT))
        return len(end) - (end.rfind(b"\n") + 1)

    @property
    def search(self) -> SearchResult:
        """Whether the end of the file is left for later."""
        return SearchResult(later=self._held_back > 0)

    def chunks(self, offset: int) -> Iterator[Chunk]:
        """Iterate over the bytes from `offset` on, in pieces of CHUNK bytes."""
        while offset < self.size:
            begin, end = max(0, offset - CONTEXT), min(self.size, offset + CHUNK)
            # In one read, so that the piece and its context are of the same moment.
            window = pread(self._descriptor, min(self.size, end + CONTEXT) - begin, begin)
            data, last = window[offset - begin : end - begin], end == self.size
            self._read_bytes.add(offset, data)
            yield Chunk(
                offset=offset,
                data=data,
                piece=True,
                last=last,
                before=window[: offset - begin],
                after=window[end - begin :],
                record=b"" if last else None,
            )
            offset = end

    def records(self, offset: int, end: int | None = None, until: int | None = None) -> Iterator[Chunk]:
        """Iterate over nothing: nothing in a side file is decoded."""
        return iter(())

    def following(self, offset: int) -> bytes:
        """Return the bytes after a piece."""
        return pread(self._descriptor, max(0, min(CONTEXT, self.size - offset)), offset)

    def unchanged_prefix(self, extents: Sequence[Extent]) -> int:
        """Return how many bytes are unchanged, up to the end of an extent."""
        matched, ends = 0, [0]
        for extent in extents:
            data = self.slice(extent)
            if data is None:
                # What is masked in the last bytes before a change depends on the bytes after them.
                return max(end for end in ends if end <= max(0, matched - CONTEXT))
            self._read_bytes.add(extent.start, data)
            matched = extent.end
            ends.append(matched)
        return matched

    def masked_prefix(self, checkpoint: Checkpoint | None, end: int, extents: Sequence[Extent], mask: Mask) -> int:
        """Return how many of the first `end` bytes, all of them captured, are masked today as they were then.

        That is `end`, unless bytes that were added since then complete a secret. Then it is the start of an extent at
        least CONTEXT bytes before `end`.
        """
        size = 0 if checkpoint is None or checkpoint.offset != end else max(checkpoint.size, ~checkpoint.size)
        if end in (0, self.size) or size > end + CONTEXT:
            return end  # nothing was added, or the pieces before `end` were masked with what follows
        first = max(0, end - CONTEXT)
        begin = max(0, first - CONTEXT)
        window = pread(self._descriptor, min(self.size, end + CONTEXT) - begin, begin)
        before, data, after = window[: first - begin], window[first - begin : end - begin], window[end - begin :]
        then = Chunk(offset=first, data=data, piece=True, before=before)
        now = Chunk(offset=first, data=data, piece=True, before=before, after=after)
        if mask(then).data == mask(now).data:
            return end
        return max([0, *(extent.start for extent in extents if extent.start <= first)])


def open_content(kind: Kind, descriptor: int, context: ReadContext) -> Lines:
    """Return the content of an open file whose stream is the file itself."""
    if kind is Kind.FILE:
        age_ms = context.now_ms - os.fstat(descriptor).st_mtime_ns // 1_000_000
        settled = not 0 <= age_ms < context.settle_ms
        return FileBytes(descriptor, context.digest, settled=settled, largest=context.side_file_max_bytes)
    all_files = context.endings
    endings = None if all_files is None else all_files.of(descriptor, context.digest, context.slice)
    return Lines(descriptor, context.digest, endings)
