"""Compares what the spool calls safe with what the endpoint has: revisions of records, and lengths of streams.

The endpoint lists its sessions in pages, so this takes a few requests however many sessions there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from uuid import UUID

import msgspec

from sessiond.endpoint import wire
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import Forbidden
from sessiond.spool import Spool
from sessiond.spool.verification import RESULT, Claim, Claims, Verification, verification_value

PAGE = 1000
"""Sessions that are listed at once; the endpoint ends a page earlier after 2 MiB."""
STREAMS = 500
"""Streams that are asked for at once, with a token that only pushes."""


class Held(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the endpoint has of a session. `revision` None: not known, or no record."""

    revision: int | None
    streams: dict[str, tuple[int, int]]
    """Generation and length by name."""


class Comparison(msgspec.Struct, kw_only=True):
    """The claims that were compared, and those that the endpoint contradicts."""

    sessions: set[str] = msgspec.field(default_factory=set)
    streams: int = 0
    """The streams that were compared."""
    wrong: list[Claim] = []
    expired: set[str] = msgspec.field(default_factory=set)
    """Sessions that the endpoint let go because it keeps sessions for some days only."""
    held: dict[str, Held] = msgspec.field(default_factory=dict)
    """What the endpoint has, by session."""
    done: bool = False
    records: bool = True
    """Whether records were compared too: a token that only pushes can't read them."""

    @property
    def incomplete(self) -> set[str]:
        """The sessions of which the endpoint lacks something."""
        return {claim.session for claim in self.wrong}


def compare(
    spool: Spool,
    client: ReadClient,
    machine_id: str,
    *,
    tool: str | None = None,
    sessions: Collection[str] | None = None,
) -> Iterator[Comparison]:
    """Compare all claims; yield after each request, the last time with the whole result.

    Raises: Refused if the endpoint does not know the token, EndpointError.
    """
    result = Comparison()
    with spool.reading():
        # They are read before the endpoint is asked, which then has at least this, whatever is pushed meanwhile.
        claims = list(Claims(spool.connection).claims(tool, sessions))
    try:
        for page, expired in _list(client, machine_id):
            result.held |= page
            result.expired |= expired
            yield result
    except Forbidden:
        result.records = False
        result.held = {}
        streams = [claim for claim in claims if claim.stream is not None]
        for some in _batched(streams, STREAMS):
            _ask(client, machine_id, some, result.held)
            yield result
    for claim in claims:
        if claim.session in result.expired or (claim.bare and result.records):
            continue  # no list has a session without a record: its streams are asked for
        result.sessions.add(claim.session)
        result.streams += claim.stream is not None
        found = result.held.get(claim.session)
        if claim.stream is None:
            wrong = result.records and (found is None or (found.revision or 0) < claim.revision)
        else:
            wrong = found is None or found.streams.get(claim.name, (-1, 0)) < (claim.generation, claim.acked)
        if wrong:
            result.wrong.append(claim)
    result.done = True
    yield result


def apply_comparison(
    spool: Spool, result: Comparison, url: str, now_ms: int | None, different: Collection[Claim] = ()
) -> None:
    """Store the result for `status`, and have what the endpoint lacks pushed again, in one transaction.

    `different`: streams of which the endpoint has other bytes; the caller has them pushed again.
    `now_ms` is None if not all sessions were compared: then there is no result to store.
    Nothing is deleted or changed because of what the endpoint says: its position in these streams is asked for, and
    compared with the files.
    """
    claims = Claims(spool.connection)
    with spool.transaction():
        for claim in result.wrong:
            claims.withdraw(claim)
        if result.records:  # the archive's copy may have brought one back
            spool.outbox.offer_expired(result.held.keys() - result.expired)
        if now_ms is not None:
            for session in filter(spool.forgotten.is_captured, result.expired):
                spool.outbox.expire(session, now_ms)
            checked = Verification(
                at_ms=now_ms,
                url=url,
                sessions=len(result.sessions),
                streams=result.streams,
                incomplete=len(result.incomplete),
                different=len({claim.stream for claim in different}),
            )
            spool.set_meta(RESULT, verification_value(checked))


def _list(client: ReadClient, machine_id: str) -> Iterator[tuple[dict[str, Held], set[str]]]:
    """Iterate over the pages of what the endpoint has of this machine, and of the sessions that it let go."""
    since, more = None, True
    while more:
        page = client.changes(since, limit=PAGE)
        yield (
            {
                str(each.record.id): Held(revision=each.revision, streams=_positions(each.held))
                for each in page.sessions
                if each.record.machine_id == machine_id
            },
            {str(each.id) for each in page.expired if each.machine_id == machine_id},
        )
        more, since = page.more and page.next != since, page.next


def _positions(held: Collection[wire.StreamLength]) -> dict[str, tuple[int, int]]:
    return {each.name: (each.generation, each.length) for each in held}


def _ask(client: ReadClient, machine_id: str, claims: list[Claim], held: dict[str, Held]) -> None:
    """Add the endpoint's positions of some streams."""
    keys = [wire.StreamKey(session=UUID(claim.session), stream=claim.name) for claim in claims]
    for claim, position in zip(claims, client.offsets(machine_id, keys), strict=True):
        found = held.setdefault(claim.session, Held(revision=None, streams={}))
        if position is not None and position.generation is not None:
            found.streams[claim.name] = position.generation, position.length


def _batched(claims: list[Claim], size: int) -> Iterator[list[Claim]]:
    left = iter(claims)
    while some := list(islice(left, size)):
        yield some
