"""How a stream of ours and what the endpoint says it holds of it find the same point again.

After a lost spool, at a new endpoint, or when the endpoint was restored from an older copy, the two differ.
Same prefix: go on from there. Other prefix, or one that can't be compared: a new generation.
"""

from __future__ import annotations

from hashlib import sha256

from sessiond.endpoint.wire import RemotePosition
from sessiond.ingest.content import Content
from sessiond.privacy import Masking
from sessiond.spool import Spool
from sessiond.spool.rows import StreamState


def reconcile(
    spool: Spool,
    stream: StreamState,
    content: Content,
    held: RemotePosition,
    masking: Masking,
    now_ms: int,
    path: str = "",
) -> None:
    """Make the outbox continue what the endpoint holds. Changes `stream` and the spool, in one transaction."""
    with spool.transaction():
        spool.catalog.set_remote_position(stream.id, None)
        queued_from = spool.outbox.first_offset(stream.id, stream.generation)
        first = stream.queued if queued_from is None else queued_from
        theirs = held.generation
        # Only what this very endpoint acknowledged is known to be equal. Anything else is compared by its digest: an
        # earlier life of this spool, or another endpoint's data under the same address, may have the same length.
        if theirs == stream.generation and held.length <= (0 if stream.lost else stream.acked):
            _rewind(spool, stream, held.length, first)
        elif theirs is None and stream.generation == 0:
            _rewind(spool, stream, 0, first)
        elif (
            theirs is not None
            and theirs >= stream.generation
            and spool.outbox.generations(stream.id) <= {stream.generation}
            and _same(spool, stream, content, held, masking, path)
        ):
            _adopt(spool, stream, theirs, held.length)
        elif (theirs is None or theirs < stream.generation) and _chained(spool, stream, held):
            pass  # the starts of the generations between are queued: the push brings them
        else:
            number = max(stream.generation, -1 if theirs is None else theirs) + 1
            stands = content.standing(spool.catalog.extents(stream.id)) == stream.folded
            _start_over(spool, stream, number, now_ms, stands=stands)
        spool.catalog.save_stream(stream)
    stream.remote_position = None


def _rewind(spool: Spool, stream: StreamState, offset: int, first: int) -> None:
    """The endpoint has less than it once acknowledged (or nothing yet): the bytes between are read again."""
    spool.catalog.set_acked(stream.id, offset)
    if offset < first:
        stream.gap = (offset, first)
        spool.catalog.set_gap(stream.id, offset, first)


def _same(
    spool: Spool, stream: StreamState, content: Content, held: RemotePosition, masking: Masking, path: str
) -> bool:
    """Compare what the endpoint holds with our own first bytes, as we would send them."""
    if held.length > stream.folded:
        return False
    running, position, run = sha256(), 0, masking.run(path)
    for extent in spool.catalog.extents(stream.id):
        if position >= held.length:
            break
        data = content.slice(extent)
        if data is None:
            return False
        for _, masked in run.feed(extent.start, data):
            running.update(masked.data[: held.length - position] if position < held.length else b"")
            position += len(masked.data)
    return position >= held.length and running.hexdigest() == held.sha256


def _adopt(spool: Spool, stream: StreamState, generation: int, length: int) -> None:
    """The endpoint has our bytes up to `length`, under a number that this spool may have forgotten."""
    spool.outbox.renumber(stream.id, stream.generation, generation)
    spool.outbox.drop_start(stream.id, generation)
    spool.outbox.drop_until(stream.id, generation, length)
    stream.generation = generation
    stream.queued = max(stream.queued, length)
    # A segment that begins before and ends after `length` is cut anew, from the file; and what was acknowledged
    # as another generation's is this one's too.
    straddling = spool.outbox.straddling(stream.id, generation, length)
    if straddling is not None:
        spool.outbox.drop_until(stream.id, generation, straddling)
    first = spool.outbox.first_offset(stream.id, generation)
    stream.gap = None
    _rewind(spool, stream, length, stream.queued if first is None else first)


def _chained(spool: Spool, stream: StreamState, held: RemotePosition) -> bool:
    """Return whether the outbox leads from what they hold to our generation without a hole.

    That compares only numbers, so it is not enough where they may hold bytes that this spool never pushed there.
    """
    if stream.unproven and held.generation is not None:
        return False
    generation, end = (0, 0) if held.generation is None else (held.generation, held.length)
    if held.generation is None and spool.outbox.first_offset(stream.id, 0) != 0:
        return False
    for number, offset, length in spool.outbox.runs(stream.id):
        begins = number == generation + 1 and length == 0 and offset <= end
        if not begins and (number, offset) != (generation, end):
            return False
        generation, end = number, offset + length
    return generation == stream.generation


def _start_over(spool: Spool, stream: StreamState, generation: int, now_ms: int, *, stands: bool) -> None:
    """Begin a generation that shares nothing: all of the file is read and queued again.

    What is queued of earlier generations stands in no file any more: it goes before, as far as we have it. So does what
    is queued of the present one, unless the file `stands` as it was captured.
    """
    if stands:
        spool.outbox.drop_generation(stream.id, stream.generation)
    generation = _salvage(spool, stream, generation, now_ms)
    stream.generation, stream.queued, stream.gap = generation, 0, None
    spool.catalog.restart(stream.id, acked=0)
    if stands:
        spool.catalog.clear_losses(stream.id)
        stream.lost = 0
    if generation:
        spool.outbox.add_generation(stream.id, generation, None, 0, now_ms)


def reconcile_without_source(spool: Spool, stream: StreamState, held: RemotePosition, now_ms: int) -> None:
    """Push what only the outbox has, since no location has the tool's file any more and the endpoint differs.

    Nothing can be compared without the file, so only what this endpoint acknowledged is believed. Bytes that the
    endpoint needs before those in the outbox and that no location has are replaced by a placeholder of the same length;
    those, and what is missing at the end, count as lost (see spool/safety.py).
    """
    catalog, outbox = spool.catalog, spool.outbox
    with spool.transaction():
        first = outbox.first_offset(stream.id, stream.generation)
        chained = _chained(spool, stream, held)
        theirs, generations = held.generation, outbox.generations(stream.id)
        common = _acknowledged_still(stream, held)
        catalog.give_up(stream.id)
        if chained and (theirs != stream.generation or held.length <= common):
            return  # what is queued follows what they hold
        catalog.set_acked(stream.id, common)
        if not generations:
            return  # what lies behind `common` is lost
        start = stream.folded if first is None else first
        if generations == {stream.generation} and theirs == stream.generation and held.length <= start:
            # The endpoint appends right behind what it holds: a placeholder fills the hole up to the outbox.
            outbox.fill(stream.id, stream.generation, held.length, start, now_ms)
            catalog.add_lost(stream.id, start - common)
            return
        number = max(-1 if theirs is None else theirs, stream.generation) + 1
        catalog.set_generation(stream.id, _salvage(spool, stream, number, now_ms, common=common) - 1)
        # Of the new generation nothing is acknowledged but what it keeps of the old one.
        catalog.set_acked(stream.id, start if first is not None and common >= start else 0)


def _acknowledged_still(stream: StreamState, held: RemotePosition) -> int:
    """Count the bytes of the current generation that this endpoint acknowledged and still holds."""
    if held.generation is None or held.generation < stream.generation:
        return 0  # it never got this generation, or has lost it
    if held.generation > stream.generation:
        return stream.acked  # earlier generations are kept, and can still be read
    return min(stream.acked, held.length)


def _salvage(spool: Spool, stream: StreamState, number: int, now_ms: int, *, common: int = 0) -> int:
    """Give queued generations whose past the endpoint lacks numbers from `number` on; return the next free one.

    The first `common` bytes of the current generation are at the endpoint: they are kept, not replaced.
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
