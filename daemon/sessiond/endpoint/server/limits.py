"""Limits on what users may store: the quota, the streams of a session, and the generations of a stream."""

from __future__ import annotations

import sqlite3

from sessiond.endpoint.server import machines, streams
from sessiond.endpoint.server.results import ItemError
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.wire import PushAppend, PushGeneration

ROW_SIZE = 1024
"""Bytes of the longest row of a machine or a device. A machine id has up to 800 bytes."""
MAX_STREAMS = 10_000
"""Streams of a session. Each answer about the session lists all of them."""

MAX_GENERATIONS = 100_000
"""Generations of a stream. Each answer about the session's streams lists all of them."""


def check_quota(db: sqlite3.Connection, store: Store, size: int) -> None:
    """Raise ItemError if the quota has fewer than `size` bytes left."""
    remaining = store.remaining_quota(db)
    if remaining is not None and remaining < size:
        raise ItemError("quota", "the endpoint's quota is used up")


def check_streams(db: sqlite3.Connection, user: str, item: PushAppend | PushGeneration) -> None:
    """Raise ItemError if the item's session can't have another stream."""
    if streams.count(db, user, item.machine_id, str(item.session), MAX_STREAMS) >= MAX_STREAMS:
        raise ItemError("invalid", f"session {item.session} has {MAX_STREAMS} streams, which is the limit")


def check_generations(
    db: sqlite3.Connection, user: str, stream: int | None, highest: int, item: PushGeneration
) -> None:
    """Raise ItemError if the item's stream can't have another generation; `highest` is the number of its current one.

    `stream`: its number in the store; None if the item begins it.
    """
    if stream is None:
        check_streams(db, user, item)
        return
    # Numbers may be skipped, so the highest one says only that there are not more. Usually that is enough, and the
    # generations need not be counted for each new one.
    if highest + 1 >= MAX_GENERATIONS and streams.count_generations(db, stream, MAX_GENERATIONS) >= MAX_GENERATIONS:
        raise ItemError(
            "invalid",
            f"stream {item.stream} of session {item.session} has {MAX_GENERATIONS} generations, which is the limit",
        )


def claim_machine(db: sqlite3.Connection, store: Store, user: str, machine: str, device: str) -> bool:
    """Assign a free machine id to a device, and return whether the id belongs to it.

    Raises:
        ItemError: the quota has no space for another machine.
    """
    if machines.is_free(db, user, machine):
        # A line whose item is not stored still adds this row, so many such lines could fill the disk.
        check_quota(db, store, ROW_SIZE)
    return machines.claim(db, user, machine, device)


def can_note_batch(db: sqlite3.Connection, store: Store, user: str, device: str) -> bool:
    """Return whether a device has a row, or the quota has space for one.

    Without a row, the device does not get the id of its last push, so it requests the offsets of its streams.
    """
    remaining = store.remaining_quota(db)
    if remaining is None or remaining >= ROW_SIZE:
        return True
    return machines.last_batch(db, user, device) is not None
