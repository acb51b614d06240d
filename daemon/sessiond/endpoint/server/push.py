"""A push on its way to the store: its lines are decoded, and then decided together with those of other pushes.

While pushes are written, all other devices wait. So lines are decoded and verified before the write transaction
(push_lines.py). Appends of bulk pushes that may be duplicates are also compared with the stored bytes before it.
Digests of whole streams are computed after it (digester.py). The CPU time of the lines inside it is limited.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from sessiond.endpoint.server import streams
from sessiond.endpoint.server.decide import decide
from sessiond.endpoint.server.decision import Decision, DecodedPush, Sender
from sessiond.endpoint.server.push_lines import PushLine, decode_lines, push_full
from sessiond.endpoint.server.reading import Comparer
from sessiond.endpoint.server.state import Touched
from sessiond.endpoint.server.tokens import Revoked, WrongDevice
from sessiond.endpoint.wire import Limits, PushAppend, PushGeneration, PushSession, Result

if TYPE_CHECKING:
    from sessiond.endpoint.server.database import Database
    from sessiond.endpoint.server.store import Store

SECONDS = 0.5
"""CPU seconds that the lines of a bulk push may take in the store. The remaining lines are answered `push-full`."""
COMPARED = 64 << 20
"""Bytes that one push may have decoded to compare its appends with the stored bytes."""
NAMES = 20_000
"""Streams that the lines of one push may name. A record of MAX_RECORD bytes has fewer."""


class PushOutcome(msgspec.Struct, frozen=True):
    """The results of a push in order, and the streams whose digests some of them still need: see `complete`.

    `pending`: the state of a stream by the index of its result. `previous`: the id of the push before this one.
    `uncompared`: the indexes of lines to compare with bytes in objects before the push is stored once more.
    """

    results: list[Result]
    pending: dict[int, streams.State]
    previous: str | None = None
    uncompared: tuple[int, ...] = ()

    def complete(self, digests: Sequence[str]) -> list[Result]:
        """Return the results with the digests of `pending`, which are in its order."""
        results = list(self.results)
        for index, digest in zip(self.pending, digests, strict=True):
            found = results[index].problem
            assert found is not None
            field = "sha256" if self.pending[index].follows_sha256 else "after"
            results[index] = Result(status="problem", problem=msgspec.structs.replace(found, **{field: digest}))
        return results

    def with_compared(self, again: PushOutcome) -> PushOutcome:
        """Return the outcome with the results of `uncompared` lines from when the push was stored once more."""
        results, pending = list(self.results), dict(self.pending)
        for index in self.uncompared:
            results[index] = again.results[index]
            if index in again.pending:
                pending[index] = again.pending[index]
        return PushOutcome(results, pending, self.previous)


class PushRequest:
    """One push. Call `prepare` with its lines, or pass a function `read` that returns them; then call `apply`."""

    def __init__(
        self, store: Store, limits: Limits, sender: Sender, read: Callable[[], list[bytes]] | None = None
    ) -> None:
        self.store, self.limits, self.sender = store, limits, sender
        self.decoded = DecodedPush(sender, [])
        self.names = 0
        """Number of streams that the lines name: a measure of what storing the push costs."""
        self._read = read

    def prepare(self, lines: list[bytes]) -> None:
        """Decode and verify the lines, and compare those that may be duplicates, outside the write transaction.

        `lines` is emptied, so that no line is in memory twice.
        """
        self._decode(lines)
        self.compare()

    def read(self) -> bool:
        """Read and decode the lines, unless that was done. Return whether there are any.

        A push without lines changes nothing: neither the token's device nor the id of the device's last push. The
        appends of a push that was not prepared are compared in the transaction, since few of them are duplicates.

        Raises:
            HttpError: the body can't be decoded.
        """
        if self._read is not None:
            self._decode(self._read())
            self._read = None
        return bool(self.decoded.lines)

    def _decode(self, lines: list[bytes]) -> None:
        decoded = decode_lines(lines, self.limits)
        self._limit_names(decoded)
        self.decoded = DecodedPush(self.sender, decoded)

    def _limit_names(self, decoded: list[PushLine | Result]) -> None:
        for index, line in enumerate(decoded):
            if isinstance(line, PushLine):
                self.names += 1 + (len(line.item.streams) if isinstance(line.item, PushSession) else 0)
                if self.names > NAMES and index:
                    _leave_rest(decoded, index)
                    return

    def compare(self) -> None:
        """Find the appends whose bytes are already stored, outside the write transaction, while others may write.

        Raises:
            BlobsUnavailable: the object store that has the bytes can't be read now.
        """
        decoded = self.decoded.lines
        compared = 0

        def meter(size: int) -> None:
            nonlocal compared
            compared += size

        comparer = Comparer(self.store, meter)
        for index, line, stream in self._repeated(decoded):
            if compared > COMPARED:
                _leave_rest(decoded, index)
                return
            item, payload = line.item, line.payload
            assert isinstance(item, PushAppend)
            assert payload is not None
            line.held = comparer.same(stream, item.generation, item.offset, payload.plain())

    def _repeated(self, decoded: list[PushLine | Result]) -> list[tuple[int, PushLine, int]]:
        """Return the appends up to whose end the store has bytes: their index, and the number of the stream."""
        user = self.sender.access.user
        found: list[tuple[int, PushLine, int]] = []
        with self.store.read() as db:
            for index, line in enumerate(decoded):
                if not isinstance(line, PushLine) or not isinstance(line.item, PushAppend) or line.payload is None:
                    continue
                item = line.item
                stream = streams.find(db, user, line.machine, line.session, item.stream)
                held = None if stream is None else streams.find_generation(db, stream, item.generation)
                if stream is not None and held is not None and item.offset + item.length <= held.length:
                    found.append((index, line, stream))
        return found


class CpuBudget:
    """Allows some work for the lines of one push (`push`), and for all pushes of a transaction (`total`).

    Both are CPU seconds; `clock` returns those of this thread.
    """

    def __init__(
        self, clock: Callable[[], float] = time.thread_time, *, push: float = SECONDS, total: float = SECONDS
    ) -> None:
        self._clock = clock
        self._push, self._total = push, total
        self._begun = self._push_begun = clock()

    def begin_push(self) -> bool:
        """Return whether another push may begin."""
        self._push_begun = self._clock()
        return self._push_begun - self._begun <= self._total

    def begin_line(self) -> bool:
        """Return whether another line of this push may be decided."""
        return self._clock() - self._push_begun <= self._push


def apply(
    store: Store, db: Database, pushes: Sequence[PushRequest], budget: CpuBudget | None = None
) -> list[PushOutcome | WrongDevice | Revoked]:
    """Store prepared pushes in the caller's transaction and return their outcomes, in order.

    If the budget is used up, the outcomes of the last pushes are missing: nothing of them is stored. Pushes may be
    applied again if the transaction was rolled back.
    """
    decoded = [push.decoded for push in pushes]
    state = store.load(db, touched(decoded))
    decisions, changes = decide(state, decoded, budget or CpuBudget())
    store.save(db, changes)
    return [_outcome(each) if isinstance(each, Decision) else each for each in decisions]


def touched(pushes: Iterable[DecodedPush]) -> Touched:
    """Return the names that pushes have."""
    names = Touched()
    for push in pushes:
        access = push.sender.access
        if access.name is not None:
            names.tokens.add(access.digest)
        names.devices.add((access.user, str(push.sender.device)))
        for line in push.lines:
            if isinstance(line, PushLine):
                _touch(names, access.user, line)
    return names


def _touch(names: Touched, user: str, line: PushLine) -> None:
    session = (user, line.machine, line.session)
    names.machines.add(session[:2])
    names.sessions.add(session)
    item = line.item
    if isinstance(item, PushSession):
        names.streams.update((*session, stream.name) for stream in item.streams)
        return
    stream = (*session, item.stream)
    names.streams.add(stream)
    names.generations.add((stream, item.generation))
    if isinstance(item, PushGeneration) and item.previous is not None:
        names.generations.add((stream, item.previous))


def _outcome(decision: Decision) -> PushOutcome:
    pending = {}
    for index, position in decision.pending.items():
        assert position.stream.number is not None  # it was saved
        pending[index] = streams.State(
            position.stream.number, position.generation, position.length, position.digest, position.follows_sha256
        )
    return PushOutcome(decision.results, pending, decision.previous, decision.uncompared)


def _leave_rest(decoded: list[PushLine | Result], start: int) -> None:
    """Leave the lines from `start` on for another push."""
    decoded[start:] = [each if isinstance(each, Result) else push_full(each.where) for each in decoded[start:]]
