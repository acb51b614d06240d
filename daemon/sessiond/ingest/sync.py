"""How a stream of ours and what the endpoint says it holds of it find the same point again.

After a lost spool, at a new endpoint, or when the endpoint was restored from an older copy, the two differ.
Same prefix: go on from there. Other prefix, or one that can't be compared: a new generation.
"""

from __future__ import annotations

from hashlib import sha256

from sessiond.endpoint.wire import Held
from sessiond.ingest.capture import Redact
from sessiond.ingest.content import Content
from sessiond.spool import Spool
from sessiond.spool.rows import StreamState


def reconcile(spool: Spool, stream: StreamState, content: Content, held: Held, redact: Redact, now_ms: int) -> None:
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
        elif theirs is not None and theirs >= stream.generation and _same(spool, stream, content, held, redact):
            _adopt(spool, stream, theirs, held.length)
        elif theirs is not None and theirs < stream.generation and _chained(spool, stream, theirs):
            pass  # the starts of the generations between are queued: the push brings them
        else:
            _start_over(spool, stream, max(stream.generation, -1 if theirs is None else theirs) + 1, now_ms)
        spool.catalog.save_stream(stream)
    stream.held = None


def _rewind(spool: Spool, stream: StreamState, offset: int, first: int) -> None:
    """The endpoint has less than it once acknowledged (or nothing yet): the bytes between are read again."""
    spool.catalog.set_acked(stream.id, offset)
    if offset < first:
        stream.gap = (offset, first)
        spool.catalog.set_gap(stream.id, offset, first)


def _same(spool: Spool, stream: StreamState, content: Content, held: Held, redact: Redact) -> bool:
    """Compare what the endpoint holds with our own first bytes, as we would send them."""
    if held.length > stream.folded:
        return False
    running, position = sha256(), 0
    for extent in spool.catalog.extents(stream.id):
        if position >= held.length:
            break
        data = content.slice(extent)
        if data is None:
            return False
        running.update(redact(data)[: held.length - position])
        position = extent.end
    return position >= held.length and running.hexdigest() == held.sha256


def _adopt(spool: Spool, stream: StreamState, generation: int, length: int) -> None:
    """The endpoint has our bytes up to `length`, under a number that this spool may have forgotten."""
    spool.outbox.renumber(stream.id, stream.generation, generation - stream.generation)
    spool.outbox.drop_before(stream.id, generation)
    spool.outbox.drop_until(stream.id, generation, length)
    stream.generation = generation
    stream.queued = max(stream.queued, length)
    spool.catalog.set_acked(stream.id, length)
    # A segment that begins before and ends after `length` is cut anew, from the file.
    straddling = spool.outbox.straddling(stream.id, generation, length)
    if straddling is not None:
        spool.outbox.drop_until(stream.id, generation, straddling)
        stream.gap = (length, straddling)
        spool.catalog.set_gap(stream.id, *stream.gap)


def _chained(spool: Spool, stream: StreamState, theirs: int) -> bool:
    """Tell whether the outbox leads from their generation to ours without a hole."""
    queued = spool.outbox.generations(stream.id)
    return all(number in queued for number in range(theirs + 1, stream.generation + 1))


def _start_over(spool: Spool, stream: StreamState, generation: int, now_ms: int) -> None:
    """Begin a generation that shares nothing: all of the file is read and queued again."""
    spool.outbox.drop_stream(stream.id)
    stream.generation, stream.queued, stream.gap = generation, 0, None
    spool.catalog.restart(stream.id, acked=0)
    if generation:
        spool.outbox.add_generation(stream.id, generation, None, 0, now_ms)
