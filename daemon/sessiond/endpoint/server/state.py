"""The part of a store that a batch of pushes names, and the changes that the batch makes to it.

A store loads the state (`Touched` names it), `decide` changes it in memory, and the store saves the changes. All of
that is one transaction, in which no other one changes the same machines.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Protocol
from uuid import UUID

import msgspec

from sessiond.endpoint.server.payload import AppendPayload
from sessiond.endpoint.wire import PushSession, StreamLength

DeviceKey = tuple[str, str]
"""A user and a device."""
MachineKey = tuple[str, str]
"""A user and a machine id."""
SessionKey = tuple[str, str, str]
"""A user, a machine id and a session."""
StreamName = tuple[str, str, str, str]
"""A user, a machine id, a session and the name of a stream."""


class Touched(msgspec.Struct, kw_only=True):
    """The names that a batch of pushes has. A store loads what it has of them."""

    tokens: set[bytes] = msgspec.field(default_factory=set)
    """Hashes of tokens."""
    devices: set[DeviceKey] = msgspec.field(default_factory=set)
    machines: set[MachineKey] = msgspec.field(default_factory=set)
    sessions: set[SessionKey] = msgspec.field(default_factory=set)
    streams: set[StreamName] = msgspec.field(default_factory=set)
    generations: set[tuple[StreamName, int]] = msgspec.field(default_factory=set)
    """Generations that are loaded in addition to the current one of each stream."""


class NotComparable(Exception):
    """Stored bytes can't be compared in a transaction, because they are in an object."""


class Lookup(Protocol):
    """Reads from the store what few pushes need. It sees the state before the batch."""

    def owner(self, stream: int, generation: int, keep: int) -> int:
        """Return the generation that has the last of the first `keep` bytes of a generation as its own."""

    def same(self, stream: int, generation: int, start: int, data: bytes) -> bool:
        """Return whether a generation has these bytes from `start` on; it has that many. Raises: NotComparable."""

    def count_streams(self, session: SessionKey, limit: int) -> int:
        """Return the number of streams of a session, up to `limit`."""

    def count_generations(self, stream: int, limit: int) -> int:
        """Return the number of generations of a stream, up to `limit`."""

    def is_whole(self, session: SessionKey) -> bool:
        """Return whether the record of a whole session is stored, and not of its prompts only."""


class TokenState(msgspec.Struct, gc=False):
    """A token's device, and the devices that it was released from, separated by commas."""

    device: UUID | None
    released: str


class MachineState(msgspec.Struct, gc=False):
    """The device that owns a machine id. If it is `open`, another device of the user may take it over."""

    device: str
    open: bool = False


class Tail(msgspec.Struct, gc=False):
    """Bytes that the batch appends to a generation."""

    start: int
    payload: AppendPayload


class GenerationState(msgspec.Struct):
    """A generation of a stream. `stored` is its length in the store; None: the batch begins it."""

    generation: int
    previous: int | None
    keep: int
    base: int | None
    length: int
    sha256: str | None = None
    stored: int | None = None
    tails: list[Tail] = []

    def ends_with(self, start: int, data: bytes) -> bool:
        """Return whether the bytes that the batch appended are `data` from `start` on, up to the end of `data`."""
        at = max(bisect_right(self.tails, start, key=lambda tail: tail.start) - 1, 0)
        end = start + len(data)
        for tail in self.tails[at:]:
            if tail.start >= end:
                break
            first, last = max(start, tail.start), min(end, tail.start + tail.payload.length)
            if tail.payload.plain()[first - tail.start : last - tail.start] != data[first - start : last - start]:
                return False
        return True


class StreamState(msgspec.Struct):
    """A stream with its current generation and those that the batch names."""

    name: StreamName
    number: int | None = None
    """Its number in the store. The store assigns one when it saves a stream that the batch begins."""
    current: GenerationState | None = None
    generations: dict[int, GenerationState | None] = msgspec.field(default_factory=dict)
    """Generations by their number; None: not stored."""
    media_type: str | None = None
    """The media type that the batch sets; None: it sets none."""

    def begin(self, generation: int, previous: int | None, keep: int, lookup: Lookup) -> GenerationState:
        """Add a generation that shares the first `keep` bytes of `previous`, which must have them."""
        base = None
        if keep:
            assert previous is not None
            base = self._owner(previous, keep, lookup)
        new = GenerationState(generation=generation, previous=previous, keep=keep, base=base, length=keep, tails=[])
        self.generations[generation] = new
        if self.current is None or self.current.generation < generation:
            self.current = new
        return new

    def append(self, to: GenerationState, payload: AppendPayload, media_type: str | None) -> None:
        """Add bytes at the end of a generation."""
        to.tails.append(Tail(to.length, payload))
        to.length += payload.length
        to.sha256 = None
        if media_type is not None:
            self.media_type = media_type

    def same(self, generation: GenerationState, start: int, data: bytes, lookup: Lookup) -> bool:
        """Return whether a generation has these bytes from `start` on; it has that many.

        Its end may be of this batch, and so may be generations that it shares bytes with.
        """
        at: GenerationState | None = generation
        while data:
            assert at is not None
            own = at.keep if at.stored is None else at.stored
            split = max(min(own - start, len(data)), 0)
            if not at.ends_with(max(start, own), data[split:]):
                return False
            data = data[:split]
            if at.stored is not None:
                assert self.number is not None
                return not data or lookup.same(self.number, at.generation, start, data)
            if data and at.base is not None and at.base not in self.generations:
                assert self.number is not None
                return lookup.same(self.number, at.base, start, data)
            at = None if at.base is None else self.generations[at.base]
        return True

    def _owner(self, generation: int, keep: int, lookup: Lookup) -> int:
        # A generation that shares all of the kept bytes with an older one is skipped: the new one refers to the
        # generation that owns the last of them.
        at = self.generations[generation]
        while at is not None and at.keep >= keep:
            if at.stored is not None:
                assert self.number is not None
                return lookup.owner(self.number, at.generation, keep)
            assert at.base is not None
            if at.base not in self.generations:  # stored, and not named by the batch
                assert self.number is not None
                return lookup.owner(self.number, at.base, keep)
            at = self.generations[at.base]
        assert at is not None
        return at.generation


class Quota(msgspec.Struct):
    """The bytes that are left of a quota, and those of them that are reserved for records; None: no quota."""

    left: int | None = None
    reserve: int = 0
    name: str = "the endpoint's quota"


class State(msgspec.Struct, kw_only=True):
    """The loaded state. What was named and is not in it is not stored."""

    lookup: Lookup
    quota: Quota
    """The quota of the store as a whole, in bytes on the disk."""
    quotas: dict[str, list[Quota]] = msgspec.field(default_factory=dict)
    """The quotas of users and of their tenants, in bytes as `usage` counts them. Users of a tenant share its quota."""
    tokens: dict[bytes, TokenState] = msgspec.field(default_factory=dict)
    batches: dict[DeviceKey, str] = msgspec.field(default_factory=dict)
    """The id of each device's last push."""
    machines: dict[MachineKey, MachineState] = msgspec.field(default_factory=dict)
    revisions: dict[SessionKey, int] = msgspec.field(default_factory=dict)
    envelopes: dict[SessionKey, int] = msgspec.field(default_factory=dict)
    """The bytes of stored records."""
    forgotten: set[SessionKey] = msgspec.field(default_factory=set)
    """Erased sessions; the machine is "" for one that was erased on all machines."""
    streams: dict[StreamName, StreamState] = msgspec.field(default_factory=dict)
    stream_counts: dict[SessionKey, int] = msgspec.field(default_factory=dict)
    generation_counts: dict[StreamName, int] = msgspec.field(default_factory=dict)
    """Streams and generations, where they had to be counted: see `limits`."""

    def ahead(self, session: SessionKey, client: Iterable[tuple[str, int, int]]) -> list[StreamLength]:
        """Return the streams that are longer in the store than the client's (name, generation, length)."""
        longer = []
        for name, (generation, length) in {each[0]: each[1:] for each in client}.items():
            stream = self.streams.get((*session, name))
            now = None if stream is None else stream.current
            if now is not None and (now.generation, now.length) > (generation, length):
                longer.append(StreamLength(name=name, generation=now.generation, length=now.length))
        return longer


class Record(msgspec.Struct, frozen=True):
    """A record to store in place of an older revision; `envelope` is its stored form."""

    item: PushSession
    envelope: bytes


class Changes(msgspec.Struct, kw_only=True):
    """The changes of a batch, which a store saves in one transaction."""

    tokens: dict[bytes, UUID] = msgspec.field(default_factory=dict)
    """The devices that tokens are bound to."""
    batches: dict[DeviceKey, str] = msgspec.field(default_factory=dict)
    machines: dict[MachineKey, str] = msgspec.field(default_factory=dict)
    """Machine ids that a device claims or takes over."""
    records: dict[SessionKey, Record] = msgspec.field(default_factory=dict)
    streams: dict[StreamName, StreamState] = msgspec.field(default_factory=dict)
    """Streams that have new generations or bytes."""
    changed: dict[SessionKey, None] = msgspec.field(default_factory=dict)
    """Changed sessions in the order of their last change."""
    held: dict[str, int] = msgspec.field(default_factory=dict)
    """Bytes that users have more, or fewer, than before: see `usage`."""
