"""SHA-256 states of stream prefixes, so that no byte is hashed again for each question."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

CAPACITY = 2048
SPACING = 64 << 20
"""Bytes between two states that are kept of one generation. A generation that shares a prefix with another one is
hashed from the last of them, so that a chain of generations of a large stream costs at most this much each."""
FOLLOWED = 64 << 10
EMPTY = hashlib.sha256().hexdigest()

Owner = tuple[int, int]
"""A generation and how many of its first bytes are shared: see `streams.owners`."""


class Digests:
    """Running hashes of the generations that were last written or asked for. Threads may share it.

    A generation only grows, so the hash of a prefix stays valid; it is evicted when CAPACITY generations are exceeded
    and dropped when a transaction is rolled back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, int], list[tuple[int, hashlib._Hash]]] = OrderedDict()

    def extend(self, stream: int, generation: int, offset: int, appended: int, own: hashlib._Hash, data: bytes) -> str:
        """Return the digest of a generation after an append at `offset`, or "" where it is not known.

        `own` is the hash of the `appended` bytes alone, which is that of the stream where they begin it. `data` is
        the bytes where they are at hand. Long segments are not hashed a second time: that would be half of the cost
        of a push, and the digest is asked for only after a client lost its spool.
        """
        with self._lock:
            length, running = self._last(stream, generation)
            if offset == 0:
                running = own.copy()
            elif length != offset or running is None or appended > FOLLOWED:
                return ""
            else:
                running = running.copy()
                running.update(data)
            self._keep(stream, generation, offset + appended, running)
            return running.hexdigest()

    def branch(self, stream: int, generation: int, previous: int, keep: int) -> None:
        """Follow a new generation that keeps all of its previous one, the usual case of a document that grew."""
        with self._lock:
            length, running = self._last(stream, previous)
            if running is not None and length == keep:
                self._keep(stream, generation, keep, running)

    def nearest(self, stream: int, owners: Sequence[Owner]) -> tuple[int, hashlib._Hash]:
        """Return the longest known prefix of a generation that has these owners: its length and a copy of its hash."""
        best, running = 0, hashlib.sha256()
        with self._lock:
            for generation, shared in owners:
                for length, state in self._known.get((stream, generation), ()):
                    if best < length <= shared:
                        best, running = length, state
        return best, running.copy()

    def keep(self, stream: int, generation: int, length: int, running: hashlib._Hash) -> None:
        """Keep the hash of the first `length` bytes of a generation."""
        with self._lock:
            if self._last(stream, generation)[0] < length:
                self._keep(stream, generation, length, running.copy())

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._known.clear()

    def _last(self, stream: int, generation: int) -> tuple[int, hashlib._Hash | None]:
        states = self._known.get((stream, generation))
        return states[-1] if states else (0, None)

    def _keep(self, stream: int, generation: int, length: int, running: hashlib._Hash) -> None:
        states = self._known.setdefault((stream, generation), [])
        if states and states[-1][0] - (states[-2][0] if len(states) > 1 else 0) < SPACING:
            states.pop()  # only the end of the generation, which has moved on
        states.append((length, running))
        self._known.move_to_end((stream, generation))
        while len(self._known) > CAPACITY:
            self._known.popitem(last=False)
