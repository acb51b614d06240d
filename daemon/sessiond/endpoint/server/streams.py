"""Streams in the store: their generations and chunks.

A generation refers to an older one for the bytes that both share. Bytes are stored in chunks, each one a Zstandard
frame. Small appends extend the last chunk until it has CHUNK bytes, so that a stream that grows line by line does not
have a row for each line.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator

import msgspec

from sessiond import zstd
from sessiond.endpoint.server.digests import MAX_FOLLOWED, Digests
from sessiond.endpoint.server.payload import AppendPayload
from sessiond.endpoint.wire import Generation, StreamLength

CHUNK = 64 << 10
FEW = 8
"""Up to this many streams of a session are looked up one by one; for more, one query lists all."""
MAX_CHUNK = 64 << 20
"""Decoded bytes of the largest chunk that is read. A segment is far smaller, so a larger chunk is damaged."""


class GenerationRow(msgspec.Struct, frozen=True, gc=False):
    """A row of the table `generations`."""

    generation: int
    previous: int | None
    keep: int
    base: int | None
    length: int
    sha256: str | None


class State(msgspec.Struct, frozen=True, gc=False):
    """The first `length` bytes of a generation. `sha256` is their digest if it is stored, else None."""

    stream: int
    generation: int
    length: int
    sha256: str | None


_SELECT_GENERATION = "SELECT generation, previous, keep, base, length, sha256 FROM generations WHERE stream = ?"


def find(db: sqlite3.Connection, user: str, machine: str, session: str, name: str) -> int | None:
    """Return the number of a stream in the store; None if it does not exist."""
    row = db.execute(
        "SELECT stream FROM streams WHERE user = ? AND machine = ? AND session = ? AND name = ?",
        (user, machine, session, name),
    ).fetchone()
    return None if row is None else int(row[0])


def find_or_create(db: sqlite3.Connection, user: str, machine: str, session: str, name: str) -> int:
    """Return the number of a stream in the store; create it if it does not exist."""
    found = find(db, user, machine, session, name)
    if found is None:
        # The number of an erased stream is never used again: a download that is under way would continue with the
        # bytes of another stream, perhaps of another user.
        made = db.execute(
            "INSERT INTO streams (stream, user, machine, session, name) VALUES (1 + max("
            "coalesce((SELECT max(stream) FROM streams), 0),"
            " coalesce((SELECT value FROM facts WHERE name = 'last_stream'), 0)), ?, ?, ?, ?)",
            (user, machine, session, name),
        )
        found = made.lastrowid
        assert found is not None
    return found


def media_type(db: sqlite3.Connection, stream: int) -> str | None:
    """Return the media type of a stream; None for records."""
    row = db.execute("SELECT media_type FROM streams WHERE stream = ?", (stream,)).fetchone()
    return None if row is None else row[0]


def count(db: sqlite3.Connection, user: str, machine: str, session: str, limit: int) -> int:
    """Return the number of streams of a session, up to `limit`."""
    row = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM streams WHERE user = ? AND machine = ? AND session = ? LIMIT ?)",
        (user, machine, session, limit),
    ).fetchone()
    return int(row[0])


def count_generations(db: sqlite3.Connection, stream: int, limit: int) -> int:
    """Return the number of generations of a stream, up to `limit`."""
    row = db.execute("SELECT count(*) FROM (SELECT 1 FROM generations WHERE stream = ? LIMIT ?)", (stream, limit))
    return int(row.fetchone()[0])


def find_generation(db: sqlite3.Connection, stream: int, generation: int | None = None) -> GenerationRow | None:
    """Return a generation of a stream, by default the current (highest) one; None if it does not exist."""
    if generation is None:
        row = db.execute(f"{_SELECT_GENERATION} ORDER BY generation DESC LIMIT 1", (stream,)).fetchone()
    else:
        row = db.execute(f"{_SELECT_GENERATION} AND generation = ?", (stream, generation)).fetchone()
    return None if row is None else GenerationRow(*row)


def ahead(
    db: sqlite3.Connection, user: str, machine: str, session: str, client: Iterable[tuple[str, int, int]]
) -> list[StreamLength]:
    """Return the streams that are longer in the store than the client's (name, generation, length)."""
    known = {name: (generation, length) for name, generation, length in client}
    if len(known) > FEW:
        held = current(db, user, machine, session)
    else:
        held = []
        for name in known:
            stream = find(db, user, machine, session, name)
            now = None if stream is None else find_generation(db, stream)
            if now is not None:
                held.append(StreamLength(name=name, generation=now.generation, length=now.length))
    return [each for each in held if each.name in known and (each.generation, each.length) > known[each.name]]


def current(db: sqlite3.Connection, user: str, machine: str, session: str) -> list[StreamLength]:
    """Return the current generation and length of each stream of a session, by name."""
    rows = db.execute(
        "SELECT name, max(generation), generations.length FROM streams JOIN generations USING (stream)"
        " WHERE user = ? AND machine = ? AND session = ? GROUP BY stream ORDER BY name",
        (user, machine, session),
    )
    return [StreamLength(name=name, generation=generation, length=length) for name, generation, length in rows]


def generations(
    db: sqlite3.Connection, user: str, machine: str, session: str, after: tuple[str, int]
) -> Iterator[tuple[str, str | None, Generation]]:
    """Iterate over (name, media type, generation) of a session's streams behind (name, generation)."""
    name, generation = after
    rows = db.execute(
        "SELECT name, media_type, generation, previous, keep, length FROM streams JOIN generations USING (stream)"
        " WHERE user = ? AND machine = ? AND session = ? AND name >= ? AND (name > ? OR generation > ?)"
        " ORDER BY name, generation",
        (user, machine, session, name, name, generation),
    )
    for name, kind, number, previous, keep, length in rows:
        yield name, kind, Generation(generation=number, previous=previous, keep=keep, length=length)


def find_state(db: sqlite3.Connection, user: str, machine: str, session: str, name: str) -> State | None:
    """Return the state of the current generation of a stream; None if the stream does not exist."""
    stream = find(db, user, machine, session, name)
    now = None if stream is None else find_generation(db, stream)
    return None if stream is None or now is None else State(stream, now.generation, now.length, now.sha256)


def begin(db: sqlite3.Connection, stream: int, generation: int, previous: int | None, keep: int) -> None:
    """Add a generation that shares the first `keep` bytes of `previous`, which must have them."""
    base = None
    if keep:
        # `previous` may itself share all of the kept bytes with an older generation. The new one refers to the
        # generation that owns the last of them. One statement finds it at any depth.
        (base,) = db.execute(
            "WITH RECURSIVE chain (generation, keep, base) AS ("
            " SELECT generation, keep, base FROM generations WHERE stream = :stream AND generation = :previous"
            " UNION ALL SELECT next.generation, next.keep, next.base FROM chain"
            " JOIN generations AS next ON next.stream = :stream AND next.generation = chain.base"
            " WHERE chain.keep >= :keep)"
            " SELECT generation FROM chain WHERE keep < :keep LIMIT 1",
            {"stream": stream, "previous": previous, "keep": keep},
        ).fetchone()
    db.execute(
        "INSERT INTO generations (stream, generation, previous, keep, base, length) VALUES (?, ?, ?, ?, ?, ?)",
        (stream, generation, previous, keep, base, keep),
    )


def append(
    db: sqlite3.Connection, digests: Digests, stream: int, to: GenerationRow, payload: AppendPayload, kind: str | None
) -> None:
    """Add bytes at the end of a generation. `kind` is the media type of the stream; None leaves it."""
    if kind is not None:
        db.execute("UPDATE streams SET media_type = ? WHERE stream = ? AND media_type IS NOT ?", (kind, stream, kind))
    last = db.execute(
        "SELECT chunk, start, length, frame FROM chunks WHERE stream = ? AND generation = ?"
        " ORDER BY start DESC LIMIT 1",
        (stream, to.generation),
    ).fetchone()
    if last is not None and last[2] + payload.length <= CHUNK:
        merged = zstd.decompress(last[3], MAX_CHUNK) + payload.plain()
        db.execute(
            "UPDATE chunks SET length = ?, frame = ? WHERE chunk = ?", (len(merged), zstd.compress(merged), last[0])
        )
    else:
        db.execute(
            "INSERT INTO chunks (stream, generation, start, length, frame) VALUES (?, ?, ?, ?, ?)",
            (stream, to.generation, to.length, payload.length, payload.frame()),
        )
    data = payload.plain() if payload.length <= MAX_FOLLOWED else b""
    sha256 = digests.extend(stream, to.generation, to.length, payload.length, payload.sha256, data)
    db.execute(
        "UPDATE generations SET length = ?, sha256 = ? WHERE stream = ? AND generation = ?",
        (to.length + payload.length, sha256 or None, stream, to.generation),
    )


def owners(db: sqlite3.Connection, stream: int, generation: int, end: int, limit: int = -1) -> list[tuple[int, int]]:
    """Return the generations that own the first `end` bytes of one, itself first, each with how many it shares.

    Up to `limit` of them; -1: all.
    """
    # One statement at any depth: a stream may have many thousands of generations.
    rows = db.execute(
        "WITH RECURSIVE chain (generation, shared, keep, base) AS ("
        " SELECT generation, :end, keep, base FROM generations WHERE stream = :stream AND generation = :generation"
        " UNION ALL SELECT next.generation, min(chain.shared, chain.keep), next.keep, next.base FROM chain"
        " JOIN generations AS next ON next.stream = :stream AND next.generation = chain.base)"
        " SELECT generation, shared FROM chain LIMIT :limit",
        {"stream": stream, "generation": generation, "end": end, "limit": limit},
    )
    return [(int(owner), int(shared)) for owner, shared in rows]


def read(db: sqlite3.Connection, stream: int, generation: int, start: int, end: int) -> bytes:
    """Return the bytes [start, end) of a generation, which must have them."""
    return b"".join(parts(db, stream, generation, start, end))


def parts(db: sqlite3.Connection, stream: int, generation: int, start: int, end: int) -> Iterator[bytes]:
    """Iterate over the bytes [start, end) of a generation, which must have them, chunk by chunk."""
    for _, frame, first, stop in _chunks(db, stream, generation, start, end):
        yield zstd.decompress(frame, MAX_CHUNK)[first:stop]


def same(
    db: sqlite3.Connection, stream: int, generation: int, start: int, data: bytes, meter: Callable[[int], None]
) -> bool:
    """Return whether a generation has these bytes from `start` on.

    `meter` is called with the decoded length of each chunk before it is decoded: a few bytes may be in a large chunk.
    """
    at = 0
    for length, frame, first, stop in _chunks(db, stream, generation, start, start + len(data)):
        meter(length)
        part = zstd.decompress(frame, MAX_CHUNK)[first:stop]
        if data[at : at + len(part)] != part:
            return False
        at += len(part)
    return True


def _chunks(
    db: sqlite3.Connection, stream: int, generation: int, start: int, end: int
) -> Iterator[tuple[int, bytes, int, int]]:
    """Iterate over the chunks of the bytes [start, end): decoded length, frame, first and last index in the chunk."""
    chain = db.execute(
        "WITH RECURSIVE chain (generation, keep, base) AS ("
        " SELECT generation, keep, base FROM generations WHERE stream = :stream AND generation = :generation"
        " UNION ALL SELECT next.generation, next.keep, next.base FROM chain"
        " JOIN generations AS next ON next.stream = :stream AND next.generation = chain.base"
        " WHERE chain.keep > :start)"
        " SELECT generation, keep FROM chain",
        {"stream": stream, "generation": generation, "start": start},
    )
    spans: list[tuple[int, int, int]] = []
    for owner, keep in chain:
        if keep < end and start < end:
            spans.append((owner, max(keep, start), end))
            end = keep
    for owner, first, stop in reversed(spans):
        rows = db.execute(
            "SELECT start, length, frame FROM chunks WHERE stream = :stream AND generation = :owner"
            " AND start < :stop AND start >="
            " (SELECT max(start) FROM chunks WHERE stream = :stream AND generation = :owner AND start <= :first)"
            " ORDER BY start",
            {"stream": stream, "owner": owner, "stop": stop, "first": first},
        )
        for chunk_start, length, frame in rows:
            yield int(length), frame, max(first - chunk_start, 0), stop - chunk_start
