"""SHA-256 states of stream prefixes, so that no request hashes the same bytes again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

CAPACITY = 2048
SPACING = 64 << 20
"""Bytes between two states that are kept for one generation. A generation that shares a prefix with another one is
hashed from the last shared state, so that each generation of a large stream costs at most this many bytes."""
MAX_FOLLOWED = 64 << 10
"""Bytes of the longest append that is added to the running hash while it is stored."""
EMPTY = hashlib.sha256().hexdigest()

Owner = tuple[int, int]
"""A generation and the number of its first bytes that are shared: see `streams.owners`."""


class Digests:
    """Running hashes of the generations that were last written or requested. Threads may share it.

    A generation only grows, so the hash of a prefix stays valid. The oldest is removed when there are more than
    CAPACITY generations. All are removed when a transaction is rolled back, because they may include its bytes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, int], list[tuple[int, hashlib._Hash]]] = OrderedDict()

    def extend(self, stream: int, generation: int, offset: int, appended: int, own: hashlib._Hash, data: bytes) -> str:
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

    def nearest(self, stream: int, owners: Sequence[Owner]) -> tuple[int, hashlib._Hash]:
        """Return the length of the longest prefix with a known hash among these owners, and a copy of that hash."""
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
        """Remove all hashes."""
        with self._lock:
            self._known.clear()

    def _last(self, stream: int, generation: int) -> tuple[int, hashlib._Hash | None]:
        states = self._known.get((stream, generation))
        return states[-1] if states else (0, None)

    def _keep(self, stream: int, generation: int, length: int, running: hashlib._Hash) -> None:
        states = self._known.setdefault((stream, generation), [])
        if states and states[-1][0] - (states[-2][0] if len(states) > 1 else 0) < SPACING:
            states.pop()  # it was the end of the generation, and the end has moved
        states.append((length, running))
        self._known.move_to_end((stream, generation))
        while len(self._known) > CAPACITY:
            self._known.popitem(last=False)
