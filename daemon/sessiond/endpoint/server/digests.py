"""States of the digests of stream prefixes, so that no request hashes the same bytes again.

Clients of earlier versions ask for the SHA-256 of a stream, others for its stream digest (`StreamDigest`).
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from sessiond.endpoint.stream_digest import StreamDigest

CAPACITY = 2048
"""Generations whose SHA-256 is followed."""
FOLLOWED = 16_384
"""Generations whose stream digest is followed. Each takes about 1 KiB of memory."""
SPACING = 64 << 20
"""Bytes between two states that are kept for one generation. A generation that shares a prefix with another one is
hashed from the last shared state, so that each generation of a large stream costs at most this many bytes."""
MAX_FOLLOWED = 64 << 10
"""Bytes of the longest append that is added to the running hash while it is stored."""
EMPTY = hashlib.sha256().hexdigest()
APART = 256 << 10
"""Bytes between two checkpoints of a stream digest: a whole number of blocks."""
Checkpoint = tuple[int, bytes]
"""The length of a prefix, and the chain of its stream digest."""
H = TypeVar("H", bound="RunningDigest")

Owner = tuple[int, int]
"""A generation and the number of its first bytes that are shared: see `streams.owners`."""


class RunningDigest(Protocol):
    """A digest that is continued."""

    def update(self, data: bytes, /) -> None:
        """Append bytes."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far, in hex."""

    def copy(self: H) -> H:
        """Return a digest that can be continued separately."""


class Digests(Generic[H]):
    """Running hashes of the generations that were last written or requested. Threads may share it.

    A generation only grows, so the hash of a prefix stays valid. The oldest is removed when there are more than
    `capacity` generations. All are removed when a transaction is rolled back, because they may include its bytes.
    """

    def __init__(self, new: Callable[[], H], capacity: int) -> None:
        self._new, self._capacity = new, capacity
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, int], list[tuple[int, H]]] = OrderedDict()

    def at(self, stream: int, generation: int, length: int) -> H | None:
        """Return a copy of the hash of a generation that is known up to exactly `length`; None if it is not."""
        with self._lock:
            known, running = self._last(stream, generation)
            return running.copy() if running is not None and known == length else None

    def extend(self, stream: int, generation: int, offset: int, appended: int, own: H, data: bytes) -> str:
        """Return the digest of a generation after an append at `offset`, or "" if it is not known.

        `own` is the hash of the `appended` bytes alone; at offset 0 it is that of the stream. `data` has the bytes of
        a short segment. A segment longer than MAX_FOLLOWED is not hashed a second time: that would take half of the
        time of a push, and a client needs the digest only after it lost its spool.
        """
        with self._lock:
            length, running = self._last(stream, generation)
            if offset == 0:
                running = own.copy()
            elif length != offset or running is None or appended > MAX_FOLLOWED:
                return ""
            else:
                running = running.copy()
                running.update(data)
            self._keep(stream, generation, offset + appended, running)
            return running.hexdigest()

    def branch(self, stream: int, generation: int, previous: int, keep: int) -> None:
        """Reuse the hash for a new generation that keeps all of the previous one, as a document that grew does."""
        with self._lock:
            length, running = self._last(stream, previous)
            if running is not None and length == keep:
                self._keep(stream, generation, keep, running)

    def nearest(self, stream: int, owners: Sequence[Owner]) -> tuple[int, H]:
        """Return the length of the longest prefix with a known hash among these owners, and a copy of that hash."""
        best, running = 0, self._new()
        with self._lock:
            for generation, shared in owners:
                for length, state in self._known.get((stream, generation), ()):
                    if best < length <= shared:
                        best, running = length, state
        return best, running.copy()

    def keep(self, stream: int, generation: int, length: int, running: H) -> None:
        """Keep the hash of the first `length` bytes of a generation."""
        with self._lock:
            if self._last(stream, generation)[0] < length:
                self._keep(stream, generation, length, running.copy())

    def clear(self) -> None:
        """Remove all hashes."""
        with self._lock:
            self._known.clear()

    def _last(self, stream: int, generation: int) -> tuple[int, H | None]:
        states = self._known.get((stream, generation))
        return states[-1] if states else (0, None)

    def _keep(self, stream: int, generation: int, length: int, running: H) -> None:
        states = self._known.setdefault((stream, generation), [])
        if states and states[-1][0] - (states[-2][0] if len(states) > 1 else 0) < SPACING:
            states.pop()  # it was the end of the generation, and the end has moved
        states.append((length, running))
        self._known.move_to_end((stream, generation))
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)


class KnownDigests:
    """The running hashes of a store, of both kinds."""

    def __init__(self) -> None:
        self.sha256 = Digests(hashlib.sha256, CAPACITY)
        self.streams = Digests(StreamDigest, FOLLOWED)

    def clear(self) -> None:
        """Remove all hashes."""
        self.sha256.clear()
        self.streams.clear()


def feed(running: StreamDigest, data: bytes) -> list[Checkpoint]:
    """Append bytes to a digest, and return the checkpoints on the way."""
    passed: list[Checkpoint] = []
    start, to_next = 0, APART - running.length % APART
    while start + to_next <= len(data):
        running.update(data[start : start + to_next])
        passed.append((running.length, running.chain))
        start, to_next = start + to_next, APART
    running.update(data[start:])
    return passed
