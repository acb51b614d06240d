"""Finds the common point of a stream and what the endpoint holds of it, and makes the outbox continue there.

The two differ after a lost spool, at a new endpoint, and when the endpoint was restored from an older copy. What is
done then is decided in reconcile_plan.py. Here it is applied, in one transaction: a kill in between would leave an
outbox that the endpoint refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from sessiond.endpoint.stream_digest import digest_like, known_digest
from sessiond.endpoint.wire import RemotePosition
from sessiond.errors import Torn
from sessiond.ingest import reconcile_plan as plan
from sessiond.ingest.content import Content
from sessiond.ingest.context import IngestContext
from sessiond.ingest.masked import mask_chunk, read_extents
from sessiond.ingest.position import Queue, position_of, set_position
from sessiond.ingest.reconcile_plan import (
    Action,
    Evidence,
    Trust,
    plan_lost_gap,
    plan_reconcile,
    plan_without_source,
)
from sessiond.spool import Spool
from sessiond.spool.rows import StreamState


def reconcile(context: IngestContext, stream: StreamState, content: Content, path: str) -> None:
    """Make the outbox continue what the endpoint holds. Changes `stream` and the spool, in one transaction.

    `path` is the file, for redaction rules that depend on it.
    """
    remote = stream.remote_position
    assert remote is not None
    spool = context.spool
    context.begin_work(stream.folded)
    evidence = Evidence(
        same=cache(lambda remote: _same(context, stream, content, remote, path)),
        unchanged=cache(lambda: content.unchanged_prefix(spool.catalog.extents(stream.id)) == stream.folded),
    )

    def make_plan() -> Iterable[Action]:
        queue = Queue(spool.outbox.runs(stream.id))
        return plan_reconcile(position_of(stream), queue, remote, _trust(stream), evidence)

    # The file is read for a first plan before the transaction. Inside it, a long file would block other writers.
    make_plan()
    with spool.transaction():
        if not spool.catalog.is_at(stream):
            raise Torn("the endpoint has answered again meanwhile")  # as another endpoint, perhaps: nothing is applied
        actions = make_plan()
        spool.catalog.set_remote_position(stream.id, None)
        _apply(spool, stream, actions, context.now_ms())
        spool.catalog.save_stream(stream)
    stream.remote_position = None


def give_up(context: IngestContext, stream: StreamState) -> None:
    """Stop waiting for bytes that exist nowhere any more. `status` lists the session as lost; this is never silent.

    If the endpoint said what it holds, the outbox continues there, as far as that is possible without the file.
    """
    spool = context.spool
    with spool.transaction():
        position, queue, remote = position_of(stream), Queue(spool.outbox.runs(stream.id)), stream.remote_position
        if remote is None:
            actions = plan_lost_gap(position, queue)
        else:
            actions = plan_without_source(position, queue, remote, _trust(stream))
        spool.catalog.give_up(stream.id)
        _apply(spool, stream, actions, context.now_ms())


def _trust(stream: StreamState) -> Trust:
    return Trust(lost=stream.lost > 0, unproven=stream.unproven)


def _same(context: IngestContext, stream: StreamState, content: Content, remote: RemotePosition, path: str) -> bool:
    """Return whether the endpoint holds our first bytes, masked as we would send them."""
    if remote.length > stream.folded:
        return False
    position = 0

    def masked() -> Iterator[bytes]:
        nonlocal position
        for chunk in read_extents(content, context.spool.catalog.extents(stream.id)):
            if position >= remote.length:
                return
            yield mask_chunk(context.masking, chunk, path).data[: remote.length - position]
            position = chunk.end

    return digest_like(remote, masked()) == known_digest(remote) and position >= remote.length


def _apply(spool: Spool, stream: StreamState, actions: Iterable[Action], now_ms: int) -> None:
    """Carry out a plan, in its order. Runs inside the transaction that read what the plan is based on.

    In another transaction the push thread could have acknowledged an item in between, and the plan would be wrong.
    """
    catalog, outbox = spool.catalog, spool.outbox
    for action in actions:
        match action:
            case plan.MoveTo(position):
                catalog.set_position(stream.id, position.generation, position.queued, position.acked, position.gap)
                set_position(stream, position)
            case plan.Drop(generation, None):
                outbox.drop_generation(stream.id, generation)
            case plan.Drop(generation, until) if until is not None:
                outbox.drop_until(stream.id, generation, until)
            case plan.DropStart(generation):
                outbox.drop_start(stream.id, generation)
            case plan.Renumber(generation, number):
                outbox.renumber(stream.id, generation, number)
            case plan.Begin(generation, previous, keep):
                outbox.add_generation(stream.id, generation, previous, keep, now_ms)
            case plan.Fill(generation, start, end):
                outbox.fill(stream.id, generation, start, end, now_ms)
            case plan.CountLost(generation, start, end):
                catalog.add_lost(stream.id, generation, start, end)
            case plan.Confirm(length):
                catalog.set_unconfirmed(stream.id, length)
            case plan.ClearLosses():
                catalog.clear_losses(stream.id)
                stream.lost = 0
