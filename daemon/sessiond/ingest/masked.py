"""Masks the chunks of a stream, when they are read first and when they are read again.

A run of whole records is masked by itself. A piece of a long record is masked together with the bytes on both sides of
it in the record. That depends only on the bytes of the file: wherever reading stops and continues, also after a
restart, the same bytes come out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sessiond.ingest.content import Content
from sessiond.ingest.line_reader import CONTEXT
from sessiond.privacy import Masking
from sessiond.reader import Chunk, Extent
from sessiond.redact.policy import Masked


def mask_chunk(masking: Masking, chunk: Chunk, path: str) -> Masked:
    """Mask a chunk. `path` is its file, for redaction rules that depend on it."""
    if not chunk.piece:
        return masking.mask(chunk.data, path)
    return masking.mask_piece(chunk.before, chunk.data, chunk.after, path)


def read_extents(content: Content, extents: Sequence[Extent], start: int = 0) -> Iterator[Chunk]:
    """Iterate over captured extents that end after `start`, as the chunks that they were, until one has changed.

    The first extent must begin a record, or lie at least CONTEXT bytes before `start`.
    """
    before, ahead = b"", None
    for index, extent in enumerate(extents):
        data = content.slice(extent) if ahead is None else ahead
        if data is None:
            return  # rewritten meanwhile; the next scan of the file notices it
        ends, after, ahead = data.endswith(b"\n") and not content.raw, b"", None
        if extent.end > start:
            if not ends and index + 1 < len(extents):
                # Its digest is checked too: masked beside other bytes, a secret that is cut could stay readable here.
                ahead = content.slice(extents[index + 1])
                if ahead is None:
                    return
                after = ahead[:CONTEXT]
            elif not ends:
                after = content.following(extent.end)
            piece = bool(before) or not ends
            yield Chunk(offset=extent.start, data=data, piece=piece, last=ends, before=before, after=after)
        before = b"" if ends else (before + data)[-CONTEXT:]
