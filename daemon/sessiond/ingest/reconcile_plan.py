"""Decides what is done when the endpoint holds something else of a stream than the spool expects.

Everything here is pure: it reads no spool and no clock. `reconcile.py` applies what is decided here.

For each stream the spool stores how far it was read (`folded`), queued (`queued`) and acknowledged (`acked`). The
endpoint is asked what it holds, or reports it in a result. `plan_reconcile` and `plan_without_source` decide:

| what is found | what is done |
|---|---|
| the endpoint has less than it acknowledged | the missing bytes are read again from the file (`gap`) |
| it has the same bytes under another number | the number is adopted, and what it has leaves the outbox |
| it has other bytes, an earlier generation that we lack, or a later one than segments that wait | a new generation above all of its own begins; segments of earlier ones are pushed first |
| the file is gone, and the endpoint holds what it acknowledged | nothing: that is trusted without the file |
| the file is gone, and the endpoint may hold what it never acknowledged | its bytes are read and compared with the digests of what was queued |
| the file is gone, and bytes before those in the outbox are missing | a placeholder of the same length is pushed, and the bytes count as lost |
| the file is gone, and bytes at the end are missing | they count as lost until a file that has them comes back |
"""  # noqa: E501 - the table of docs/mechanisms.md, word for word

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from sessiond.endpoint.wire import RemotePosition
from sessiond.ingest.position import Position, Queue


class MoveTo(NamedTuple):
    """Store another position."""

    position: Position


class Drop(NamedTuple):
    """Remove the items of a generation that end at or before `until` from the outbox; None: all of them.

    Their bytes are at the endpoint, or are read from the file again.
    """

    generation: int
    until: int | None = None


class DropStart(NamedTuple):
    """Remove the start of a generation from the outbox."""

    generation: int


class Renumber(NamedTuple):
    """Change the number of a generation's queued items."""

    generation: int
    to: int


class Begin(NamedTuple):
    """Queue the start of a generation that shares `keep` bytes with the previous one."""

    generation: int
    previous: int | None = None
    keep: int = 0


class Fill(NamedTuple):
    """Queue a placeholder for bytes that exist nowhere any more."""

    generation: int
    start: int
    end: int


class CountLost(NamedTuple):
    """Add these bytes of a generation to the count of lost bytes, which `status` shows."""

    generation: int
    start: int
    end: int


class Confirm(NamedTuple):
    """Have the endpoint's first `length` bytes of the generation compared with what was queued, before they count."""

    length: int


class ClearLosses(NamedTuple):
    """Clear the count of lost bytes: the file has all of them, and they are pushed again."""


Action = MoveTo | Drop | DropStart | Renumber | Begin | Fill | CountLost | Confirm | ClearLosses


class Evidence(NamedTuple):
    """What reading the tool's file shows. Each is called at most once, and only if the answer decides."""

    same: Callable[[RemotePosition], bool]
    """Whether the endpoint holds our first bytes, masked as we would send them."""
    unchanged: Callable[[], bool]
    """Whether the file still has every byte that was captured."""


class Trust(NamedTuple):
    """What is known of the endpoint's copy without comparing it."""

    lost: bool = False
    """Whether a placeholder was pushed. Then the acknowledged bytes are not those of the file."""
    unproven: bool = False
    """Whether the endpoint may have bytes that this spool never pushed there."""


def plan_reconcile(
    position: Position, queue: Queue, remote: RemotePosition, trust: Trust, evidence: Evidence
) -> list[Action]:
    """Return how the outbox is made to continue what the endpoint holds, with the tool's file at hand.

    Only what this very endpoint acknowledged is known to be equal. All else is compared by its digest: an earlier spool
    of this machine, or another endpoint at the same address, may have left as many bytes of other content. To append
    behind those would corrupt the stream at the endpoint.
    """
    theirs, generation = remote.generation, position.generation
    first = queue.first(generation)
    first = position.queued if first is None else first
    # Bytes that a generation keeps count as acknowledged before it has begun at the endpoint. If the endpoint has one
    # of the same number all the same, it dates from a time that a restored spool does not know: it may go on otherwise.
    acknowledged = 0 if trust.lost or trust.unproven or queue.begins(generation) else position.acked
    if theirs == generation and remote.length <= acknowledged and not queue.has_earlier(theirs):
        return [MoveTo(position.rewound(remote.length, first))]
    if theirs is None and generation == 0:
        return [MoveTo(position.rewound(0, first))]
    # Queued items of earlier generations exist nowhere else. To adopt a number above theirs would leave them behind.
    if theirs is not None and theirs >= generation and queue.generations <= {generation} and evidence.same(remote):
        return _plan_adoption(position, queue, theirs, remote.length)
    if (theirs is None or theirs < generation) and _leads(position, queue, remote, trust):
        return []  # the outbox has the starts of all generations in between: pushing it is enough
    return _plan_new_generation(position, queue, _next_number(position, remote), unchanged=evidence.unchanged())


def _next_number(position: Position, remote: RemotePosition) -> int:
    """Return a generation above ours and all of the endpoint's, which keeps those that it has."""
    return max(position.generation, -1 if remote.generation is None else remote.generation) + 1


def _leads(position: Position, queue: Queue, remote: RemotePosition, trust: Trust) -> bool:
    """Return whether pushing the outbox is enough.

    Only numbers are compared. So the answer is no if the endpoint may hold bytes that this spool never pushed there.
    """
    if trust.unproven and remote.generation is not None:
        return False
    if remote.generation == position.generation and queue.begins(position.generation):
        return False
    return queue.leads(remote, position.generation)


def _plan_adoption(position: Position, queue: Queue, theirs: int, length: int) -> list[Action]:
    """Continue the endpoint's generation: it has our bytes up to `length`, under a number that this spool lost."""
    ours = position.generation
    # An item that begins before `length` and ends after it would be refused as a whole. Drop it; its bytes become a
    # part of the gap and are read from the file again.
    straddling = queue.end_of_straddling(ours, length)
    until = length if straddling is None else straddling
    return [
        Renumber(ours, theirs),
        DropStart(theirs),
        Drop(theirs, until),
        MoveTo(position.adopted(theirs, length, queue.first(ours, after=until))),
    ]


def _plan_new_generation(position: Position, queue: Queue, number: int, *, unchanged: bool) -> list[Action]:
    """Begin a generation that shares nothing with earlier ones: the whole file is read and queued again.

    Queued bytes of older generations exist only in the outbox, so they are uploaded first, as far as it has them. The
    same holds for the current generation, unless the file is `unchanged` and will be read again as a whole.
    """
    actions: list[Action] = []
    if unchanged:
        actions.append(Drop(position.generation))
        queue = queue.without(position.generation)
    salvaged, number = _plan_salvage(position, queue, number)
    actions += salvaged
    actions.append(MoveTo(position.restarted(number)))
    if unchanged:
        actions.append(ClearLosses())
    if number:
        actions.append(Begin(number))
    return actions


def plan_without_source(position: Position, queue: Queue, remote: RemotePosition, trust: Trust) -> list[Action]:
    """Return how the outbox is made to continue what the endpoint holds, although the tool's file is gone everywhere.

    Without the file nothing can be compared, so only what this endpoint acknowledged is trusted. Bytes that it needs
    before those in the outbox, and that exist nowhere, are replaced by a placeholder of the same length. Those bytes,
    and bytes missing at the end, count as lost (see spool/safety.py).
    """
    theirs, generation = remote.generation, position.generation
    # In each case: the endpoint may hold less than it acknowledged, if it was restored from an older copy. With the old
    # count, the bytes at the end that it lacks would be reported as safe.
    common = 0 if trust.unproven and queue.runs else _still_acknowledged(position, queue, remote)
    given_up = position.given_up(common)
    unconfirmed = _unconfirmed(position, queue, remote, trust)
    if unconfirmed:
        return [MoveTo(position.given_up(0)), Confirm(unconfirmed)]
    if _leads(position, queue, remote, trust) and (theirs != generation or remote.length <= common):
        return [MoveTo(given_up)]  # the queued bytes follow directly
    if not queue.runs:
        return [MoveTo(given_up)]  # all bytes after `common` are lost
    first = queue.first(generation)
    start = position.folded if first is None else first
    ours = theirs == generation and not queue.begins(generation) and not trust.unproven
    if ours and queue.generations == {generation} and remote.length <= start:
        # The endpoint appends only directly behind its bytes: a placeholder fills the hole up to the outbox.
        return [MoveTo(given_up), Fill(generation, remote.length, start), CountLost(generation, common, start)]
    free = _next_number(position, remote)
    actions, number = _plan_salvage(position, queue, free, common=common)
    if first is None and number > free:
        # Only earlier generations were queued, and they get later numbers. The current one has to follow them, or an
        # earlier state would count as the current one, and as safe.
        actions.append(Begin(number, generation if common else None, common))
        number += 1
    # The endpoint has acknowledged nothing of the new generation but what it keeps of the old one.
    kept = start if first is not None and common >= start else 0
    return [*actions, MoveTo(replace(given_up, generation=number - 1, acked=kept))]


def _unconfirmed(position: Position, queue: Queue, remote: RemotePosition, trust: Trust) -> int:
    """Return how many bytes of the current generation the endpoint may have, if only these bytes can show it.

    Their number proves nothing then. A stream that has placeholders is incomplete in any case, and queued bytes get a
    generation of their own.
    """
    if not trust.unproven or trust.lost or queue.runs or remote.generation is None:
        return 0
    if remote.generation > position.generation:
        return position.folded  # it keeps earlier generations
    return min(position.folded, remote.length) if remote.generation == position.generation else 0


def _still_acknowledged(position: Position, queue: Queue, remote: RemotePosition) -> int:
    """Return how many bytes of the current generation this endpoint acknowledged and still holds."""
    if remote.generation is None or remote.generation < position.generation:
        return 0  # it never got this generation, or has lost it
    if remote.generation > position.generation:
        return position.acked  # it keeps earlier generations, so they can still be read there
    if queue.begins(position.generation):
        return 0  # its generation of this number is not ours, which is still to begin there
    return min(position.acked, remote.length)


def plan_lost_gap(position: Position, queue: Queue) -> list[Action]:
    """Return how a stream goes on whose missing bytes exist nowhere, while nothing else is known of the endpoint.

    The endpoint would always refuse what is queued behind a gap. So a placeholder takes the place of the gap.
    """
    actions: list[Action] = [MoveTo(position.given_up(position.acked))]
    if position.gap is not None and queue.first(position.generation, after=position.gap[1]) is not None:
        start, end = position.gap
        actions += [Fill(position.generation, start, end), CountLost(position.generation, start, end)]
    return actions


def _plan_salvage(position: Position, queue: Queue, number: int, *, common: int = 0) -> tuple[list[Action], int]:
    """Renumber queued generations from `number` on, so that the endpoint takes them; return the next free number too.

    The endpoint lacks what comes before them. The first `common` bytes of the current generation are there: they are
    kept, not replaced by a placeholder.
    """
    actions: list[Action] = []
    for generation in sorted(queue.generations):
        actions.append(DropStart(generation))
        first = queue.first(generation)
        if first is None:
            continue
        actions.append(Renumber(generation, number))
        if generation == position.generation and 0 < first <= common:
            actions.append(Begin(number, generation, first))
        else:
            actions += [Begin(number), Fill(number, 0, first), CountLost(generation, 0, first)]
        number += 1
    return actions, number
