"""Reads what is called safe from the endpoint, a part each day, and compares it with the digests of what was queued.

A list of lengths does not show that bytes are still what they were. Only the bytes show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from uuid import UUID

import msgspec

from sessiond.endpoint import wire
from sessiond.errors import EndpointError, NotFound, Refused
from sessiond.reader import Extent
from sessiond.spool import Spool
from sessiond.spool.confirmation import Confirmations, Unconfirmed
from sessiond.spool.sizes import SIZES, read_sizes
from sessiond.spool.verification import Claim, Claims
from sessiond.upload.confirm import ATTEMPTS, count_equal
from sessiond.upload.context import UploadContext

CURSOR = "verification.cursor"
"""Meta key: the stream and the offset up to which bytes were read, of the current round."""
DAYS = 30
"""Days in which everything is read once, if neither bound of a day's part applies."""
LEAST, MOST = 16 << 20, 256 << 20
"""Bytes that are read a day: at least, and at most."""
REQUEST = 16 << 10
"""Bytes that a stream counts for at least, because it takes a request: a thousand a day for the smallest ones."""


class ReadBack(msgspec.Struct, kw_only=True):
    """The result: bytes that were read, and streams of which the endpoint has other bytes."""

    read_bytes: int = 0
    different: int = 0


def part_of_day(spool: Spool) -> int:
    """Return how many bytes are read a day."""
    sizes = read_sizes(spool.meta(SIZES))
    captured = 0 if sizes is None else sum(sizes.tools.values())
    return min(max(captured // DAYS, LEAST), MOST)


def read_back(context: UploadContext, budget: int) -> Iterator[ReadBack]:
    """Compare the next `budget` bytes; yield after each request the result so far. A round ends with the last stream.

    A stream that differs is not called safe any more: the tool's file is pushed again as a new generation. Without the
    file, what differs counts as lost. A token that only pushes can't read anything, so nothing is compared.

    Raises: EndpointError.
    """
    spool = context.spool
    result, at, left = ReadBack(), _cursor(spool), budget
    try:
        while left > 0:
            part = _next_part(spool, at, left)
            if part is None:
                at = 0, 0
                break
            end = part.start
            for end in _compare(context, part):  # noqa: B007 - the last one counts
                yield result
            result.read_bytes += end - part.start
            left -= max(end - part.start, REQUEST)
            if end < part.end:
                result.different += 1
                distrust(spool, part.claim)
            at = part.next
    except Refused:
        return
    except EndpointError:
        _save_cursor(spool, at)
        raise
    _save_cursor(spool, at)
    yield result


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


def _next_part(spool: Spool, at: tuple[int, int], budget: int) -> _Part | None:
    """Return what comes after a position: a stream that was read completely, or one and the offset in it."""
    number, offset = at
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
    """Read a part; yield after each request up to where it is equal, the last time finally."""
    claim, most = part.claim, part.start
    client, machine_id, digest = context.reader, context.machine_id, context.digest
    session = UUID(claim.session)
    stored = Unconfirmed(
        stream=part.stream, session=session, name=claim.name, generation=claim.generation, length=part.end
    )
    for _ in range(ATTEMPTS if part.extents else 0):
        with suppress(NotFound):
            for equal in count_equal(client, machine_id, stored, part.extents, digest, part.start):
                most = max(most, equal)
                yield most
        if most >= part.end:
            return
        # As in `confirm`: what answers with a page to everything is no endpoint, and it fails here.
        client.offsets(machine_id, [wire.StreamKey(session=session, stream=claim.name)])
    yield most


def distrust(spool: Spool, claim: Claim) -> None:
    """Store that the endpoint has other bytes of a stream, so that the next read of its file pushes it again.

    The endpoint's digest is not asked for: it may be stored there beside bytes that it does not fit any more. Without
    one, whatever the file has is different. If the file is gone, the bytes are compared once more.
    """
    assert claim.stream is not None
    position = wire.RemotePosition(
        session=UUID(claim.session), stream=claim.name, generation=claim.generation, length=claim.acked, sha256=None
    )
    with spool.transaction():
        if Claims(spool.connection).distrust(claim):
            spool.catalog.set_remote_position(claim.stream, position)


def _cursor(spool: Spool) -> tuple[int, int]:
    stored = (spool.meta(CURSOR) or "").split()
    return (int(stored[0]), int(stored[1])) if len(stored) == 2 else (0, 0)


def _save_cursor(spool: Spool, at: tuple[int, int]) -> None:
    spool.set_meta(CURSOR, f"{at[0]} {at[1]}")
