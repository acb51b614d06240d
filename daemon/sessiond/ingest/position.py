"""A stream's position: how far it was read, queued and acknowledged, and the rules by which that changes.

Everything here is pure: it reads no file, no spool and no clock. What is done when the endpoint differs is decided in
reconcile_plan.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from sessiond.endpoint.wire import RemotePosition
from sessiond.errors import SpoolDamaged
from sessiond.spool.rows import StreamState


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far one stream has come. All lengths are in bytes of the current generation."""

    generation: int = 0
    folded: int = 0
    """Captured, and folded into the session's record."""
    queued: int = 0
    """Put into the outbox; less than `folded` if that was full."""
    acked: int = 0
    """Acknowledged by the endpoint."""
    gap: tuple[int, int] | None = None
    """(start, end) of the bytes that the endpoint acknowledged and lost; they are read again before all others."""
    skipped: int | None = None
    """The offset at which the transcript stopped being kept. Only the record is kept from there on."""

    def __post_init__(self) -> None:
        """Check the position. Raises: SpoolDamaged.

        A position outside these bounds would send bytes at offsets that they don't have, and corrupt the stream at the
        endpoint. A rebuilt spool compares the file with the endpoint instead, and sends only what is missing.
        """
        start, end = self.gap or (0, 1)
        valid = (
            self.generation >= 0
            and 0 <= self.queued <= self.folded
            and 0 <= self.acked <= self.folded
            and 0 <= start < end
            and (self.gap is None or end <= self.folded)
            and 0 <= (self.skipped or 0) <= self.folded
        )
        if not valid:
            raise SpoolDamaged(f"a stream has an impossible position: {self!r}")

    def rewritten(self, keep: int) -> tuple[Position, int, list[tuple[int, int]]]:
        """Return the position after a rewrite that kept the first `keep` bytes.

        Returns: the position; how many bytes the new generation shares with the old one; and (start, end) of the bytes
        that are lost.

        The new generation shares only bytes that were queued for the old one: the outbox leads the endpoint to those.
        All other kept bytes are queued again. To share more would leave a hole that the endpoint refuses.
        """
        queued = self.queued if self.skipped is None else self.skipped
        shared = min(keep, queued, self.gap[0] if self.gap else keep)
        # Bytes that waited in the file for space in the outbox, and are no longer there: no copy of them exists.
        lost = [(max(keep, self.queued), self.folded)]
        if self.gap is not None:  # rewritten before the gap could be read again: the endpoint lacks those bytes
            lost.append((max(keep, self.gap[0]), self.gap[1]))
        moved = Position(
            generation=self.generation + 1,
            folded=keep,
            queued=shared if self.skipped is None else keep,
            acked=min(self.acked, shared),
            skipped=None if self.skipped is None else shared,
        )
        return moved, shared, [(start, end) for start, end in lost if start < end]

    def abandoned(self, keep: int, queue: Queue) -> list[tuple[int, int]]:
        """Return (start, end) of the bytes after `keep` that were given up: see `given_up`.

        They are not acknowledged, and the outbox does not have them. While they are the end of the current generation,
        that alone shows that they are lost. A rewrite leaves the generation, so they have to be counted then.
        """
        if self.gap is not None or self.skipped is not None:
            return []  # they are to be read again, or are not kept
        lost, start = [], max(keep, self.acked)
        for run in sorted(run for run in queue.runs if run.generation == self.generation and run.length):
            if run.offset > start:
                lost.append((start, run.offset))
            start = max(start, run.end)
        return [*lost, (start, self.queued)] if start < self.queued else lost

    def rewound(self, offset: int, first: int) -> Position:
        """Return the position where the endpoint has `offset` bytes, and the outbox begins at `first`.

        The bytes between the two become the gap: without them, the endpoint would refuse what follows.
        """
        return replace(self, acked=offset, gap=(offset, first) if offset < first else self.gap)

    def adopted(self, generation: int, length: int, first: int | None) -> Position:
        """Return the position in a generation of the endpoint that has our first `length` bytes.

        `first` is the first byte in the outbox that the endpoint lacks; None if there is none.
        """
        queued = max(self.queued, length)
        # The outbox may have bytes below an old gap. Then that gap stays, as far as the endpoint does not have it.
        gap = None if self.gap is None or self.gap[1] <= length else (max(self.gap[0], length), self.gap[1])
        here = replace(self, generation=generation, queued=queued, gap=gap)
        return here.rewound(length, queued if first is None else first)

    def restarted(self, generation: int) -> Position:
        """Return the position at the start of a generation that shares nothing: all bytes are queued again."""
        return replace(self, generation=generation, queued=0, acked=0, gap=None)

    def given_up(self, acked: int) -> Position:
        """Return the position when nothing is waited for any more: bytes that aren't queued exist nowhere.

        Of the current generation, the endpoint has `acked` bytes. What it lacks and the outbox has not counts as lost;
        see spool/safety.py.
        """
        return replace(self, queued=self.folded, acked=acked, gap=None)


def position_of(stream: StreamState) -> Position:
    """Return the position of a stream. Raises: SpoolDamaged."""
    return Position(
        generation=stream.generation,
        folded=stream.folded,
        queued=stream.queued,
        acked=stream.acked,
        gap=stream.gap,
        skipped=stream.skipped,
    )


def set_position(stream: StreamState, to: Position) -> None:
    """Set the position of a stream's working copy."""
    stream.generation, stream.folded, stream.queued = to.generation, to.folded, to.queued
    stream.acked, stream.gap, stream.skipped = to.acked, to.gap, to.skipped


# The outbox of one stream


class Run(NamedTuple):
    """An item of the outbox: bytes of a generation, or its start (length 0)."""

    generation: int
    offset: int
    length: int
    parked: bool = False
    """Whether it is set aside because the endpoint rejected it."""

    @property
    def end(self) -> int:
        """The offset after it."""
        return self.offset + self.length


class Queue:
    """What the outbox has of one stream, in the order in which it is pushed."""

    def __init__(self, runs: Iterable[tuple[int, int, int] | tuple[int, int, int, bool]]) -> None:
        self.runs = tuple(Run(*run) for run in runs)

    @property
    def generations(self) -> frozenset[int]:
        """The generations that have anything queued."""
        return frozenset(run.generation for run in self.runs)

    def begins(self, generation: int) -> bool:
        """Return whether the start of a generation is queued: the endpoint has not acknowledged that it began."""
        return any(run.generation == generation and not run.length for run in self.runs)

    def has_earlier(self, generation: int) -> bool:
        """Return whether an item of an earlier generation is queued: its start, or bytes that are not parked.

        An endpoint that is at `generation` may refuse that item each time. It was parked or refused before, and the
        later generation was sent without it.
        """
        return any(run.generation < generation and not (run.length and run.parked) for run in self.runs)

    def first(self, generation: int, after: int = 0) -> int | None:
        """Return the first queued byte of a generation in items that end behind `after`; None if there is none."""
        runs = (run for run in self.runs if run.generation == generation and run.length and run.end > after)
        return min((run.offset for run in runs), default=None)

    def end_of_straddling(self, generation: int, offset: int) -> int | None:
        """Return the end of the item that begins before `offset` and ends after it; None if there is none."""
        runs = (run for run in self.runs if run.generation == generation and run.offset < offset < run.end)
        return next((run.end for run in runs), None)

    def without(self, generation: int) -> Queue:
        """Return the queue without a generation."""
        return Queue(run for run in self.runs if run.generation != generation)

    def leads(self, remote: RemotePosition, to: int) -> bool:
        """Return whether pushing it leads from what the endpoint holds to the generation `to`, without a hole.

        A parked item is a hole: what follows it would be refused, compared and sent again, in a circle.
        """
        generation, end = (0, 0) if remote.generation is None else (remote.generation, remote.length)
        if remote.generation is None and self.first(0) != 0:
            return False
        for run in self.runs:
            begins = run.generation == generation + 1 and run.length == 0 and run.offset <= end
            if run.parked or (not begins and (run.generation, run.offset) != (generation, end)):
                return False
            generation, end = run.generation, run.end
        return generation == to
