"""The stream digests of a push: continued from what the endpoint acknowledged, stored once it acknowledges more.

They are computed from the bytes that are pushed, and not from the tool's file: the rules for masking may have changed.
If the digest of a stream is not known, its append is pushed without one.
"""

from __future__ import annotations

from collections.abc import Iterable

from sessiond.endpoint.stream_digest import StreamDigest
from sessiond.endpoint.wire import RemotePosition
from sessiond.spool import Spool
from sessiond.spool.pushed_digests import PushedDigests
from sessiond.spool.rows import Segment


class PushDigests:
    """The digests of one push after another. `append` or `begin_generation` is called for each segment, in order."""

    def __init__(self, spool: Spool) -> None:
        self._spool, self._stored = spool, PushedDigests(spool.connection)
        self._ends: dict[int, tuple[int, StreamDigest] | None] = {}
        """By stream: the generation, and the digest after the last prepared segment; None: not known."""
        self._after: dict[int, tuple[int, StreamDigest]] = {}
        """The same by segment, where it is known."""

    def begin(self, streams: Iterable[int]) -> None:
        """Begin a push of segments of these streams. What was prepared and not acknowledged is forgotten."""
        self._ends = {stream: self._stored.find(stream) for stream in streams}
        self._after.clear()

    def begin_generation(self, item: Segment) -> None:
        """Continue with a new generation, which has the first `keep` bytes of the previous one."""
        known = self._ends[item.stream_id]
        digest = StreamDigest() if not item.keep else None
        if known is not None and item.keep and (known[0], known[1].length) == (item.previous, item.keep):
            digest = known[1].copy()
        self._set(item, digest)

    def append(self, item: Segment, plain: bytes) -> str | None:
        """Return the digest of the stream after a segment; None if it is not known."""
        known, digest = self._ends[item.stream_id], None
        if item.generation == item.offset == 0:
            digest = StreamDigest()
        elif known is not None and (known[0], known[1].length) == (item.generation, item.offset):
            digest = known[1].copy()
        if digest is not None:
            digest.update(plain)
        self._set(item, digest)
        return None if digest is None else digest.hexdigest()

    def acknowledge(self, item: Segment) -> None:
        """Store the digest after a segment that the endpoint has stored, in the transaction that settles it."""
        after = self._after.get(item.id)
        if after is not None:
            self._stored.put(item.stream_id, *after)

    def store_position(self, stream: int, held: RemotePosition) -> None:
        """Store the endpoint's position in a stream. If it has as many bytes with another digest, trust none of them.

        Runs inside `Spool.transaction`.
        """
        if self._stored.contradicts(stream, held):
            self._spool.catalog.distrust(stream)
        self._spool.catalog.set_remote_position(stream, held)

    def _set(self, item: Segment, digest: StreamDigest | None) -> None:
        self._ends[item.stream_id] = None if digest is None else (item.generation, digest)
        if digest is not None:
            self._after[item.id] = item.generation, digest
