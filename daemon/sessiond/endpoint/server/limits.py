"""Limits on what users may store: the quota, the streams of a session, and the generations of a stream."""

from __future__ import annotations

from sessiond.endpoint.server.results import ItemError
from sessiond.endpoint.server.state import Changes, Quota, State
from sessiond.endpoint.server.stream_state import SessionKey, StreamState
from sessiond.endpoint.server.usage import ROW_SIZE

MAX_STREAMS = 10_000
"""Streams of a session. Each answer about the session lists all of them."""

MAX_GENERATIONS = 100_000
"""Generations of a stream. Each answer about the session's streams lists all of them."""


def check_quota(quota: Quota, size: int, *, reserve: bool = False) -> None:
    """Raise ItemError if the quota has fewer than `size` bytes left. With `reserve`, those for records must be left."""
    if quota.left is not None and quota.left < size + (quota.reserve if reserve else 0):
        raise ItemError("quota", f"{quota.name} is used up")


class Account:
    """Counts what a user stores in a batch, against the quota of the store and those of the user and its tenant."""

    def __init__(self, state: State, changes: Changes, user: str) -> None:
        self._store, self._user = state.quota, user
        self._own = state.quotas.get(user, [])
        self._changes = changes

    def take(self, stored: int, held: int, *, reserve: bool = True) -> None:
        """Take bytes of all quotas: `stored` on the disk, `held` as `usage` counts. `reserve`: see `check_quota`.

        Raises:
            ItemError: one of the quotas has fewer bytes left. Nothing is taken of the others.
        """
        check_quota(self._store, stored, reserve=reserve)
        # A smaller record in place of a longer one is stored even if the quota was lowered below what is there.
        for quota in self._own if held > 0 else ():
            check_quota(quota, held, reserve=reserve)
        if self._store.left is not None:
            self._store.left -= stored
        self.add(held)

    def add_row(self) -> None:
        """Take the bytes of a machine or a device, which need space for records. Raises: ItemError."""
        self.take(ROW_SIZE, ROW_SIZE, reserve=False)

    def add(self, held: int) -> None:
        """Count bytes without a limit; negative ones give space back."""
        for quota in self._own:
            if quota.left is not None:
                quota.left -= held
        self._changes.held[self._user] = self._changes.held.get(self._user, 0) + held


def add_stream(state: State, session: SessionKey) -> None:
    """Count a new stream of a session. Raises ItemError if the session can't have another one."""
    count = state.stream_counts.get(session)
    if count is None:
        count = state.lookup.count_streams(session, MAX_STREAMS)
    if count >= MAX_STREAMS:
        raise ItemError("invalid", f"session {session[2]} has {MAX_STREAMS} streams, which is the limit")
    state.stream_counts[session] = count + 1


def add_generation(state: State, stream: StreamState, highest: int) -> None:
    """Count a new generation of a stream, if necessary. Raises ItemError if the stream can't have another one.

    `highest` is the number of its current generation. Numbers may be skipped, so it says only that there are not more.
    Usually that is enough, and the generations need not be counted for each new one.
    """
    if highest + 1 < MAX_GENERATIONS:
        return
    count = state.generation_counts.get(stream.name)
    if count is None:
        new = sum(each is not None and each.stored is None for each in stream.generations.values())
        stored = 0 if stream.number is None else state.lookup.count_generations(stream.number, MAX_GENERATIONS)
        count = stored + new
    if count >= MAX_GENERATIONS:
        name = stream.name
        raise ItemError(
            "invalid", f"stream {name[3]} of session {name[2]} has {MAX_GENERATIONS} generations, which is the limit"
        )
    state.generation_counts[stream.name] = count + 1
