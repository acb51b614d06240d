"""Digests of whole streams, computed outside the write transaction, a few at a time.

The first N bytes of a generation never change. So a digest that is computed after a push was committed is still the
digest of the state in the push's answer, even if more was appended since.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import anyio
import anyio.to_thread

from sessiond.endpoint.server import reading, streams
from sessiond.endpoint.server.problems import HttpError, retry_after
from sessiond.endpoint.server.store import Store

STEP = 8 << 20
"""Bytes that are hashed before another stream gets the thread. One step is one short read transaction."""
MAX_THREADS = 2
MAX_TASKS = 64
"""Streams that are being hashed or wait for a thread. Requests for more are answered 503."""
TIMEOUT = 20.0
"""Seconds that a request waits for its digests. A client waits 30 s for an answer. After 503 it comes back later, and
the hash of what was read so far is kept."""
LATER = (5, 10)
"""Seconds until a client that was answered 503 comes back: at least, at most."""


class Digester:
    """Computes each digest once, even if several requests need it. Use it from one event loop only."""

    def __init__(self, store: Store, *, timeout: float = TIMEOUT) -> None:
        self.hashed = 0
        """Bytes that were read and hashed so far."""
        self._store = store
        self._timeout = timeout
        self._limiter = anyio.CapacityLimiter(MAX_THREADS)
        self._tasks: dict[tuple[int, int, int], asyncio.Task[str]] = {}

    async def digests(self, wanted: Sequence[streams.State]) -> list[str]:
        """Return the SHA-256 of each state in hex.

        Raises:
            HttpError: 503, it takes too long. The work goes on, so that the next request for it is answered sooner.
            StateError: the store can't be read.
        """
        try:
            with anyio.fail_after(self._timeout):
                return [await self._digest(each) for each in wanted]
        except TimeoutError as error:
            raise HttpError(
                503, "busy", "digests of large streams are being computed", headers=retry_after(*LATER)
            ) from error

    async def _digest(self, state: streams.State) -> str:
        if state.sha256 is not None:
            return state.sha256
        key = (state.stream, state.generation, state.length)
        task = self._tasks.get(key)
        if task is None:
            if len(self._tasks) >= MAX_TASKS:
                raise HttpError(503, "busy", "too many digests are being computed", headers=retry_after(*LATER))
            task = asyncio.ensure_future(self._compute(state))
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        # Shielded: if a client gives up and asks again, the work must not start over from the first byte.
        return await asyncio.shield(task)

    def _finished(self, key: tuple[int, int, int], task: asyncio.Task[str]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # a waiting request raises it; without this call asyncio would log it as never retrieved

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
        for part in reading.parts(self._store, state.stream, state.generation, start, end):
            running.update(part)
        self.hashed += end - start
        self._store.digests.keep(state.stream, state.generation, end, running)
        return end
