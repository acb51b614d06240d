"""The SHA-256 of what is held of a stream, without reading it again at every question."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

CAPACITY = 2048
STEP = 4 << 20
FOLLOWED = 64 << 10
EMPTY = hashlib.sha256().hexdigest()

Read = Callable[[int, int], bytes]
"""Reads the bytes [start, end) of the stream that is asked for."""


class Digests:
    """Running hashes of the generations that were last written or asked for.

    A generation only grows, so the hash of a prefix stays true for ever; it is forgotten only for room, and
    when a transaction is rolled back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, int], tuple[int, hashlib._Hash]] = OrderedDict()

    def extend(self, stream: int, generation: int, offset: int, appended: bytes, own: hashlib._Hash) -> str | None:
        """Follow an append at `offset`; the digest of all bytes up to its end, or None where it isn't known.

        `own` is the hash of the appended bytes alone, which is that of the stream where they begin it. Long
        segments are not followed further: hashing them twice would be half of the cost of a push, and
        the digest is asked for only after a client lost its spool.
        """
        with self._lock:
            length, running = self._known.get((stream, generation), (0, None))
            if offset == 0:
                running = own.copy()
            elif length != offset or running is None or len(appended) > FOLLOWED:
                return None
            else:
                running.update(appended)
            self._keep(stream, generation, offset + len(appended), running)
            return running.hexdigest()

    def branch(self, stream: int, generation: int, previous: int, keep: int) -> None:
        """Follow a new generation that keeps all of its previous one, the usual case of a document that grew."""
        with self._lock:
            length, running = self._known.get((stream, previous), (0, None))
            if running is not None and length == keep:
                self._keep(stream, generation, keep, running.copy())

    def of(self, stream: int, generation: int, length: int, read: Read) -> str:
        """Hash the first `length` bytes of a generation; only what was not hashed before is read."""
        with self._lock:
            done, running = self._known.get((stream, generation), (0, hashlib.sha256()))
            if done > length:
                done, running = 0, hashlib.sha256()
            running = running.copy()
        for start in range(done, length, STEP):
            running.update(read(start, min(start + STEP, length)))
        with self._lock:
            if self._known.get((stream, generation), (0, None))[0] < length:
                self._keep(stream, generation, length, running.copy())
        return running.hexdigest()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._known.clear()

    def _keep(self, stream: int, generation: int, length: int, running: hashlib._Hash) -> None:
        self._known[stream, generation] = (length, running)
        self._known.move_to_end((stream, generation))
        while len(self._known) > CAPACITY:
            self._known.popitem(last=False)
