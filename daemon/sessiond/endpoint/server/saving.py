"""Saves the changes of a batch of pushes, with a few statements for the whole batch."""

from __future__ import annotations

from operator import itemgetter

from sessiond.endpoint.server import changes as sequence
from sessiond.endpoint.server import checkpoints, expired
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.digests import MAX_FOLLOWED, KnownDigests
from sessiond.endpoint.server.packer import CHUNK
from sessiond.endpoint.server.records import put
from sessiond.endpoint.server.state import Changes
from sessiond.endpoint.server.store import StoreBusy
from sessiond.endpoint.server.stream_state import GenerationState, StreamState


def save(db: Database, digests: KnownDigests, changes: Changes) -> None:
    """Save the changes. The streams that the batch began get their numbers.

    The users' sequences of changes are last: in PostgreSQL, others that change the same sequence wait from there on.
    """
    for digest, device in sorted(changes.tokens.items()):
        bound = db.execute(
            "UPDATE tokens SET device = ? WHERE sha256 = ? AND device IS NULL", (str(device), digest)
        ).rowcount
        if bound != 1:  # in PostgreSQL, another process was first
            raise StoreBusy("a token was bound to another device at the same time")
    if changes.machines:
        db.executemany(
            "INSERT INTO machines (user, machine, device) VALUES (?, ?, ?)"
            " ON CONFLICT (user, machine) DO UPDATE SET device = excluded.device, open = 0",
            [(*key, device) for key, device in changes.machines.items()],
        )
    if changes.batches:
        db.executemany(
            "INSERT INTO devices (user, device, batch) VALUES (?, ?, ?)"
            " ON CONFLICT (user, device) DO UPDATE SET batch = excluded.batch",
            [(*key, batch) for key, batch in changes.batches.items()],
        )
    _save_streams(db, digests, list(changes.streams.values()))
    positions = sequence.advance(db, changes.changed, changes.held)
    put(db, changes.records, positions)
    if changes.expired:
        expired.save(db, changes.expired, positions)
    sequence.move(db, {key: position for key, position in positions.items() if key not in changes.records})


def _save_streams(db: Database, digests: KnownDigests, streams: list[StreamState]) -> None:
    kinds = [(each.media_type, each.number) for each in streams if each.number is not None and each.media_type]
    if kinds:
        db.executemany("UPDATE streams SET media_type = ? WHERE stream = ?", kinds)
    new = [stream for stream in streams if stream.number is None]
    if new:
        for stream, number in zip(new, db.new_streams(len(new)), strict=True):
            stream.number = number
        db.executemany(
            "INSERT INTO streams (stream, user, machine, session, name, media_type) VALUES (?, ?, ?, ?, ?, ?)",
            [(stream.number, *stream.name, stream.media_type) for stream in new],
        )
    # In one order, so that two transactions in PostgreSQL can't wait for each other.
    ordered = sorted(((each.number, each) for each in streams if each.number is not None), key=itemgetter(0))
    changed = [
        (number, generation)
        for number, stream in ordered
        for generation in stream.generations.values()
        if generation is not None and (generation.stored is None or generation.tails)
    ]
    _save_generations(db, digests, changed)
    db.executemany(
        "INSERT INTO chunks (stream, generation, start, length, frame) VALUES (?, ?, ?, ?, ?)",
        [
            (number, each.generation, tail.start, tail.payload.length, tail.payload.frame())
            for number, each in changed
            for tail in each.tails
        ],
    )


def _save_generations(db: Database, digests: KnownDigests, changed: list[tuple[int, GenerationState]]) -> None:
    begun = [each for each in changed if each[1].stored is None]
    grown = [each for each in changed if each[1].stored is not None]
    for number, generation in changed:
        _follow(digests, number, generation)
    if begun:
        db.executemany(
            "INSERT INTO generations (stream, generation, previous, keep, base, length, sha256, tails, waiting)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (number, each.generation, each.previous, each.keep, each.base, each.length, each.sha256, *_added(each))
                for number, each in begun
            ],
        )
    if grown:
        db.executemany(
            "UPDATE generations SET length = ?, sha256 = ?, tails = tails + ?, waiting = waiting + ?"
            " WHERE stream = ? AND generation = ?",
            [(each.length, each.sha256, *_added(each), number, each.generation) for number, each in grown],
        )
    for number, generation in changed:
        if generation.passed:
            checkpoints.add(db, number, generation.generation, generation.passed)


def _added(generation: GenerationState) -> tuple[int, int]:
    """Return the number of new chunks that the packer may merge with others, and the bytes of all new frames."""
    payloads = [tail.payload for tail in generation.tails]
    return sum(each.length < CHUNK for each in payloads), sum(len(each.frame()) for each in payloads)


def _follow(digests: KnownDigests, number: int, generation: GenerationState) -> None:
    """Keep the running hashes of a generation, and with them the digest of its end."""
    if generation.digest is not None:
        digests.streams.keep(number, generation.generation, generation.length, generation.digest)
    if generation.stored is None and generation.previous is not None:
        digests.sha256.branch(number, generation.generation, generation.previous, generation.keep)
    for tail in generation.tails:
        generation.sha256 = None
        if tail.follows_sha256:
            payload = tail.payload
            data = payload.plain() if payload.length <= MAX_FOLLOWED else b""
            found = digests.sha256.extend(
                number, generation.generation, tail.start, payload.length, payload.sha256(), data
            )
            generation.sha256 = found or None
