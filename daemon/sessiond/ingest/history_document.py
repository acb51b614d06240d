"""Reads a history of prompts that is a JSON document, which its tool rewrites with each prompt."""

from __future__ import annotations

import os
from functools import cached_property
from itertools import chain
from typing import cast

from sessiond.errors import ReadError, Torn
from sessiond.ingest.content import Lines, Records
from sessiond.ingest.files import STALE_MS
from sessiond.ingest.location import Location
from sessiond.reader import PROBE, Checkpoint, Digest, read_document
from sessiond.sources.base import DocumentSource
from sessiond.sources.damaged import DAMAGED, to_utf8


class DocumentLines(Records):
    """The lines that a document is projected to. Offsets are in these lines, and not in the file."""

    @cached_property
    def _bytes(self) -> bytes:
        return b"".join(self._records)

    def grew(self, checkpoint: Checkpoint, now: os.stat_result) -> bool:
        """Return whether lines were only added since the checkpoint, judged by the first and the last ones before it.

        The tool rewrites its file, so the inode and the times say nothing.
        """
        return self.size >= checkpoint.offset and self.probe(checkpoint.offset) == checkpoint.probe

    def probe(self, offset: int) -> bytes:
        """Return a hash of the lines before `offset`: of the first and the last bytes."""
        front = self._bytes[: min(offset, PROBE)]
        return self._digest(front + self._bytes[max(offset - PROBE, 0) : offset])


def open_history(location: Location, descriptor: int, digest: Digest, now_ms: int) -> Lines | DocumentLines:
    """Return the lines of a history.

    Raises: Torn for a document in the middle of a rewrite, ReadError for a damaged one.
    """
    if not location.unit.projected:
        return Lines(descriptor, digest)
    source = cast(DocumentSource, location.source)
    try:
        found = source.project({location.name: to_utf8(read_document(descriptor))}, location.unit)
        return DocumentLines(chain.from_iterable(each.records for each in found), digest)
    except DAMAGED as error:
        # Later, no rewrite can be under way: what can't be parsed then is damaged.
        settled = now_ms - os.fstat(descriptor).st_mtime_ns // 1_000_000 > STALE_MS
        raise (ReadError if settled else Torn)(f"it can't be parsed: {error}") from error
