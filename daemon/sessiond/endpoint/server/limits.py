"""Limits on what users may store: the quota, the streams of a session, and the generations of a stream."""

from __future__ import annotations

from sessiond.endpoint.server.results import ItemError
from sessiond.endpoint.server.state import Quota, SessionKey, State, StreamState

ROW_SIZE = 1024
"""Bytes of the longest row of a machine or a device. A machine id has up to 800 bytes."""
MAX_STREAMS = 10_000
"""Streams of a session. Each answer about the session lists all of them."""

MAX_GENERATIONS = 100_000
"""Generations of a stream. Each answer about the session's streams lists all of them."""


def check_quota(quota: Quota, size: int) -> None:
    """Raise ItemError if the quota has fewer than `size` bytes left."""
    if quota.left is not None and quota.left < size:
        raise ItemError("quota", "the endpoint's quota is used up")


def take(quota: Quota, size: int, *, reserve: bool = True) -> None:
    """Take `size` bytes of the quota. With `reserve`, the bytes that are reserved for records must be left.

    Raises:
        ItemError: the quota has fewer bytes left.
    """
    check_quota(quota, size + (quota.reserve if reserve else 0))
    if quota.left is not None:
        quota.left -= size


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
