"""Digests of whole streams, computed outside of the write transaction and a few at a time.

What a generation holds of its first N bytes never changes. So a digest that is computed after a push was committed is
still the digest of the state that the push was answered with, whatever was appended meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import anyio
import anyio.to_thread

from sessiond.endpoint.server import streams
from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.store import Store

STEP = 8 << 20
"""Bytes that are hashed before another stream has its turn. One step is one short read transaction."""
AT_ONCE = 2
FLIGHTS = 64
"""Streams that are hashed or wait for it; further ones are answered 503."""
PATIENCE = 20.0
"""Seconds that a request waits for its digests. A client waits 30 s for an answer; 503 brings it back later, and what
was hashed meanwhile is kept."""
LATER = {"Retry-After": "5"}


class Digester:
    """Computes digests, each once however many requests ask for it. It belongs to one event loop."""

    def __init__(self, store: Store, *, patience: float = PATIENCE) -> None:
        self.hashed = 0
        """Bytes that were read and hashed so far."""
        self._store = store
        self._patience = patience
        self._limiter = anyio.CapacityLimiter(AT_ONCE)
        self._flights: dict[tuple[int, int, int], asyncio.Task[str]] = {}

    async def digests(self, wanted: Sequence[streams.State]) -> list[str]:
        """Return the SHA-256 of each of these states of generations, in hex.

        Raises:
            HttpError: 503, it takes too long. The work goes on, so that the same question is answered sooner next time.
            StateError: the store can't be read.
        """
        try:
            with anyio.fail_after(self._patience):
                return [await self._digest(each) for each in wanted]
        except TimeoutError as error:
            raise HttpError(503, "busy", "digests of large streams are being computed", headers=LATER) from error

    async def _digest(self, state: streams.State) -> str:
        if state.sha256 is not None:
            return state.sha256
        key = (state.stream, state.generation, state.length)
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= FLIGHTS:
                raise HttpError(503, "busy", "too many digests are being computed", headers=LATER)
            flight = asyncio.ensure_future(self._compute(state))
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        # Shielded: a client that gives up and asks again must not start from the first byte each time.
        return await asyncio.shield(flight)

    def _landed(self, key: tuple[int, int, int], flight: asyncio.Task[str]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # whoever still waits is told; else asyncio would log that nobody asked

    async def _compute(self, state: streams.State) -> str:
        done, running = await anyio.to_thread.run_sync(self._begin, state, limiter=self._limiter)
        while done < state.length:
            done = await anyio.to_thread.run_sync(self._step, state, done, running, limiter=self._limiter)
        return running.hexdigest()

    def _begin(self, state: streams.State) -> tuple[int, hashlib._Hash]:
        with self._store.read() as db:
            owners = streams.owners(db, state.stream, state.generation, state.length)
        return self._store.digests.nearest(state.stream, owners)

    def _step(self, state: streams.State, start: int, running: hashlib._Hash) -> int:
        end = min(start + STEP, state.length)
        with self._store.read() as db:
            for part in streams.parts(db, state.stream, state.generation, start, end):
                running.update(part)
        self.hashed += end - start
        self._store.digests.keep(state.stream, state.generation, end, running)
        return end
