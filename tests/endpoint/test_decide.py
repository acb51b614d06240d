"""The rules of a push, without a store: `decide` against a model that keeps every generation as plain bytes."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest
from endpoint_lines import DEVICE, OTHER_DEVICE, Line, append, generation, record
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sessiond.endpoint.server.decide import decide
from sessiond.endpoint.server.decision import Decision, DecodedPush, Sender
from sessiond.endpoint.server.push import touched
from sessiond.endpoint.server.push_lines import decode_lines
from sessiond.endpoint.server.state import Changes, MachineState, Quota, State, Touched
from sessiond.endpoint.server.stream_state import GenerationState, SessionKey, StreamName, StreamState
from sessiond.endpoint.server.tokens import Access
from sessiond.endpoint.stream_digest import StreamDigest
from sessiond.endpoint.wire import Limits, Result

SESSIONS = [str(uuid.UUID(int=number)) for number in (1, 2)]
DEVICES = [DEVICE, OTHER_DEVICE]
USERS = ["ada", "bob"]
STARTED_MS = 1_793_527_200_000
"""When each session began, and was last active."""
TEXTS = [b"a", b"ab", b"aba", b"b"]


class MemoryStore:
    """Loads and saves in dicts. It has only the bytes that each generation owns, as a real store does."""

    def __init__(self) -> None:
        self.state = State(lookup=self, quota=Quota())
        self.names: dict[int, StreamName] = {}
        self.own: dict[tuple[int, int], bytes] = {}
        self.whole: set[SessionKey] = set()

    def load(self, names: Touched) -> State:
        """Return a copy of what is named, and of nothing else."""
        stored = self.state
        streams = {}
        for name in names.streams & stored.streams.keys():
            stream = stored.streams[name]
            assert stream.current is not None
            wanted = {stream.current.generation} | {number for key, number in names.generations if key == name}
            known = {number: self._generation(stream, number) for number in wanted}
            streams[name] = StreamState(name, stream.number, known[stream.current.generation], known)
        return State(
            lookup=self,
            quota=Quota(),
            machines={key: stored.machines[key] for key in names.machines & stored.machines.keys()},
            revisions={key: stored.revisions[key] for key in names.sessions & stored.revisions.keys()},
            forgotten={key for key in stored.forgotten if any(key[::2] == name[::2] for name in names.sessions)},
            expired=(names.sessions - stored.revisions.keys()) & stored.expired,
            oldest_ms=stored.oldest_ms,
            streams=streams,
        )

    def save(self, changes: Changes) -> None:
        """Apply the changes."""
        self.state.machines.update((key, MachineState(device)) for key, device in changes.machines.items())
        for key, each in changes.records.items():
            self.state.revisions[key] = each.item.revision
            if not each.item.prompts_only:
                self.whole.add(key)
        for key, revision in changes.expired.items():
            (self.state.expired.discard if revision is None else self.state.expired.add)(key)
        for name, stream in changes.streams.items():
            stored = self.state.streams.setdefault(name, StreamState(name, len(self.names) + 1))
            assert stored.number is not None
            self.names[stored.number] = name
            for number, each in stream.generations.items():
                if each is not None:
                    added = b"".join(tail.payload.plain() for tail in each.tails)
                    self.own[stored.number, number] = self.own.get((stored.number, number), b"") + added
                    kept = GenerationState(number, each.previous, each.keep, each.base, each.length)
                    stored.generations[number] = kept
                    if stored.current is None or stored.current.generation <= number:
                        stored.current = kept

    def let_go(self, session: SessionKey) -> None:
        """Remove everything of a session that is too old."""
        del self.state.revisions[session]
        self.whole.discard(session)
        for name in [name for name in self.state.streams if name[:3] == session]:
            del self.state.streams[name]
        self.state.expired.add(session)

    def read(self, stream: int, number: int, end: int) -> bytes:
        """Return the first `end` bytes of a generation."""
        each = self._stored(stream, number)
        if end <= each.keep:
            return b"" if each.base is None else self.read(stream, each.base, end)
        kept = b"" if each.base is None else self.read(stream, each.base, each.keep)
        assert len(kept) == each.keep
        return kept + self.own[stream, number][: end - each.keep]

    def owner(self, stream: int, number: int, keep: int) -> int:
        """Return the generation that has the last of the first `keep` bytes as its own."""
        each = self._stored(stream, number)
        while each.keep >= keep:
            assert each.base is not None
            each = self._stored(stream, each.base)
        return each.generation

    def same(self, stream: int, number: int, start: int, data: bytes) -> bool:
        """Compare bytes, of which the store must have all."""
        assert start + len(data) <= self._stored(stream, number).length
        return self.read(stream, number, start + len(data))[start:] == data

    def digest(self, stream: int, number: int, length: int) -> StreamDigest:
        """Compute the digest, which is always known here."""
        return digest_of(self.read(stream, number, length))

    def count_streams(self, session: SessionKey, limit: int) -> int:
        """Count the streams of a session."""
        return min(sum(name[:3] == session for name in self.state.streams), limit)

    def count_generations(self, stream: int, limit: int) -> int:
        """Count the generations of a stream."""
        return min(len(self.state.streams[self.names[stream]].generations), limit)

    def is_whole(self, session: SessionKey) -> bool:
        """Return whether a record of a whole session was ever stored."""
        return session in self.whole

    def _stored(self, stream: int, number: int) -> GenerationState:
        found = self.state.streams[self.names[stream]].generations[number]
        assert found is not None
        return found

    def _generation(self, stream: StreamState, number: int) -> GenerationState | None:
        found = stream.generations.get(number)
        return None if found is None else msgspec.structs.replace(found, stored=found.length, tails=[], passed=[])


class Model:
    """The protocol, line by line, with a copy of all bytes for each generation."""

    def __init__(self) -> None:
        self.owners: dict[tuple[str, str], str] = {}
        self.open: set[tuple[str, str]] = set()
        self.revisions: dict[SessionKey, tuple[int, bool]] = {}
        self.streams: dict[StreamName, dict[int, tuple[int | None, int, bytes]]] = {}
        self.forgotten: set[SessionKey] = set()
        self.undigested: set[tuple[StreamName, int]] = set()
        """Generations that the batch began with a part of another one, so that their digests are not known."""
        self.expired: set[SessionKey] = set()
        self.oldest_ms: dict[str, int] = {}

    def line(self, user: str, device: str, line: Line) -> str:
        """Apply a line, and return `stored`, `duplicate` or the type of the problem."""
        op = line["op"]
        machine = line["record"]["machine_id"] if op == "session" else line["machine_id"]
        session = line["record"]["id"] if op == "session" else line["session"]
        if {(user, machine, session), (user, "", session)} & self.forgotten:
            return "forgotten"
        owner = self.owners.get((user, machine))
        if owner not in (None, device) and (user, machine) not in self.open:
            return "machine-taken"
        if owner != device:
            self.owners[user, machine] = device
            self.open.discard((user, machine))
        key = (user, machine, session)
        if self._is_expired(key, op == "session"):
            return "expired"
        if op == "session":
            return self._record(key, line["revision"], line.get("prompts_only", False))
        held = self.streams.get((*key, line["stream"]), {})
        name = (*key, line["stream"])
        answer = self._append(held, line, name) if op == "append" else self._generation(held, line, name)
        if answer == "stored":
            self.streams[(*key, line["stream"])] = held
        return answer

    def _is_expired(self, key: SessionKey, is_record: bool) -> bool:
        old = is_record and self.oldest_ms.get(key[0], 0) > STARTED_MS
        if old and key not in self.revisions and not any(name[:3] == key for name in self.streams):
            self.expired.add(key)
        elif is_record and not old:
            self.expired.discard(key)
        return key in self.expired

    def let_go(self, session: SessionKey) -> None:
        """Remove everything of a session that is too old."""
        del self.revisions[session]
        self.streams = {name: held for name, held in self.streams.items() if name[:3] != session}
        self.expired.add(session)

    def _record(self, key: SessionKey, revision: int, prompts_only: bool) -> str:
        stored, whole = self.revisions.get(key, (-1, False))
        if stored == revision or (prompts_only and whole):
            return "duplicate"
        if stored > revision:
            return "stale"
        self.revisions[key] = (revision, whole or not prompts_only)
        return "stored"

    def _append(self, held: dict[int, tuple[int | None, int, bytes]], line: Line, name: StreamName) -> str:
        number, offset, data = line["generation"], line["offset"], line["data"].encode()
        if number not in held:
            if number:
                return "no-generation"
            if offset:
                return "offset-mismatch"
        previous, keep, content = held.get(number, (None, 0, b""))
        if offset == len(content):
            after = digest_of(content + data).hexdigest()
            if (name, number) not in self.undigested and line.get("after") not in (None, after):
                return "offset-mismatch"
            held[number] = (previous, keep, content + data)
            return "stored"
        return "duplicate" if content[offset : offset + len(data)] == data else "offset-mismatch"

    def _generation(self, held: dict[int, tuple[int | None, int, bytes]], line: Line, name: StreamName) -> str:
        number, previous, keep = line["generation"], line["previous"], line["keep"]
        if number in held:
            return "duplicate" if held[number][:2] == (previous, keep) else "offset-mismatch"
        if held and max(held) > number:
            return "offset-mismatch"
        content = b""
        if keep:
            if previous not in held:
                return "no-generation"
            content = held[previous][2]
            if len(content) < keep:
                return "offset-mismatch"
            known = len(content) == keep and (name, previous) not in self.undigested
            if known and line.get("after") not in (None, digest_of(content).hexdigest()):
                return "offset-mismatch"
            if not known:
                self.undigested.add((name, number))
        held[number] = (previous, keep, content[:keep])
        return "stored"


def digest_of(data: bytes) -> StreamDigest:
    """Return the stream digest of bytes."""
    digest = StreamDigest()
    digest.update(data)
    return digest


def lines_of(kind: str, machine: str, session: str, stream: str, numbers: tuple[int, int, int], text: bytes) -> Line:
    """Return a line of a push."""
    first, second, third = numbers
    if kind == "session":
        return record(first + 1, id=session, machine_id=machine) | {"prompts_only": second == 0}
    where = {"machine_id": machine, "session": session, "stream": stream}
    if kind == "append":
        return append(second, text, generation=first, **where)
    keep = third if first else 0
    return generation(first + 1, None if keep == 0 and second > first else min(second, first), keep, **where)


def mostly(usual: str, other: str) -> st.SearchStrategy[str]:
    """Return a name that is usually the first one, so that lines meet in one stream."""
    return st.sampled_from([usual] * 5 + [other])


LINES = st.builds(
    lines_of,
    st.sampled_from(["session", "append", "append", "append", "generation"]),
    mostly("laptop", "desk"),
    mostly(*SESSIONS),
    mostly("main", "side"),
    st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 4)),
    st.sampled_from(TEXTS),
)
AFTERS = [None, *(digest_of(each).hexdigest() for each in (b"a", b"ab", b"aba", b"abab"))]
"""Digests that clients send: some are those of the bytes."""
PUSHES = st.tuples(mostly(*USERS), mostly(*DEVICES), st.lists(LINES, min_size=1, max_size=6))


def answer_of(result: Result) -> str:
    return result.problem.type if result.problem else result.status


class DecideMachine(RuleBasedStateMachine):
    """Batches of pushes of two users, each with two devices."""

    def __init__(self) -> None:
        super().__init__()
        self.store, self.model = MemoryStore(), Model()
        self.afters: list[str | None] | None = None

    @initialize(afters=st.sampled_from([None, [None], AFTERS]))
    def choose(self, afters: list[str | None] | None) -> None:
        """Use clients that know no stream digests, or those that send some."""
        self.afters = afters

    @rule(pushes=st.lists(PUSHES, min_size=1, max_size=4), data=st.data())
    def push(self, pushes: list[tuple[str, str, list[Line]]], data: st.DataObject) -> None:
        """Each line is answered as if it had been sent alone."""
        self.model.undigested.clear()
        if self.afters is not None:
            afters = st.sampled_from(self.afters)
            for line in (line for _, _, lines in pushes for line in lines if line["op"] != "session"):
                line["after"] = data.draw(afters)
        batch = [decoded(*push) for push in pushes]
        decisions, changes = decide(self.store.load(touched(batch)), batch)
        for decision, (user, device, lines) in zip(decisions, pushes, strict=True):
            assert isinstance(decision, Decision)
            sent = [line | {"device_id": device} if line["op"] == "session" else line for line in lines]
            assert [answer_of(each) for each in decision.results] == [
                self.model.line(user, device, line) for line in sent
            ]
        self.store.save(changes)

    @rule(user=mostly(*USERS[::-1]), session=mostly(*SESSIONS[::-1]), machine=st.sampled_from(["", "laptop"]))
    def forget(self, user: str, session: str, machine: str) -> None:
        """From now on, no line of the session is stored."""
        self.store.state.forgotten.add((user, machine, session))
        self.model.forgotten.add((user, machine, session))

    @rule(user=mostly(*USERS), days=st.sampled_from([-1, 1, None]))
    def keep(self, user: str, days: int | None) -> None:
        """The user's sessions are kept from a time before or after that of all records on, or forever."""
        for rules in (self.store.state.oldest_ms, self.model.oldest_ms):
            rules.pop(user, None)
            if days is not None:
                rules[user] = STARTED_MS + days

    @precondition(lambda self: self.model.revisions)
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        """A session that has a record is too old. It is stored again once it is resumed."""
        session = data.draw(st.sampled_from(sorted(self.model.revisions)))
        self.store.let_go(session)
        self.model.let_go(session)

    @rule(user=st.sampled_from(USERS), machine=st.sampled_from(["laptop", "desk"]))
    def adopt(self, user: str, machine: str) -> None:
        """The next other device takes the machine over."""
        if (user, machine) in self.model.owners:
            self.store.state.machines[user, machine].open = True
            self.model.open.add((user, machine))

    @invariant()
    def all_generations_are_the_models(self) -> None:
        """The bytes that are stored once make up every generation."""
        found = {
            name: {
                number: (each.previous, each.keep, self.store.read(stream.number or 0, number, each.length))
                for number, each in stream.generations.items()
                if each is not None
            }
            for name, stream in self.store.state.streams.items()
        }
        assert found == self.model.streams
        assert self.store.state.expired == self.model.expired
        for stream in self.store.state.streams.values():
            for each in stream.generations.values():
                if each is not None and each.keep:
                    owner = stream.generations[each.base] if each.base is not None else None
                    assert owner is not None
                    assert owner.keep < each.keep, "the base owns the last of the shared bytes"


TestDecide = DecideMachine.TestCase
TestDecide.settings = settings(max_examples=25, stateful_step_count=10, deadline=None)


def decoded(user: str, device: str, lines: list[Line]) -> DecodedPush:
    """Return a push of a device of a user."""
    sender = Sender(access=Access(user=user, scopes=frozenset({"push"})), device=uuid.UUID(device), batch="b")
    sent = [line | {"device_id": device} if line["op"] == "session" else line for line in lines]
    return DecodedPush(sender, decode_lines([msgspec.json.encode(each) for each in sent], Limits()))


def test_a_line_that_fails_does_not_claim_its_machine() -> None:
    """A machine id belongs to the device of the first line that is valid."""
    store = MemoryStore()
    batch = [decoded("ada", DEVICE, [record(2**53 - 1)])]
    decisions, changes = decide(store.load(touched(batch)), batch)
    assert [answer_of(each) for each in results(decisions)] == ["invalid"]
    assert changes.machines == {}


@pytest.mark.parametrize(("left", "answers"), [(60, ["quota", "stored"]), (None, ["stored", "stored"])])
def test_the_reserve_of_the_quota_is_for_records(left: int | None, answers: list[str]) -> None:
    """Transcripts stop before records do."""
    batch = [decoded("ada", DEVICE, [append(0, b"x" * 50), record()])]
    state = MemoryStore().load(touched(batch))
    state.machines["ada", "ada"] = MachineState(DEVICE)
    state.quota = Quota(left if left is None else left * 20, 1190)
    decisions, _ = decide(state, batch)
    assert [answer_of(each) for each in results(decisions)] == answers


def results(decisions: list[Any]) -> list[Result]:
    (decision,) = decisions
    assert isinstance(decision, Decision)
    return decision.results
