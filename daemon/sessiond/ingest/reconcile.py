"""Finds the common point of a stream and what the endpoint holds of it.

The two differ after a lost spool, at a new endpoint, and when the endpoint was restored from an older copy.
If the endpoint holds a prefix of our bytes, the stream continues there. If it holds other bytes, or none that can be
compared, a new generation begins.
"""

from __future__ import annotations

from hashlib import sha256

from sessiond.endpoint.wire import RemotePosition
from sessiond.ingest.content import Content
from sessiond.ingest.context import IngestContext
from sessiond.privacy import Masking
from sessiond.spool import Spool
from sessiond.spool.rows import StreamState


def reconcile(
    context: IngestContext, stream: StreamState, content: Content, remote: RemotePosition, path: str = ""
) -> None:
    """Make the outbox continue what the endpoint holds. Changes `stream` and the spool, in one transaction.

    `path` is the file, for redaction rules that depend on it.
    """
    spool, now_ms = context.spool, context.now_ms()
    with spool.transaction():
        spool.catalog.set_remote_position(stream.id, None)
        queued_from = spool.outbox.first_offset(stream.id, stream.generation)
        first = stream.queued if queued_from is None else queued_from
        theirs = remote.generation
        # Only what this very endpoint acknowledged is known to be equal. All else is compared by its digest: an earlier
        # spool of this machine, or another endpoint at the same address, may have left as many bytes of other content.
        # To append behind those would corrupt the stream at the endpoint.
        if theirs == stream.generation and remote.length <= (0 if stream.lost else stream.acked):
            _rewind(spool, stream, remote.length, first)
        elif theirs is None and stream.generation == 0:
            _rewind(spool, stream, 0, first)
        elif (
            theirs is not None
            and theirs >= stream.generation
            and spool.outbox.generations(stream.id) <= {stream.generation}
            and _same(spool, stream, content, remote, context.masking, path)
        ):
            _adopt(spool, stream, theirs, remote.length)
        elif (theirs is None or theirs < stream.generation) and _chained(spool, stream, remote):
            pass  # the outbox has the starts of all generations in between: pushing it is enough
        else:
            number = max(stream.generation, -1 if theirs is None else theirs) + 1
            unchanged = content.unchanged_prefix(spool.catalog.extents(stream.id)) == stream.folded
            _start_over(spool, stream, number, now_ms, unchanged=unchanged)
        spool.catalog.save_stream(stream)
    stream.remote_position = None


def _rewind(spool: Spool, stream: StreamState, offset: int, first: int) -> None:
    """Go back to `offset`: the endpoint has less than it acknowledged, or nothing yet.

    The outbox begins at `first`. The bytes before it become a gap, which is read from the file again. Without the gap,
    the endpoint would refuse what follows it.
    """
    spool.catalog.set_acked(stream.id, offset)
    if offset < first:
        stream.gap = (offset, first)
        spool.catalog.set_gap(stream.id, offset, first)


def _same(
    spool: Spool, stream: StreamState, content: Content, remote: RemotePosition, masking: Masking, path: str
) -> bool:
    """Return whether the endpoint holds our first bytes, masked as we would send them."""
    if remote.length > stream.folded:
        return False
    running, position, run = sha256(), 0, masking.run(path)
    for extent in spool.catalog.extents(stream.id):
        if position >= remote.length:
            break
        data = content.slice(extent)
        if data is None:
            return False
        for _, masked in run.feed(extent.start, data):
            running.update(masked.data[: remote.length - position] if position < remote.length else b"")
            position += len(masked.data)
    return position >= remote.length and running.hexdigest() == remote.sha256


def _adopt(spool: Spool, stream: StreamState, generation: int, length: int) -> None:
    """Continue the endpoint's generation: it has our bytes up to `length`, under a number that this spool lost."""
    spool.outbox.renumber(stream.id, stream.generation, generation)
    spool.outbox.drop_start(stream.id, generation)
    spool.outbox.drop_until(stream.id, generation, length)
    stream.generation = generation
    stream.queued = max(stream.queued, length)
    # A segment that begins before `length` and ends after it would be refused as a whole. Drop it; its bytes become a
    # part of the gap and are read from the file again.
    straddling = spool.outbox.straddling(stream.id, generation, length)
    if straddling is not None:
        spool.outbox.drop_until(stream.id, generation, straddling)
    first = spool.outbox.first_offset(stream.id, generation)
    stream.gap = None
    _rewind(spool, stream, length, stream.queued if first is None else first)


def _chained(spool: Spool, stream: StreamState, remote: RemotePosition) -> bool:
    """Return whether the outbox leads from what the endpoint holds to our generation without a hole.

    Only numbers are compared. So the answer is no if the endpoint may hold bytes that this spool never pushed there.
    """
    if stream.unproven and remote.generation is not None:
        return False
    generation, end = (0, 0) if remote.generation is None else (remote.generation, remote.length)
    if remote.generation is None and spool.outbox.first_offset(stream.id, 0) != 0:
        return False
    for number, offset, length in spool.outbox.runs(stream.id):
        begins = number == generation + 1 and length == 0 and offset <= end
        if not begins and (number, offset) != (generation, end):
            return False
        generation, end = number, offset + length
    return generation == stream.generation


def _start_over(spool: Spool, stream: StreamState, generation: int, now_ms: int, *, unchanged: bool) -> None:
    """Begin a generation that shares nothing with earlier ones: the whole file is read and queued again.

    Queued bytes of older generations exist only in the outbox, so they are uploaded first, as far as it has them. The
    same holds for the current generation, unless the file is `unchanged` and will be read again as a whole.
    """
    if unchanged:
        spool.outbox.drop_generation(stream.id, stream.generation)
    generation = _salvage(spool, stream, generation, now_ms)
    stream.generation, stream.queued, stream.gap = generation, 0, None
    spool.catalog.restart(stream.id, acked=0)
    if unchanged:
        spool.catalog.clear_losses(stream.id)
        stream.lost = 0
    if generation:
        spool.outbox.add_generation(stream.id, generation, None, 0, now_ms)


def reconcile_without_source(spool: Spool, stream: StreamState, remote: RemotePosition, now_ms: int) -> None:
    """Make the outbox continue what the endpoint holds, although the tool's file is gone everywhere.

    Without the file nothing can be compared, so only what this endpoint acknowledged is trusted. Bytes that it needs
    before those in the outbox, and that exist nowhere, are replaced by a placeholder of the same length. Those bytes,
    and bytes missing at the end, count as lost (see spool/safety.py).
    """
    catalog, outbox = spool.catalog, spool.outbox
    with spool.transaction():
        first = outbox.first_offset(stream.id, stream.generation)
        chained = _chained(spool, stream, remote)
        theirs, generations = remote.generation, outbox.generations(stream.id)
        common = _still_acknowledged(stream, remote)
        catalog.give_up(stream.id)
        # In each case: the endpoint may hold less than it acknowledged, if it was restored from an older copy. With the
        # old count, the bytes at the end that it lacks would be reported as safe.
        catalog.set_acked(stream.id, common)
        if chained and (theirs != stream.generation or remote.length <= common):
            return  # the queued bytes follow directly
        if generations == {stream.generation} and theirs == stream.generation and first is None:
            outbox.drop_start(stream.id, stream.generation)  # the endpoint has begun it
            return  # no bytes are queued: all after `common` are lost
        if not generations:
            return
        start = stream.folded if first is None else first
        if generations == {stream.generation} and theirs == stream.generation and remote.length <= start:
            # The endpoint appends only directly behind its bytes: a placeholder fills the hole up to the outbox.
            outbox.fill(stream.id, stream.generation, remote.length, start, now_ms)
            catalog.add_lost(stream.id, start - common)
            return
        number = max(-1 if theirs is None else theirs, stream.generation) + 1
        catalog.set_generation(stream.id, _salvage(spool, stream, number, now_ms, common=common) - 1)
        # The endpoint has acknowledged nothing of the new generation but what it keeps of the old one.
        catalog.set_acked(stream.id, start if first is not None and common >= start else 0)


def _still_acknowledged(stream: StreamState, remote: RemotePosition) -> int:
    """Return how many bytes of the current generation this endpoint acknowledged and still holds."""
    if remote.generation is None or remote.generation < stream.generation:
        return 0  # it never got this generation, or has lost it
    if remote.generation > stream.generation:
        return stream.acked  # it keeps earlier generations, so they can still be read there
    return min(stream.acked, remote.length)


def _salvage(spool: Spool, stream: StreamState, number: int, now_ms: int, *, common: int = 0) -> int:
    """Renumber queued generations from `number` on, so that the endpoint takes them; return the next free number.

    The endpoint lacks what comes before them. The first `common` bytes of the current generation are there: they are
    kept, not replaced by a placeholder.
    """
    for generation in sorted(spool.outbox.generations(stream.id)):
        spool.outbox.drop_start(stream.id, generation)
        first = spool.outbox.first_offset(stream.id, generation)
        if first is None:
            continue
        spool.outbox.renumber(stream.id, generation, number)
        if generation == stream.generation and 0 < first <= common:
            spool.outbox.add_generation(stream.id, number, generation, first, now_ms)
        else:
            spool.outbox.add_generation(stream.id, number, None, 0, now_ms)
            spool.outbox.fill(stream.id, number, 0, first, now_ms)
            spool.catalog.add_lost(stream.id, first)
        number += 1
    return number
