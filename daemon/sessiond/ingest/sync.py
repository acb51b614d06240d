"""How a stream of ours and what the endpoint says it holds of it find the same point again.

After a lost spool, at a new endpoint, or when the endpoint was restored from an older copy, the two differ.
Same prefix: go on from there. Other prefix, or one that can't be compared: a new generation.
"""

from __future__ import annotations

from hashlib import sha256

from sessiond.endpoint.wire import Held
from sessiond.ingest.content import Content
from sessiond.privacy import Masking
from sessiond.spool import Spool
from sessiond.spool.rows import StreamState


def reconcile(
    spool: Spool, stream: StreamState, content: Content, held: Held, masking: Masking, now_ms: int, path: str = ""
) -> None:
    """Make the outbox continue what the endpoint holds. Changes `stream` and the spool, in one transaction."""
    with spool.transaction():
        spool.catalog.set_held(stream.id, None)
        queued_from = spool.outbox.first_offset(stream.id, stream.generation)
        first = stream.queued if queued_from is None else queued_from
        theirs = held.generation
        if theirs == stream.generation and held.length <= first:
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
    stream.held = None


def _rewind(spool: Spool, stream: StreamState, offset: int, first: int) -> None:
    """The endpoint has less than it once acknowledged (or nothing yet): the bytes between are read again."""
    spool.catalog.set_acked(stream.id, offset)
    if offset < first:
        stream.gap = (offset, first)
        spool.catalog.set_gap(stream.id, offset, first)


def _same(spool: Spool, stream: StreamState, content: Content, held: Held, masking: Masking, path: str) -> bool:
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


def _chained(spool: Spool, stream: StreamState, held: Held) -> bool:
    """Tell whether the outbox leads from what they hold to our generation without a hole."""
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
    if generation:
        spool.outbox.add_generation(stream.id, generation, None, 0, now_ms)


def reconcile_without_source(spool: Spool, stream: StreamState, held: Held, now_ms: int) -> None:
    """Push what only the outbox has, since the tool's file is gone and the endpoint differs.

    The bytes before it are nowhere any more; a record of the same length says so, and they count as lost.
    """
    with spool.transaction():
        theirs = -1 if held.generation is None else held.generation
        first = spool.outbox.first_offset(stream.id, stream.generation)
        spool.catalog.set_lost(stream.id)
        if first is not None and theirs == stream.generation and held.length <= first:
            spool.outbox.fill(stream.id, theirs, held.length, first, now_ms)
            spool.catalog.add_lost(stream.id, first - held.length)
            return
        stream.generation = _salvage(spool, stream, max(theirs, stream.generation) + 1, now_ms) - 1
        spool.catalog.set_generation(stream.id, stream.generation)


def _salvage(spool: Spool, stream: StreamState, number: int, now_ms: int) -> int:
    """Give queued generations whose past the endpoint lacks numbers from `number` on; return the next free one."""
    for generation in sorted(spool.outbox.generations(stream.id)):
        spool.outbox.drop_start(stream.id, generation)
        first = spool.outbox.first_offset(stream.id, generation)
        if first is None:
            continue
        spool.outbox.renumber(stream.id, generation, number)
        spool.outbox.add_generation(stream.id, number, None, 0, now_ms)
        spool.outbox.fill(stream.id, number, 0, first, now_ms)
        spool.catalog.add_lost(stream.id, first)
        number += 1
    return number
