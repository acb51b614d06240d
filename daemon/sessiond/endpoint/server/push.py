"""Stores a push line by line. Each line is stored completely or answered with a problem; it affects no other line.

Every operation is idempotent: a client that lost an answer sends the same lines again, and each is answered
`duplicate`. A record is identified by its revision, an append by its offset and its bytes.

While one push writes, all other devices wait. So lines are decoded and verified before the write transaction
(push_lines.py), and appends that may be duplicates are compared with the stored bytes before it. Digests of whole
streams are computed after it (digester.py). The lines of one push may take SECONDS inside it.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec

from sessiond.endpoint.server import changes, erase, limits, machines, records, streams
from sessiond.endpoint.server.digests import EMPTY
from sessiond.endpoint.server.push_lines import PushLine, decode_lines, push_full
from sessiond.endpoint.server.results import DUPLICATE, STORED, ItemError, machine_taken, problem
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.tokens import Access, bind
from sessiond.endpoint.wire import (
    FREE_GENERATION,
    FREE_REVISION,
    STEP,
    Limits,
    PushAppend,
    PushGeneration,
    PushSession,
    Result,
)

SECONDS = 0.5
"""CPU seconds that the lines of one push may take in the store. The remaining lines are answered `push-full`."""
COMPARED = 64 << 20
"""Bytes that one push may have decoded to compare its appends with the stored bytes."""


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """The sender of a push: the access that its token gives, the device, and the id of the push."""

    access: Access
    device: UUID
    batch: str = ""


class PushOutcome(msgspec.Struct, frozen=True):
    """The results of a push in order, and the streams whose digests some of them still need: see `complete`.

    `pending`: the state of a stream by the index of its result. `previous`: the id of the push before this one.
    """

    results: list[Result]
    pending: dict[int, streams.State]
    previous: str | None = None

    def complete(self, digests: Sequence[str]) -> list[Result]:
        """Return the results with the digests of `pending`, which are in its order."""
        results = list(self.results)
        for index, digest in zip(self.pending, digests, strict=True):
            found = results[index].problem
            assert found is not None
            results[index] = Result(status="problem", problem=msgspec.structs.replace(found, sha256=digest))
        return results


class PushRequest:
    """One push: `prepare` it, and `apply` it in a transaction. `clock` returns the CPU seconds of this thread."""

    def __init__(
        self,
        store: Store,
        limits: Limits,
        sender: Sender,
        *,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self.store, self.limits = store, limits
        self.sender = sender
        self.user, self.device = sender.access.user, str(sender.device)
        self._clock = clock
        self._decoded: list[PushLine | Result] = []
        self._changed: dict[tuple[str, str], None] = {}
        self._pending: dict[int, streams.State] = {}

    def prepare(self, lines: list[bytes]) -> bool:
        """Decode and verify the lines, outside the write transaction. Return whether there are any.

        `lines` is emptied, so that no line is in memory twice. A push without lines changes nothing: neither the
        token's device nor the id of the device's last push.
        """
        self._decoded = decode_lines(lines, self.limits)
        self._compare(self._decoded)
        return bool(self._decoded)

    def apply(self, db: sqlite3.Connection) -> PushOutcome:
        """Store the prepared lines in the caller's transaction and return their results in order.

        It may be applied again if that transaction was rolled back.

        Raises:
            WrongDevice: the token belongs to another device. Nothing of the push was written.
            Revoked: the token was revoked after the request began. Nothing of the push was written.
        """
        self._changed, self._pending = {}, {}
        bind(db, self.sender.access, self.sender.device)
        results = self._store(db, self._decoded)
        if self._changed:
            changes.mark_changed(db, self.user, self._changed)
        previous = None
        if self.sender.batch and limits.can_note_batch(db, self.store, self.user, self.device):
            previous = machines.note_batch(db, self.user, self.device, self.sender.batch)
        return PushOutcome(results, self._pending, previous)

    def _compare(self, decoded: list[PushLine | Result]) -> None:
        """Find the appends whose bytes are already stored, outside the write transaction, while others may write."""
        compared = 0

        def meter(size: int) -> None:
            nonlocal compared
            compared += size

        with self.store.read() as db:
            for index, line in enumerate(decoded):
                if not isinstance(line, PushLine) or not isinstance(line.item, PushAppend) or line.payload is None:
                    continue
                item = line.item
                stream = streams.find(db, self.user, line.machine, str(line.session), item.stream)
                held = None if stream is None else streams.find_generation(db, stream, item.generation)
                if stream is None or held is None or item.offset + item.length > held.length:
                    continue
                if compared > COMPARED:
                    decoded[index:] = [
                        each if isinstance(each, Result) else push_full(each.where) for each in decoded[index:]
                    ]
                    return
                line.held = streams.same(db, stream, item.generation, item.offset, line.payload.plain(), meter)

    def _store(self, db: sqlite3.Connection, decoded: list[PushLine | Result]) -> list[Result]:
        results: list[Result] = []
        begun, full = self._clock(), False
        for index, line in enumerate(decoded):
            if isinstance(line, Result):
                results.append(line)
                continue
            full = full or (index > 0 and self._clock() - begun > SECONDS)
            results.append(push_full(line.where) if full else self._line(db, index, line))
        return results

    def _line(self, db: sqlite3.Connection, index: int, line: PushLine) -> Result:
        db.execute("SAVEPOINT item")
        try:
            result = self._item(db, index, line)
        except ItemError as bad:
            db.execute("ROLLBACK TO item")
            result = bad.result(line.where)
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
            # Only this line is at fault. Any other SQLite error fails the whole push, and nothing of it is stored.
            db.execute("ROLLBACK TO item")
            self.store.digests.clear()  # they may include bytes that were rolled back
            result = problem("invalid", f"{line.where}: {error}")
        db.execute("RELEASE item")
        return result

    def _item(self, db: sqlite3.Connection, index: int, line: PushLine) -> Result:
        item = line.item
        # In the transaction that stores the line: one that was under way while the session was erased is refused too.
        if erase.is_forgotten(db, self.user, line.machine, str(line.session)):
            return problem("forgotten", f"{line.where}: the session was erased at this endpoint")
        if isinstance(item, PushSession):
            return self._session(db, line, item)
        if not limits.claim_machine(db, self.store, self.user, line.machine, self.device):
            return machine_taken(self.user, line.machine)
        if isinstance(item, PushAppend):
            result = self._append(db, index, line, item)
        else:
            result = self._generation(db, index, item)
        if result is STORED:
            self._changed[line.machine, str(line.session)] = None
        if result.problem is not None:
            return result
        # An append does not say how long its generation is at the source, so only later generations are `ahead` of it.
        return self._with_ahead(
            result, db, line.machine, str(line.session), [(item.stream, item.generation, sys.maxsize)]
        )

    def _session(self, db: sqlite3.Connection, line: PushLine, item: PushSession) -> Result:
        machine, session = line.machine, str(line.session)
        if item.device_id != self.sender.device:
            raise ItemError("invalid", "device_id differs from the header Sessiond-Device")
        if not limits.claim_machine(db, self.store, self.user, machine, self.device):
            return machine_taken(self.user, machine)
        stored = records.revision(db, self.user, machine, session)
        if stored == item.revision or (item.prompts_only and records.is_whole(db, self.user, machine, session)):
            return DUPLICATE
        if stored is not None and stored > item.revision:
            return problem("stale", f"session {session}: revision {item.revision} is not above", revision=stored)
        if item.revision > max((stored or 0) + STEP, FREE_REVISION):
            raise ItemError("invalid", f"revision {item.revision} is too far above {stored or 0}")
        limits.check_quota(db, self.store, len(line.envelope))
        records.put(db, self.user, machine, item, line.envelope)
        self._changed[machine, session] = None
        client = [(stream.name, stream.generation, stream.length) for stream in item.streams]
        return self._with_ahead(STORED, db, machine, session, client)

    def _append(self, db: sqlite3.Connection, index: int, line: PushLine, item: PushAppend) -> Result:
        payload = line.payload
        assert payload is not None
        stream = streams.find(db, self.user, item.machine_id, str(item.session), item.stream)
        to = None if stream is None else streams.find_generation(db, stream, item.generation)
        if stream is None or to is None:
            if item.generation > 0:
                return self._mismatch(db, index, stream, item, "no-generation")
            if item.offset > 0:
                return self._mismatch(db, index, stream, item, "offset-mismatch")
        elif item.offset != to.length:
            if item.offset + item.length > to.length:
                return self._mismatch(db, index, stream, item, "offset-mismatch")
            held = line.held
            if held is None:  # stored after the comparison, by another push or by an earlier line of this one
                held = streams.same(db, stream, to.generation, item.offset, payload.plain(), lambda _: None)
            return DUPLICATE if held else self._mismatch(db, index, stream, item, "offset-mismatch")
        if stream is None:
            limits.check_streams(db, self.user, item)
        limits.check_quota(db, self.store, payload.wire_size() + self.store.reserve)
        if stream is None or to is None:
            stream = streams.find_or_create(db, self.user, item.machine_id, str(item.session), item.stream)
            streams.begin(db, stream, 0, None, 0)
            to = streams.find_generation(db, stream, 0)
            assert to is not None
        streams.append(db, self.store.digests, stream, to, payload, item.media_type)
        return STORED

    def _generation(self, db: sqlite3.Connection, index: int, item: PushGeneration) -> Result:
        stream = streams.find(db, self.user, item.machine_id, str(item.session), item.stream)
        existing = None if stream is None else streams.find_generation(db, stream, item.generation)
        if existing is not None:
            if (existing.previous, existing.keep) == (item.previous, item.keep):
                return DUPLICATE
            return self._mismatch(db, index, stream, item, "offset-mismatch")
        current = None if stream is None else streams.find_generation(db, stream)
        if current is not None and current.generation > item.generation:
            return self._mismatch(db, index, stream, item, "offset-mismatch")
        highest = 0 if current is None else current.generation
        if item.generation > max(highest + STEP, FREE_GENERATION):
            raise ItemError("invalid", f"generation {item.generation} is too far above {highest}")
        if item.keep:
            source = (
                None if stream is None or item.previous is None else streams.find_generation(db, stream, item.previous)
            )
            if source is None:
                return self._mismatch(db, index, stream, item, "no-generation")
            if source.length < item.keep:
                return self._mismatch(db, index, stream, item, "offset-mismatch")
        limits.check_generations(db, self.user, stream, highest, item)
        limits.check_quota(db, self.store, self.store.reserve)
        stream = streams.find_or_create(db, self.user, item.machine_id, str(item.session), item.stream)
        streams.begin(db, stream, item.generation, item.previous, item.keep)
        if item.previous is not None:
            self.store.digests.branch(stream, item.generation, item.previous, item.keep)
        return STORED

    def _mismatch(
        self, db: sqlite3.Connection, index: int, stream: int | None, item: PushAppend | PushGeneration, kind: str
    ) -> Result:
        """Return a problem with the stream's current position, so that the client needs no other request to go on.

        The digest is added later: hashing hundreds of megabytes here would keep every other device waiting.
        """
        detail = f"stream {item.stream} of session {item.session}"
        current = None if stream is None else streams.find_generation(db, stream)
        if stream is None or current is None:
            return problem(kind, f"{detail}: no bytes of it are stored", generation=0, offset=0, sha256=EMPTY)
        self._pending[index] = streams.State(stream, current.generation, current.length, current.sha256)
        return problem(
            kind,
            f"{detail}: generation {current.generation} is stored up to byte {current.length}",
            generation=current.generation,
            offset=current.length,
        )

    def _with_ahead(
        self,
        result: Result,
        db: sqlite3.Connection,
        machine: str,
        session: str,
        client: Sequence[tuple[str, int, int]],
    ) -> Result:
        ahead = streams.ahead(db, self.user, machine, session, client)
        return msgspec.structs.replace(result, ahead=ahead) if ahead else result
