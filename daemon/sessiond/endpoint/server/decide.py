"""The rules of a push (docs/protocol.md), as a function of the stored state. It has no SQL and no clock.

Every operation is idempotent: a client that lost an answer sends the same lines again, and each is answered
`duplicate`. A record is identified by its revision, an append by its offset and its bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from sessiond.endpoint.server import keep_rule, limits, usage
from sessiond.endpoint.server.decision import Budget, Decision, DecodedPush, Position, Sender
from sessiond.endpoint.server.push_lines import PushLine, push_full
from sessiond.endpoint.server.results import DUPLICATE, STORED, ItemError, machine_taken, other_state, problem
from sessiond.endpoint.server.state import Changes, MachineState, Record, State, TokenState
from sessiond.endpoint.server.stream_state import NotComparable, OtherBytes, SessionKey, StreamState
from sessiond.endpoint.server.tokens import Revoked, WrongDevice
from sessiond.endpoint.wire import (
    FREE_GENERATION,
    FREE_REVISION,
    STEP,
    PushAppend,
    PushGeneration,
    PushSession,
    Result,
)

OTHER_BYTES = "; its bytes are not those that `after` is the digest of"
ALL_MACHINES = ""
"""The machine of a tombstone that is valid for all machines of the user. No machine has this id."""


def decide(
    state: State, pushes: Sequence[DecodedPush], budget: Budget | None = None
) -> tuple[list[Decision | WrongDevice | Revoked], Changes]:
    """Return the outcome of each push, in order, and the changes to save.

    `state` must have all that the pushes name; it is changed. If the budget does not allow another push, the outcomes
    of the last pushes are missing. Lines that it does not allow are answered `push-full`.
    """
    changes = Changes()
    outcomes: list[Decision | WrongDevice | Revoked] = []
    for push in pushes:
        # Asked for the first push as well: its time must not begin with the loading of the state of all pushes.
        if budget is not None and not budget.begin_push() and outcomes:
            break
        try:
            _bind(state, changes, push.sender)
        except (WrongDevice, Revoked) as refused:  # raised before anything of the push is changed
            outcomes.append(refused)
            continue
        decider = _Decider(state, changes, push.sender)
        results = decider.lines(push.lines, budget)
        outcomes.append(Decision(results, decider.pending, decider.note_batch(), tuple(decider.uncompared)))
    return outcomes, changes


def _bind(state: State, changes: Changes, sender: Sender) -> None:
    """Bind the sender's token to its device. Since the request began, the token may have been revoked or bound.

    Raises:
        WrongDevice: it belongs to another device, or was released from this one.
        Revoked: it is not stored any more.
    """
    access = sender.access
    if access.name is None:
        return
    token = state.tokens.get(access.digest)
    if token is None:
        raise Revoked("the token is not accepted")
    msgspec.structs.replace(access, device=token.device, released=token.released).check_device(sender.device)
    if token.device is None:
        state.tokens[access.digest] = TokenState(sender.device, token.released)
        changes.tokens[access.digest] = sender.device


class _Decider:
    """Decides the lines of one push."""

    def __init__(self, state: State, changes: Changes, sender: Sender) -> None:
        self._state, self._changes, self._sender = state, changes, sender
        self._user, self._device = sender.access.user, str(sender.device)
        self._account = limits.Account(state, changes, self._user)
        self._index = 0
        self.pending: dict[int, Position] = {}
        self.uncompared: list[int] = []

    def lines(self, lines: list[PushLine | Result], budget: Budget | None) -> list[Result]:
        """Return the result of each line."""
        results: list[Result] = []
        full = False
        for self._index, line in enumerate(lines):
            if isinstance(line, Result):
                results.append(line)
                continue
            full = full or (self._index > 0 and budget is not None and not budget.begin_line())
            results.append(push_full(line.where) if full else self._line(line))
        return results

    def note_batch(self) -> str | None:
        """Record the id of the push, and return that of the one before.

        Without space for a row, the device does not get the id of its last push, so it requests the offsets of its
        streams.
        """
        key, batch = (self._user, self._device), self._sender.batch
        previous = self._state.batches.get(key)
        if not batch:
            return None
        if previous is None:
            try:
                self._account.add_row()
            except ItemError:
                return None
        self._state.batches[key] = self._changes.batches[key] = batch
        return previous

    def _line(self, line: PushLine) -> Result:
        key = (self._user, line.machine)
        owner = self._state.machines.get(key)
        try:
            return self._item(line, line.item)
        except ItemError as bad:
            # The line claimed the machine before it failed.
            if self._state.machines.get(key) is not owner:
                self._changes.machines.pop(key)
                if owner is None:
                    del self._state.machines[key]
                    self._account.add(-usage.ROW_SIZE)
                else:
                    self._state.machines[key] = owner
            return bad.result(line.where)

    def _item(self, line: PushLine, item: PushSession | PushAppend | PushGeneration) -> Result:
        session = (self._user, line.machine, line.session)
        forgotten = self._state.forgotten
        if session in forgotten or (self._user, ALL_MACHINES, session[2]) in forgotten:
            return problem("forgotten", f"{line.where}: the session was erased at this endpoint")
        if isinstance(item, PushSession):
            if item.device_id != self._sender.device:
                raise ItemError("invalid", "device_id differs from the header Sessiond-Device")
            client = [(stream.name, stream.generation, stream.length) for stream in item.streams]
        else:
            # The line does not have the length of the generation at the source, so only later ones are `ahead` of it.
            client = [(item.stream, item.generation, sys.maxsize)]
        if not self._claim(line.machine):
            return machine_taken(self._user, line.machine)
        refused = keep_rule.refuse(self._state, self._changes, self._account, session, item)
        if refused is not None:
            return refused
        if isinstance(item, PushSession):
            result = self._session(session, line, item)
        else:
            result = self._stream_line(session, line, item)
        if result is STORED:
            self._changes.changed.pop(session, None)  # moves it to the end
            self._changes.changed[session] = None
        if result.problem is not None or (isinstance(item, PushSession) and result is not STORED):
            return result
        ahead = self._state.ahead(session, client)
        return msgspec.structs.replace(result, ahead=ahead) if ahead else result

    def _claim(self, machine: str) -> bool:
        """Assign a free machine id to the device, and return whether the id belongs to it."""
        key = (self._user, machine)
        owner = self._state.machines.get(key)
        if owner is None:
            # A line whose item is not stored still adds this row, so many such lines could fill the disk.
            self._account.add_row()
        elif owner.device == self._device:
            return True
        elif not owner.open:
            return False
        self._state.machines[key] = MachineState(self._device)
        self._changes.machines[key] = self._device
        return True

    def _session(self, session: SessionKey, line: PushLine, item: PushSession) -> Result:
        stored = self._state.revisions.get(session)
        if stored == item.revision or (item.prompts_only and self._is_whole(session)):
            return DUPLICATE
        if stored is not None and stored > item.revision:
            return problem("stale", f"session {line.session}: revision {item.revision} is not above", revision=stored)
        if item.revision > max((stored or 0) + STEP, FREE_REVISION):
            raise ItemError("invalid", f"revision {item.revision} is too far above {stored or 0}")
        size = len(line.envelope)
        self._account.take(size, size - self._state.envelopes.get(session, 0), reserve=False)
        self._state.revisions[session], self._state.envelopes[session] = item.revision, size
        self._changes.records[session] = Record(item, line.envelope)
        keep_rule.note_stored(self._state, self._changes, self._account, session)
        return STORED

    def _is_whole(self, session: SessionKey) -> bool:
        record = self._changes.records.get(session)
        return self._state.lookup.is_whole(session) if record is None else not record.item.prompts_only

    def _stream_line(self, session: SessionKey, line: PushLine, item: PushAppend | PushGeneration) -> Result:
        try:
            if isinstance(item, PushAppend):
                return self._append(session, line, item)
            return self._generation(session, item)
        except OtherBytes:  # raised before anything is changed
            return self._mismatch(self._stream(session, item.stream), item, "offset-mismatch", OTHER_BYTES)

    def _append(self, session: SessionKey, line: PushLine, item: PushAppend) -> Result:
        payload = line.payload
        assert payload is not None
        stream = self._stream(session, item.stream)
        to = stream.generations.get(item.generation)
        if to is None:
            if item.generation > 0:
                return self._mismatch(stream, item, "no-generation")
            if item.offset > 0:
                return self._mismatch(stream, item, "offset-mismatch")
        elif item.offset != to.length:
            if item.offset + item.length > to.length:
                return self._mismatch(stream, item, "offset-mismatch")
            held = line.held
            if held is None:  # stored after the comparison, by another push or by an earlier line
                try:
                    held = stream.same(to, item.offset, payload.plain(), self._state.lookup)
                except NotComparable:
                    self.uncompared.append(self._index)
                    return push_full(line.where)
            return DUPLICATE if held else self._mismatch(stream, item, "offset-mismatch")
        extended = stream.extended(to, item, payload, self._state.lookup)
        if stream.current is None:
            limits.add_stream(self._state, session)
        new = usage.ROW_SIZE * (stream.current is None) + usage.GENERATION_SIZE * (to is None)
        self._account.take(payload.wire_size(), item.length + new)
        if to is None:
            to = stream.begin(0, None, 0, self._state.lookup)
        stream.append(to, item, payload, extended)
        self._changes.streams[stream.name] = stream
        return STORED

    def _generation(self, session: SessionKey, item: PushGeneration) -> Result:
        stream = self._stream(session, item.stream)
        existing = stream.generations.get(item.generation)
        if existing is not None:
            if (existing.previous, existing.keep) == (item.previous, item.keep):
                return DUPLICATE
            return self._mismatch(stream, item, "offset-mismatch")
        current = stream.current
        if current is not None and current.generation > item.generation:
            return self._mismatch(stream, item, "offset-mismatch")
        highest = 0 if current is None else current.generation
        if item.generation > max(highest + STEP, FREE_GENERATION):
            raise ItemError("invalid", f"generation {item.generation} is too far above {highest}")
        if item.keep:
            source = None if item.previous is None else stream.generations.get(item.previous)
            if source is None:
                return self._mismatch(stream, item, "no-generation")
            if source.length < item.keep:
                return self._mismatch(stream, item, "offset-mismatch")
            stream.check_kept(source, item, self._state.lookup)
        if current is None:
            limits.add_stream(self._state, session)
        else:
            limits.add_generation(self._state, stream, highest)
        self._account.take(0, usage.ROW_SIZE * (current is None) + usage.GENERATION_SIZE)
        stream.begin(item.generation, item.previous, item.keep, self._state.lookup)
        self._changes.streams[stream.name] = stream
        return STORED

    def _stream(self, session: SessionKey, name: str) -> StreamState:
        key = (*session, name)
        found = self._state.streams.get(key)
        if found is None:
            found = self._state.streams[key] = StreamState(key)
        return found

    def _mismatch(self, stream: StreamState, item: PushAppend | PushGeneration, kind: str, reason: str = "") -> Result:
        """Return a problem with the stream's current position, so that the client needs no other request to go on.

        The digest is added later: hashing hundreds of megabytes here would keep every other device waiting.
        """
        sha256, now = item.after is UNSET, stream.current
        known = None
        if now is not None:
            known = now.sha256 if sha256 else None if now.digest is None else now.digest.hexdigest()
            self.pending[self._index] = Position(stream, now.generation, now.length, known, follows_sha256=sha256)
        at = None if now is None else (now.generation, now.length)
        return other_state(kind, f"stream {item.stream} of session {item.session}", at, reason, sha256=sha256)
