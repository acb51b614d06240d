"""Uploads one batch, from the outbox to its acknowledgement.

`upload()` takes a batch from the outbox, pushes it, and applies the results. It needs no thread and no clock.

    context.py   what uploading works with, and names of batches
    binding.py   which endpoint answers
    items.py     items of the outbox as lines of a push
    digests.py   the digests of streams in these lines
    settle.py    the endpoint's results, applied in one transaction
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate

import msgspec

from sessiond.endpoint import wire
from sessiond.errors import EndpointError, WrongEndpoint
from sessiond.spool.forgotten import REASON
from sessiond.spool.rows import Segment, SessionState
from sessiond.spool.safety import LAST_BATCH
from sessiond.upload.binding import bind, store_batch, unbind_changed_endpoint
from sessiond.upload.context import (
    BatchResult,
    Item,
    UploadContext,
    begin_run,
    next_batch_name,
    session_of,
)
from sessiond.upload.items import to_push
from sessiond.upload.settle import park, settle

__all__ = [
    "BATCH_BYTES",
    "BATCH_ITEMS",
    "LAST_BATCH",
    "BatchResult",
    "UploadContext",
    "begin_run",
    "bind",
    "next_batch_name",
    "settle",
    "store_batch",
    "unbind_changed_endpoint",
    "upload",
]

BATCH_ITEMS = 200
BATCH_BYTES = 1 << 20
"""Limits of a batch: items, and bytes after compression. 1 MiB takes ten seconds at 1 Mbit/s."""
ITEM_BYTES = 1000
"""About how many bytes a record takes, and a segment besides its data."""
UNPACKED = 32 << 20
"""Limit of a batch in bytes before compression: the reference endpoint stores no more of one push at once."""
OFFSETS_LIMIT = 500
"""Streams in one request for offsets."""


def upload(
    context: UploadContext, *, since_ms: int = 0, live_ms: int | None = None, size: int = BATCH_BYTES
) -> BatchResult:
    """Push one batch: the newest records, and segments of the newest streams, in order within each stream.

    Only items changed after `since_ms` are pushed. Streams changed after `live_ms` take turns. A batch has at most
    `size` compressed bytes, but at least one segment.
    Raises: EndpointError if the endpoint stored nothing; everything stays in the outbox then.
    """
    asked, undecoded = _ask_positions(context)
    with context.spool.reading():
        sessions: list[Item] = list(context.spool.outbox.sessions(BATCH_ITEMS // 2, since_ms))
        segments = list(context.spool.outbox.segments(BATCH_ITEMS - len(sessions), size, since_ms, live_ms))
        items = sessions + _limit_unpacked(segments, UNPACKED)
        named = {session_of(item) for item in items}
        erased, expired = context.spool.outbox.refused_among(named)
    if erased:
        # A new machine id or another endpoint queues all records again, those of erased sessions too. No endpoint gets
        # an erased session, whichever one reported the erasure.
        with context.spool.transaction():
            for session in erased:
                context.spool.outbox.park_all(session, REASON)
        items = [item for item in items if session_of(item) not in erased]
    if expired:
        items = _without_expired(context, items, expired)
    if not items and undecoded and not asked:
        raise WrongEndpoint("the endpoint's answer about offsets can't be decoded", hint="upgrade whichever is older")
    if not items:
        return BatchResult(asked=asked, more=asked > 0 or bool(sessions or segments))
    return msgspec.structs.replace(_push(context, items, expired), asked=asked)


def _without_expired(context: UploadContext, items: list[Item], expired: dict[str, bool]) -> list[Item]:
    """Return the items without those of sessions that the endpoint let go, and remove these from the outbox.

    They were read from their files after the endpoint had let the session go. `expired` maps each such session to
    whether it has a new revision to push: then its items stay.
    """
    refused = {session for session, due in expired.items() if not due}
    if refused:
        with context.spool.transaction():
            for session in refused:
                context.spool.outbox.expire(session, context.clock.now_ms())
    return [item for item in items if session_of(item) not in refused]


def _limit_unpacked(segments: list[Segment], limit: int) -> list[Item]:
    """Return the first segments that have at most `limit` bytes before compression, but at least one."""
    lengths = accumulate(segment.length for segment in segments)
    return [
        segment
        for count, (segment, length) in enumerate(zip(segments, lengths, strict=True))
        if count == 0 or length <= limit
    ]


def _ask_positions(context: UploadContext) -> tuple[int, int]:
    """Ask for the endpoint's position in streams where the spool does not know it.

    The endpoint or the spool is a new one then. Return the number of streams whose position could be decoded, and of
    those where it could not.
    """
    with context.spool.reading():
        unknown = context.spool.outbox.unknown_streams(OFFSETS_LIMIT)
    if not unknown:
        return 0, 0
    keys = [wire.StreamKey(session=session, stream=name) for _, session, name in unknown]
    answers = context.client.offsets(context.machine_id, keys)
    with context.spool.transaction():
        for (number, _, _), position in zip(unknown, answers, strict=True):
            # A position that can't be decoded stays unknown: the stream's segments wait, and the next batch asks again.
            if position is not None:
                context.stream_digests.store_position(number, position)
    undecoded = sum(position is None for position in answers)
    return len(unknown) - undecoded, undecoded


def _push(context: UploadContext, items: Sequence[Item], expired: dict[str, bool]) -> BatchResult:
    """Push items and apply the answers. `expired` has the sessions that the endpoint let go.

    An item that is refused alone is parked only if another one was stored meanwhile. Otherwise the endpoint may be at
    fault, and parking would take a good item out of the outbox (rule 12).
    """
    total = BatchResult()
    refused: list[tuple[Item, EndpointError]] = []
    for part in context.client.push(items, partial(_prepare, context), _weigh):
        if part.answer is not None:
            total = total.plus(settle(context, part.items, part.answer, expired))
        elif part.refusal is not None:
            refused.append((part.items[0], part.refusal))
    if refused and not total.sessions + total.segments:
        raise refused[0][1]
    if refused:
        with context.spool.transaction():
            for item, reason in refused:
                park(context, item, reason.message)
    return total.plus(BatchResult(parked=len(refused), more=total.more))


def _weigh(item: Item) -> int:
    """Return about how many bytes of a request an item takes."""
    return ITEM_BYTES + (len(item.data) if isinstance(item, Segment) and item.data is not None else 0)


def _prepare(context: UploadContext, items: Sequence[Item]) -> tuple[list[wire.Push], str]:
    """Return the lines of a push and its name."""
    segments = {item.stream_id for item in items if isinstance(item, Segment)}
    with context.spool.reading():
        lengths = {item.id: context.spool.catalog.lengths(item.id) for item in items if isinstance(item, SessionState)}
        context.stream_digests.begin(segments)
        name = next_batch_name(context)
    # The spool is not locked here: decompressing and hashing 32 MiB would keep the capture waiting.
    return [to_push(context, item, lengths) for item in items], name
