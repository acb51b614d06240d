"""Compares digests of acknowledged streams with the digests that the endpoint states now. No byte of a stream is sent.

The endpoint computes a digest from the bytes that it stores, so an equal digest shows that it stored what was pushed.
Only reading the bytes shows that its disk still has them (read_back.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import msgspec

from sessiond.endpoint import wire
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import Unreachable
from sessiond.spool import Spool
from sessiond.spool.pushed_digests import PushedDigests
from sessiond.spool.verification import Claim, Claims

REQUEST_STREAMS = 500
"""Streams in one request."""
REQUEST_BYTES = 128 << 20
"""Bytes of the streams in one request, but at least one stream. An endpoint that has kept no digest reads them all."""
TRIES = 4
"""Requests for the same digests. An endpoint that takes long refuses and goes on computing, so a later one is
answered."""


class Stated(msgspec.Struct, kw_only=True):
    """What the endpoint states of streams that are safe according to the spool."""

    positions: dict[int, tuple[Claim, wire.RemotePosition]] = {}
    """Its positions, by the row of the stream. Without those that can't be decoded."""
    equal: set[int] = msgspec.field(default_factory=set)
    """Rows of the streams of which it states the digest of what was pushed."""
    different: list[Claim] = []
    """Streams of which it has as many bytes, with another digest."""
    lacking: list[Claim] = []
    """Streams of which it has less."""
    ahead: list[Claim] = []
    """Streams of which it has more, or a later generation, although no more was pushed from here."""
    length_only: list[Claim] = []
    """Streams of which no digest is known on one of the two sides, so that only the lengths were compared."""


def compare_digests(
    spool: Spool,
    client: ReadClient,
    machine_id: str,
    claims: Sequence[Claim],
    sleep: Callable[[float], None] | None = None,
) -> Iterator[Stated]:
    """Compare claims of streams; yield after each request what was found so far.

    Without `sleep`, digests that take the endpoint long are not waited for.
    Raises: EndpointError.
    """
    result = Stated()
    for some in _requests(claims):
        with spool.reading():
            digests = PushedDigests(spool.connection)
            pushed = [digests.digest(claim.stream or 0, claim.generation, claim.acked) for claim in some]
        positions = _ask(client, machine_id, some, sleep)
        with spool.reading():
            for claim, own, position in zip(some, pushed, positions, strict=True):
                _judge(result, Claims(spool.connection), claim, own, position)
        yield result


def _judge(result: Stated, claims: Claims, claim: Claim, own: str | None, position: wire.RemotePosition | None) -> None:
    """Add a claim to the list that it belongs to."""
    assert claim.stream is not None
    if position is None:
        result.length_only.append(claim)
        return
    result.positions[claim.stream] = claim, position
    held, claimed = (-1 if position.generation is None else position.generation, position.length), claim.position
    if held < claimed:
        result.lacking.append(claim)
    elif held > claimed:
        # It was pushed meanwhile, unless the claim still stands.
        (result.ahead if claims.stands(claim) else result.length_only).append(claim)
    elif own is None or position.after is None:
        result.length_only.append(claim)
    elif own == position.after:
        result.equal.add(claim.stream)
    elif claims.stands(claim):
        result.different.append(claim)
    else:
        result.length_only.append(claim)


def _ask(
    client: ReadClient, machine_id: str, claims: Sequence[Claim], sleep: Callable[[float], None] | None
) -> Sequence[wire.RemotePosition | None]:
    keys = [wire.StreamKey(session=UUID(claim.session), stream=claim.name) for claim in claims]
    for attempt in range(TRIES):
        try:
            return client.offsets(machine_id, keys)
        except Unreachable as error:
            if error.retry_after is None:
                raise
            if sleep is None:
                break
            if attempt + 1 < TRIES:
                sleep(error.retry_after)
    return [None] * len(claims)


def _requests(claims: Sequence[Claim]) -> Iterator[list[Claim]]:
    some, size = list[Claim](), 0
    for claim in claims:
        if some and (len(some) >= REQUEST_STREAMS or size + claim.acked > REQUEST_BYTES):
            yield some
            some, size = [], 0
        some.append(claim)
        size += claim.acked
    if some:
        yield some
