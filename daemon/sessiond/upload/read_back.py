"""Compares streams that count as safe with the endpoint's copies, a part each day: by digest, or by reading the bytes.

Equal lengths don't show that bytes are equal. Equal digests show that the endpoint stored what was pushed, and cost it
a fraction of sending the bytes. They show neither that its disk still has these bytes, nor that the endpoint is honest.
So each round also reads the bytes of some streams, and those of every stream whose digest is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from uuid import UUID

import msgspec

from sessiond.endpoint import wire
from sessiond.endpoint.stream_digest import StreamDigest
from sessiond.errors import EndpointError, Forbidden, NotFound
from sessiond.reader import Extent
from sessiond.spool import Spool
from sessiond.spool.confirmation import Confirmations, Unconfirmed
from sessiond.spool.pushed_digests import PushedDigests
from sessiond.spool.sizes import SIZES, read_sizes
from sessiond.spool.verification import Claim, Claims
from sessiond.upload.compare_digests import Stated, compare_digests
from sessiond.upload.confirm import ATTEMPTS, count_equal
from sessiond.upload.context import UploadContext

CURSOR = "verification.cursor"
"""Meta key: the stream that was compared last, the offset up to which it was (0: its end), and the round's number."""
DAYS = 30
"""Days in which everything is read once if no digest is known, unless a bound of a day's part applies."""
LEAST, MOST = 16 << 20, 256 << 20
"""Bytes of a day's part: at least, and at most."""
REQUEST = 16 << 10
"""Bytes that a stream counts for at least, because it takes a request: a thousand a day for the smallest ones."""
ROUNDS = 8
"""Rounds in one of which a stream is read although its digest is known."""
DIGEST = 1 << 10
"""The least number of bytes that a stream counts for if only its digest is compared. Longer ones count for an eighth of
their length, which is about what computing the digest costs an endpoint."""
GROUP = 100
"""Streams whose digests are asked for together."""


class ReadBack(msgspec.Struct, kw_only=True):
    """The result: bytes that were read, and streams of which the endpoint has other bytes."""

    read_bytes: int = 0
    by_digest: int = 0
    """Streams of which only the digests were compared, and are equal."""
    different: int = 0


class _Place(msgspec.Struct, frozen=True):
    """How far a round has come."""

    stream: int = 0
    offset: int = 0
    round: int = 0

    def is_read(self, stream: int) -> bool:
        """Return whether it is a stream's turn to be read in this round."""
        return (stream + self.round) % ROUNDS == 0


def part_of_day(spool: Spool) -> int:
    """Return how many bytes are read a day, if no digest is known."""
    sizes = read_sizes(spool.meta(SIZES))
    captured = 0 if sizes is None else sum(sizes.tools.values())
    return min(max(captured // DAYS, LEAST), MOST)


def read_back(context: UploadContext, budget: int) -> Iterator[ReadBack]:
    """Compare the next part; yield after each request the result so far. A round ends with the last stream.

    `budget`: about the bytes that are read. A stream that differs is not called safe any more: the tool's file is
    pushed again as a new generation. Without the file, what differs counts as lost. A token that only pushes can't read
    anything, so only digests are compared.

    Raises: EndpointError.
    """
    spool, digests, readable = context.spool, _Digests(context), True
    result, place, left = ReadBack(), _load(context.spool), budget
    try:
        while left > 0:
            part = _next_part(spool, place, left)
            if part is None:
                place = _Place(round=place.round + 1)
                break
            if digests.must_ask(part):
                digests.ask(part.stream)
                yield result
            equal, end = digests.compare(part), part.start
            if equal is None or (equal and readable and place.is_read(part.stream)):
                try:
                    for end in _compare(context, part) if readable else ():  # noqa: B007 - the last one counts
                        yield result
                    equal = end >= part.end or not readable
                except Forbidden:
                    equal, readable = True, False
                left -= max(end - part.start, REQUEST)
            else:
                left -= max(part.claim.acked // ROUNDS, DIGEST)
                result.by_digest += equal
            result.read_bytes += end - part.start
            if not equal:
                result.different += 1
                distrust(spool, part.claim)
            place = _Place(*part.next, place.round) if end > part.start else _Place(part.stream, 0, place.round)
    except EndpointError:
        _save(spool, place)
        raise
    _save(spool, place)
    yield result


class _Digests:
    """The endpoint's digests of the next streams, where ours are known."""

    def __init__(self, context: UploadContext) -> None:
        self._context = context
        self._stated = Stated()
        self._last = 0
        """The last stream that was asked about."""

    def must_ask(self, part: _Part) -> bool:
        return part.start == 0 and part.stream > self._last

    def ask(self, stream: int) -> None:
        """Ask for those of the next streams, from this one on. Raises: EndpointError."""
        spool = self._context.spool
        claims, pushed = Claims(spool.connection), PushedDigests(spool.connection)
        asked, self._last = list[Claim](), stream - 1
        with spool.reading():
            for _ in range(GROUP):
                claim = claims.next_stream(self._last)
                if claim is None or claim.stream is None:
                    break
                self._last = claim.stream
                if pushed.digest(claim.stream, *claim.position) is not None:
                    asked.append(claim)
        self._stated = Stated()
        for stated in compare_digests(spool, self._context.reader, self._context.machine_id, asked):
            self._stated = stated

    def compare(self, part: _Part) -> bool | None:
        """Return whether the two digests of a stream are equal; None if they do not answer that."""
        asked = self._stated.positions.get(part.stream)
        if part.start > 0 or asked is None or asked[0] != part.claim:
            return None
        if part.stream in self._stated.equal:
            return True
        return False if part.claim in self._stated.different else None


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of a stream that are compared in one go."""

    claim: Claim
    stream: int
    start: int
    extents: list[Extent]
    """Those from `start` on that the endpoint acknowledged, up to the budget."""

    @property
    def end(self) -> int:
        """The offset after the last extent."""
        return self.extents[-1].end if self.extents else self.start

    @property
    def next(self) -> tuple[int, int]:
        """The position after it."""
        return self.stream, 0 if self.end >= self.claim.acked or not self.extents else self.end


def _next_part(spool: Spool, place: _Place, budget: int) -> _Part | None:
    """Return the part after a place: the rest of its stream, or the next stream. None: it was the last one."""
    number, offset = place.stream, place.offset
    confirmations = Confirmations(spool.connection)
    with spool.reading():
        claim = Claims(spool.connection).next_stream(number - 1 if offset else number)
        if claim is None or claim.stream is None:
            return None
        start = offset if claim.stream == number else 0
        extents = confirmations.queued(claim.stream, start, uncertain=True)
        if start and (not extents or extents[0].start != start):  # it was rewritten since
            start, extents = 0, confirmations.queued(claim.stream, uncertain=True)
    chosen, end = list[Extent](), start
    for extent in extents:
        # A stream whose extents are not all known, or not acknowledged, can't be compared to its end.
        if extent.start != end or extent.end > claim.acked or end - start >= budget:
            break
        chosen.append(extent)
        end = extent.end
    return _Part(claim=claim, stream=claim.stream, start=start, extents=chosen)


def _compare(context: UploadContext, part: _Part) -> Iterator[int]:
    """Read a part; yield after each request the offset up to which it is equal. The last one is the result."""
    claim, most = part.claim, part.start
    client, machine_id = context.reader, context.machine_id
    session = UUID(claim.session)
    stored = Unconfirmed(
        stream=part.stream, session=session, name=claim.name, generation=claim.generation, length=part.end
    )
    for _ in range(ATTEMPTS if part.extents else 0):
        running = StreamDigest()
        with suppress(NotFound):
            digest = partial(_feed, running, context.digest)
            for equal in count_equal(client, machine_id, stored, part.extents, digest, part.start):
                most = max(most, equal)
                yield most
        if most >= part.end:
            _learn(context.spool, part, running)
            return
        # As in `confirm`: what answers with a page to everything is no endpoint, and it fails here.
        client.offsets(machine_id, [wire.StreamKey(session=session, stream=claim.name)])
    yield most


def _feed(running: StreamDigest, digest: Callable[..., bytes], data: bytes) -> bytes:
    running.update(data)
    return digest(data)


def _learn(spool: Spool, part: _Part, read: StreamDigest) -> None:
    """Store the digest of a stream that was read as a whole and is what was queued, if none of it is known."""
    claim, digests = part.claim, PushedDigests(spool.connection)
    if part.start or read.length != claim.acked:
        return
    with spool.reading():
        known = digests.digest(part.stream, *claim.position)
    if known == read.hexdigest():
        return
    with spool.transaction():
        if Claims(spool.connection).stands(claim):
            digests.learn(part.stream, claim.generation, read)


def distrust(spool: Spool, claim: Claim) -> None:
    """Store that the endpoint's bytes of a stream differ, so that the next read of the tool's file pushes it again.

    The endpoint is not asked for its digest, which it may have computed before its bytes changed. The position is
    stored without a digest, so no file equals it. If the file is gone, the bytes are compared once more.
    """
    assert claim.stream is not None
    position = wire.RemotePosition(
        session=UUID(claim.session), stream=claim.name, generation=claim.generation, length=claim.acked, sha256=None
    )
    with spool.transaction():
        if Claims(spool.connection).distrust(claim):
            PushedDigests(spool.connection).drop(claim.stream)
            spool.catalog.set_remote_position(claim.stream, position)


def _load(spool: Spool) -> _Place:
    stored = [int(each) for each in (spool.meta(CURSOR) or "").split()]
    return _Place(*stored) if len(stored) <= 3 else _Place()


def _save(spool: Spool, place: _Place) -> None:
    spool.set_meta(CURSOR, f"{place.stream} {place.offset} {place.round}")
