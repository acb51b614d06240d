"""Digests of whole streams, computed outside the write transaction, a few at a time.

The first N bytes of a generation never change. So a digest that is computed after a push was committed is still the
digest of the state in the push's answer, even if more was appended since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from sessiond.endpoint.server import checkpoints, reading, streams
from sessiond.endpoint.server.digests import Checkpoint, Owner, feed
from sessiond.endpoint.server.problems import HttpError, retry_after
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.streams import Damaged
from sessiond.endpoint.stream_digest import StreamDigest
from sessiond.logs import log

T = TypeVar("T")
STEP = 8 << 20
"""Bytes that are hashed before another stream gets the thread. One step is one short read transaction."""
MAX_THREADS = 2
MAX_TASKS = 64
"""Streams that are being hashed or wait for a thread. Requests for more are answered 503."""
TIMEOUT = 20.0
"""Seconds that a request waits for its digests. A client waits 30 s for an answer. After 503 it comes back later, and
the hash of what was read so far is kept."""
UNREADABLE = "0" * 64
"""The digest of a stream whose bytes can't be read any more. No content has it, so a client pushes the stream again."""
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
        self._tasks: dict[streams.State, asyncio.Task[str]] = {}

    async def digests(self, wanted: Sequence[streams.State]) -> list[str]:
        """Return the SHA-256 or the stream digest of each state, in hex; UNREADABLE for one that is damaged.

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
        if state.digest is not None:
            return state.digest
        task = self._tasks.get(state)
        if task is None:
            if len(self._tasks) >= MAX_TASKS:
                raise HttpError(503, "busy", "too many digests are being computed", headers=retry_after(*LATER))
            task = asyncio.ensure_future(self._compute(state))
            self._tasks[state] = task
            task.add_done_callback(lambda done: self._finished(state, done))
        # Shielded: if a client gives up and asks again, the work must not start over from the first byte.
        return await asyncio.shield(task)

    def _finished(self, state: streams.State, task: asyncio.Task[str]) -> None:
        del self._tasks[state]
        if not task.cancelled():
            task.exception()  # a waiting request raises it; without this call asyncio would log it as never retrieved

    async def _compute(self, state: streams.State) -> str:
        try:
            if state.follows_sha256:
                return await self._compute_sha256(state)
            return await self._compute_stream_digest(state)
        except Damaged as error:
            if await self._run(partial(self._exists, state)):
                log.error("endpoint.damaged", stream=state.stream, generation=state.generation, reason=str(error))
            return UNREADABLE

    def _exists(self, state: streams.State) -> bool:
        """Return whether the stream is still there: its session may have been erased meanwhile."""
        with self._store.read() as db:
            return streams.find_generation(db, state.stream, state.generation) is not None

    async def _compute_sha256(self, state: streams.State) -> str:
        known = self._store.digests.sha256
        done, running = known.nearest(state.stream, await self._run(partial(self._owners, state)))
        while done < state.length:
            done = await self._run(partial(self._read, state, done, running.update))
            known.keep(state.stream, state.generation, done, running)
        return running.hexdigest()

    async def _compute_stream_digest(self, state: streams.State) -> str:
        known = self._store.digests.streams
        owners = await self._run(partial(self._owners, state))
        running = await self._run(partial(self._nearest, state, owners))
        while running.length < state.length:
            passed = await self._run(partial(self._feed, state, running))
            known.keep(state.stream, state.generation, running.length, running)
            if passed:
                await self._run(partial(self._save, state, owners, passed))
        return running.hexdigest()

    async def _run(self, function: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(function, limiter=self._limiter)

    def _owners(self, state: streams.State) -> list[Owner]:
        with self._store.read() as db:
            return streams.owners(db, state.stream, state.generation, state.length)

    def _nearest(self, state: streams.State, owners: list[Owner]) -> StreamDigest:
        _, running = self._store.digests.streams.nearest(state.stream, owners)
        with self._store.read() as db:
            stored = checkpoints.nearest(db, state.stream, owners)
        return max(running, stored, key=lambda each: each.length)

    def _read(self, state: streams.State, start: int, update: Callable[[bytes], None]) -> int:
        """Read the next step, and return its end."""
        end = min(start + STEP, state.length)
        for part in reading.parts(self._store, state.stream, state.generation, start, end):
            update(part)
        self.hashed += end - start
        return end

    def _feed(self, state: streams.State, running: StreamDigest) -> list[Checkpoint]:
        """Read the next step into a stream digest, and return the checkpoints on the way."""
        passed: list[Checkpoint] = []
        self._read(state, running.length, lambda part: passed.extend(feed(running, part)))
        return passed

    def _save(self, state: streams.State, owners: list[Owner], passed: list[Checkpoint]) -> None:
        """Store checkpoints, each with the generation whose own bytes end there, unless the stream was erased."""
        with self._store.write() as db:
            self._store.lock_chunks(db)
            if streams.find_generation(db, state.stream, state.generation) is not None:
                for length, chain in passed:
                    owner = next(generation for generation, shared in reversed(owners) if shared >= length)
                    checkpoints.add(db, state.stream, owner, [(length, chain)])
