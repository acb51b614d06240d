"""The part of a store that a batch of pushes names, and the changes that the batch makes to it.

A store loads the state (`Touched` names it), `decide` changes it in memory, and the store saves the changes. All of
that is one transaction, in which no other one changes the same machines.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import msgspec

from sessiond.endpoint.server.stream_state import Lookup, SessionKey, StreamName, StreamState
from sessiond.endpoint.wire import PushSession, StreamLength

DeviceKey = tuple[str, str]
"""A user and a device."""
MachineKey = tuple[str, str]
"""A user and a machine id."""


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


class TokenState(msgspec.Struct, gc=False):
    """A token's device, and the devices that it was released from, separated by commas."""

    device: UUID | None
    released: str


class MachineState(msgspec.Struct, gc=False):
    """The device that owns a machine id. If it is `open`, another device of the user may take it over."""

    device: str
    open: bool = False


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
    expired: set[SessionKey] = msgspec.field(default_factory=set)
    """Sessions that were let go because they were too old. Loaded of sessions without a record only."""
    oldest_ms: dict[str, int] = msgspec.field(default_factory=dict)
    """The time before which the sessions of users are not kept, in unix milliseconds. Loaded with `expired`."""
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
    expired: dict[SessionKey, int | None] = msgspec.field(default_factory=dict)
    """The revisions of sessions that were too old to be stored; None: the session is kept again."""
    streams: dict[StreamName, StreamState] = msgspec.field(default_factory=dict)
    """Streams that have new generations or bytes."""
    changed: dict[SessionKey, None] = msgspec.field(default_factory=dict)
    """Changed sessions in the order of their last change."""
    held: dict[str, int] = msgspec.field(default_factory=dict)
    """Bytes that users have more, or fewer, than before: see `usage`."""
