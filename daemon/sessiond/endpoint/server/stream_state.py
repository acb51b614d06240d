"""The streams that a batch of pushes names: what is stored of them, and what the batch adds."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple, Protocol

import msgspec
from msgspec import UNSET

from sessiond.endpoint.server.digests import Checkpoint, feed
from sessiond.endpoint.server.payload import AppendPayload
from sessiond.endpoint.stream_digest import StreamDigest
from sessiond.endpoint.wire import PushAppend, PushGeneration

SessionKey = tuple[str, str, str]
"""A user, a machine id and a session."""
StreamName = tuple[str, str, str, str]
"""A user, a machine id, a session and the name of a stream."""


class NotComparable(Exception):
    """Stored bytes can't be compared in a transaction, because they are in an object."""


class Lookup(Protocol):
    """Reads from the store what few pushes need. It sees the state before the batch."""

    def owner(self, stream: int, generation: int, keep: int) -> int:
        """Return the generation that has the last of the first `keep` bytes of a generation as its own."""

    def same(self, stream: int, generation: int, start: int, data: bytes) -> bool:
        """Return whether a generation has these bytes from `start` on; it has that many. Raises: NotComparable."""

    def digest(self, stream: int, generation: int, length: int) -> StreamDigest | None:
        """Return the stream digest of a generation of this length; None if it would take long to find."""

    def count_streams(self, session: SessionKey, limit: int) -> int:
        """Return the number of streams of a session, up to `limit`."""

    def count_generations(self, stream: int, limit: int) -> int:
        """Return the number of generations of a stream, up to `limit`."""

    def is_whole(self, session: SessionKey) -> bool:
        """Return whether the record of a whole session is stored, and not of its prompts only."""


class OtherBytes(Exception):
    """A generation has other bytes than those that the client computed a digest of."""


class Extended(NamedTuple):
    """The digest of a generation after an append, and the checkpoints on the way; None: not known."""

    digest: StreamDigest | None
    passed: list[Checkpoint]


class Tail(msgspec.Struct, gc=False):
    """Bytes that the batch appends to a generation."""

    start: int
    payload: AppendPayload
    follows_sha256: bool = True
    """Whether its sender needs the SHA-256 of streams, as clients do that know no stream digests."""


class GenerationState(msgspec.Struct):
    """A generation of a stream. `stored` is its length in the store; None: the batch begins it."""

    generation: int
    previous: int | None
    keep: int
    base: int | None
    length: int
    sha256: str | None = None
    stored: int | None = None
    tails: list[Tail] = []
    digest: StreamDigest | None = None
    """The digest up to `length`; None: not known, or not looked up."""
    passed: list[Checkpoint] = []
    """The checkpoints of that digest in the bytes that the batch appended."""

    def ends_with(self, start: int, data: bytes) -> bool:
        """Return whether the bytes that the batch appended are `data` from `start` on, up to the end of `data`."""
        at = max(bisect_right(self.tails, start, key=lambda tail: tail.start) - 1, 0)
        end = start + len(data)
        for tail in self.tails[at:]:
            if tail.start >= end:
                break
            first, last = max(start, tail.start), min(end, tail.start + tail.payload.length)
            if tail.payload.plain()[first - tail.start : last - tail.start] != data[first - start : last - start]:
                return False
        return True


class StreamState(msgspec.Struct):
    """A stream with its current generation and those that the batch names."""

    name: StreamName
    number: int | None = None
    """Its number in the store. The store assigns one when it saves a stream that the batch begins."""
    current: GenerationState | None = None
    generations: dict[int, GenerationState | None] = msgspec.field(default_factory=dict)
    """Generations by their number; None: not stored."""
    media_type: str | None = None
    """The media type that the batch sets; None: it sets none."""

    def begin(self, generation: int, previous: int | None, keep: int, lookup: Lookup) -> GenerationState:
        """Add a generation that shares the first `keep` bytes of `previous`, which must have them."""
        base, digest = None, None if keep else StreamDigest()
        if keep:
            assert previous is not None
            base, digest = self._owner(previous, keep, lookup), self.kept_digest(previous, keep, lookup)
        new = GenerationState(
            generation=generation,
            previous=previous,
            keep=keep,
            base=base,
            length=keep,
            tails=[],
            digest=digest,
            passed=[],
        )
        self.generations[generation] = new
        if self.current is None or self.current.generation < generation:
            self.current = new
        return new

    def extended(
        self, to: GenerationState | None, item: PushAppend, payload: AppendPayload, lookup: Lookup
    ) -> Extended:
        """Return the digest of a generation after an append at its end; `to` None: the append begins generation 0.

        Raises:
            OtherBytes: the client's digest differs.
        """
        digest = None
        if item.after is not UNSET:
            digest = StreamDigest() if to is None else self._digest(to, lookup)
        if digest is None:
            return Extended(None, [])
        digest = digest.copy()
        passed = feed(digest, payload.plain())
        if item.after is not None and digest.hexdigest() != item.after:
            raise OtherBytes
        return Extended(digest, passed)

    def append(self, to: GenerationState, item: PushAppend, payload: AppendPayload, extended: Extended) -> None:
        """Add bytes at the end of a generation."""
        to.tails.append(Tail(to.length, payload, item.after is UNSET))
        to.length += payload.length
        to.sha256, to.digest = None, extended.digest
        to.passed.extend(extended.passed)
        if item.media_type is not None:
            self.media_type = item.media_type

    def kept_digest(self, previous: int, keep: int, lookup: Lookup) -> StreamDigest | None:
        """Return the digest of the first `keep` bytes of a generation; None if it is not known.

        It is known of all bytes, as when a document grew. In the middle, it would have to be computed.
        """
        source = self.generations.get(previous)
        known = None if source is None or source.length != keep else self._digest(source, lookup)
        return None if known is None else known.copy()

    def check_kept(self, source: GenerationState, item: PushGeneration, lookup: Lookup) -> None:
        """Raise OtherBytes if the bytes that a new generation keeps are not those that the client has a digest of."""
        kept = self.kept_digest(source.generation, item.keep, lookup) if isinstance(item.after, str) else None
        if kept is not None and kept.hexdigest() != item.after:
            raise OtherBytes

    def _digest(self, of: GenerationState, lookup: Lookup) -> StreamDigest | None:
        if of.digest is None and not of.tails and of.stored is not None and self.number is not None:
            of.digest = lookup.digest(self.number, of.generation, of.length)
        return of.digest

    def same(self, generation: GenerationState, start: int, data: bytes, lookup: Lookup) -> bool:
        """Return whether a generation has these bytes from `start` on; it has that many.

        Its end may be of this batch, and so may be generations that it shares bytes with.
        """
        at: GenerationState | None = generation
        while data:
            assert at is not None
            own = at.keep if at.stored is None else at.stored
            split = max(min(own - start, len(data)), 0)
            if not at.ends_with(max(start, own), data[split:]):
                return False
            data = data[:split]
            if at.stored is not None:
                assert self.number is not None
                return not data or lookup.same(self.number, at.generation, start, data)
            if data and at.base is not None and at.base not in self.generations:
                assert self.number is not None
                return lookup.same(self.number, at.base, start, data)
            at = None if at.base is None else self.generations[at.base]
        return True

    def _owner(self, generation: int, keep: int, lookup: Lookup) -> int:
        # A generation that shares all of the kept bytes with an older one is skipped: the new one refers to the
        # generation that owns the last of them.
        at = self.generations[generation]
        while at is not None and at.keep >= keep:
            if at.stored is not None:
                assert self.number is not None
                return lookup.owner(self.number, at.generation, keep)
            assert at.base is not None
            if at.base not in self.generations:  # stored, and not named by the batch
                assert self.number is not None
                return lookup.owner(self.number, at.base, keep)
            at = self.generations[at.base]
        assert at is not None
        return at.generation
