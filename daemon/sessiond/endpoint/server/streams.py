"""Streams in the store: their generations and chunks.

A generation refers to an older one for the bytes that both share. Bytes are stored in chunks, each one a Zstandard
frame. A push adds a chunk for each append, and the packer merges them later (packer.py). With an object store, it then
moves their frames there (offloader.py). This module finds the chunks, and reading.py reads their bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from sessiond.endpoint.server.database import Database
from sessiond.endpoint.wire import MAX_NUMBER, Generation, StreamLength
from sessiond.errors import StateError

Key = TypeVar("Key")


class Damaged(StateError):
    """Stored bytes of one stream can't be read any more: a chunk is missing, or its frame is cut or changed."""


class GenerationRow(msgspec.Struct, frozen=True, gc=False):
    """A row of the table `generations`."""

    generation: int
    previous: int | None
    keep: int
    base: int | None
    length: int
    sha256: str | None


class State(msgspec.Struct, frozen=True, gc=False):
    """The first `length` bytes of a generation. `digest` is theirs if it is known, else None.

    `follows_sha256`: that is the SHA-256. Otherwise it is the stream digest.
    """

    stream: int
    generation: int
    length: int
    digest: str | None
    follows_sha256: bool = True


class Location(msgspec.Struct, frozen=True, gc=False):
    """The place of a frame in an object: its name, the first byte and the number of bytes."""

    name: str
    at: int
    size: int


class Piece(msgspec.Struct, frozen=True, gc=False):
    """The bytes [first, stop) of a decoded chunk of `length` bytes; `stored` is its frame, or where that is."""

    length: int
    stored: bytes | Location
    first: int
    stop: int


_SELECT_GENERATION = "SELECT generation, previous, keep, base, length, sha256 FROM generations WHERE stream = ?"


def find(db: Database, user: str, machine: str, session: str, name: str) -> int | None:
    """Return the number of a stream in the store; None if it does not exist."""
    row = db.execute(
        "SELECT stream FROM streams WHERE user = ? AND machine = ? AND session = ? AND name = ?",
        (user, machine, session, name),
    ).fetchone()
    return None if row is None else int(row[0])


def media_type(db: Database, stream: int) -> str | None:
    """Return the media type of a stream; None for records."""
    row = db.execute("SELECT media_type FROM streams WHERE stream = ?", (stream,)).fetchone()
    return None if row is None else row[0]


def count(db: Database, user: str, machine: str, session: str, limit: int) -> int:
    """Return the number of streams of a session, up to `limit`."""
    row = db.execute(
        "SELECT count(*) FROM"
        " (SELECT 1 FROM streams WHERE user = ? AND machine = ? AND session = ? LIMIT ?) AS counted",
        (user, machine, session, limit),
    ).fetchone()
    return int(row[0])


def count_generations(db: Database, stream: int, limit: int) -> int:
    """Return the number of generations of a stream, up to `limit`."""
    row = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM generations WHERE stream = ? LIMIT ?) AS counted", (stream, limit)
    )
    return int(row.fetchone()[0])


def find_generation(db: Database, stream: int, generation: int | None = None) -> GenerationRow | None:
    """Return a generation of a stream, by default the current (highest) one; None if it does not exist."""
    if generation is None:
        row = db.execute(f"{_SELECT_GENERATION} ORDER BY generation DESC LIMIT 1", (stream,)).fetchone()
    else:
        row = db.execute(f"{_SELECT_GENERATION} AND generation = ?", (stream, generation)).fetchone()
    return None if row is None else GenerationRow(*row)


def current(db: Database, user: str, machine: str, session: str) -> list[StreamLength]:
    """Return the current generation and length of each stream of a session, by name."""
    rows = db.execute(
        "SELECT name, generation, length FROM streams JOIN generations"
        " ON generations.stream = streams.stream"
        " WHERE user = ? AND machine = ? AND session = ? AND generation ="
        " (SELECT max(generation) FROM generations AS later WHERE later.stream = streams.stream) ORDER BY name",
        (user, machine, session),
    )
    return [StreamLength(name=name, generation=generation, length=length) for name, generation, length in rows]


def current_of(
    db: Database, user: str, sessions: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], list[StreamLength]]:
    """Return what `current` does, of several sessions of a user, by machine and session."""
    rows = db.execute(
        f"SELECT m, s, name, generation, length FROM {db.join_keys(('u', 'm', 's'))} CROSS JOIN streams"
        " CROSS JOIN generations WHERE user = u AND machine = m AND session = s"
        " AND generations.stream = streams.stream AND generation ="
        " (SELECT max(generation) FROM generations AS later WHERE later.stream = streams.stream) ORDER BY name",
        db.key_parameters([(user, machine, session) for machine, session in sessions]),
    )
    return _grouped(((machine, session), *stream) for machine, session, *stream in rows)


def current_in(db: Database, user: str, first: int, last: int) -> dict[int, list[StreamLength]]:
    """Return what `current` does, of the sessions from one position of the user's sequence of changes to another."""
    rows = db.execute(
        "SELECT change, name, generation, length FROM sessions CROSS JOIN streams"
        " CROSS JOIN generations WHERE sessions.user = ? AND change >= ? AND change <= ?"
        " AND streams.user = sessions.user AND streams.machine = sessions.machine"
        " AND streams.session = sessions.session AND generations.stream = streams.stream AND generation ="
        " (SELECT max(generation) FROM generations AS later WHERE later.stream = streams.stream) ORDER BY change, name",
        (user, first, last),
    )
    return _grouped(rows)


def generations(
    db: Database, user: str, machine: str, session: str, after: tuple[str, int]
) -> Iterator[tuple[str, str | None, Generation]]:
    """Iterate over (name, media type, generation) of a session's streams behind (name, generation)."""
    name, generation = after
    rows = db.execute(
        "SELECT name, media_type, generation, previous, keep, length FROM streams JOIN generations"
        " ON generations.stream = streams.stream"
        " WHERE user = ? AND machine = ? AND session = ? AND name >= ? AND (name > ? OR generation > ?)"
        " ORDER BY name, generation",
        (user, machine, session, name, name, generation),
    )
    for name, kind, number, previous, keep, length in rows:
        yield name, kind, Generation(generation=number, previous=previous, keep=keep, length=length)


def find_state(
    db: Database, user: str, machine: str, session: str, name: str, *, follows_sha256: bool = True
) -> State | None:
    """Return the state of the current generation of a stream; None if the stream does not exist."""
    stream = find(db, user, machine, session, name)
    now = None if stream is None else find_generation(db, stream)
    if stream is None or now is None:
        return None
    return State(stream, now.generation, now.length, now.sha256 if follows_sha256 else None, follows_sha256)


def owner(db: Database, stream: int, generation: int, keep: int) -> int:
    """Return the generation that has the last of the first `keep` bytes of a generation as its own."""
    # One statement at any depth: a stream may have many thousands of generations.
    (found,) = db.execute(
        "WITH RECURSIVE chain (generation, keep, base) AS ("
        " SELECT generation, keep, base FROM generations WHERE stream = :stream AND generation = :generation"
        " UNION ALL SELECT older.generation, older.keep, older.base FROM chain"
        " JOIN generations AS older ON older.stream = :stream AND older.generation = chain.base"
        " WHERE chain.keep >= :keep)"
        " SELECT generation FROM chain WHERE keep < :keep LIMIT 1",
        {"stream": stream, "generation": generation, "keep": keep},
    ).fetchone()
    return int(found)


def owners(db: Database, stream: int, generation: int, end: int, limit: int = MAX_NUMBER) -> list[tuple[int, int]]:
    """Return the generations that own the first `end` bytes of one, itself first, each with how many it shares.

    Up to `limit` of them.
    """
    # One statement at any depth: a stream may have many thousands of generations.
    rows = db.execute(
        "WITH RECURSIVE chain (generation, shared, keep, base) AS ("
        " SELECT generation, CAST(:end AS BIGINT), keep, base FROM generations"
        " WHERE stream = :stream AND generation = :generation"
        " UNION ALL SELECT older.generation, CASE WHEN chain.shared < chain.keep THEN chain.shared ELSE chain.keep END,"
        " older.keep, older.base FROM chain"
        " JOIN generations AS older ON older.stream = :stream AND older.generation = chain.base)"
        " SELECT generation, shared FROM chain LIMIT :limit",
        {"stream": stream, "generation": generation, "end": end, "limit": limit},
    )
    return [(int(owner), int(shared)) for owner, shared in rows]


def pieces(db: Database, stream: int, generation: int, start: int, end: int) -> list[Piece]:
    """Return where the bytes [start, end) of a generation are, which must have them, in order. Raises: Damaged."""
    wanted = max(end - start, 0)
    chain = db.execute(
        "WITH RECURSIVE chain (generation, keep, base) AS ("
        " SELECT generation, keep, base FROM generations WHERE stream = :stream AND generation = :generation"
        " UNION ALL SELECT older.generation, older.keep, older.base FROM chain"
        " JOIN generations AS older ON older.stream = :stream AND older.generation = chain.base"
        " WHERE chain.keep > :start)"
        " SELECT generation, keep FROM chain",
        {"stream": stream, "generation": generation, "start": start},
    )
    spans: list[tuple[int, int, int]] = []
    for owner, keep in chain:
        if keep < end and start < end:
            spans.append((owner, max(keep, start), end))
            end = keep
    found: list[Piece] = []
    for owner, first, stop in reversed(spans):
        rows = db.execute(
            "SELECT chunks.start, length, frame, at, size, objects.name"
            " FROM chunks LEFT JOIN objects ON objects.object = chunks.object"
            " WHERE stream = :stream AND generation = :owner AND chunks.start < :stop AND chunks.start >="
            " (SELECT max(start) FROM chunks WHERE stream = :stream AND generation = :owner AND start <= :first)"
            " ORDER BY chunks.start",
            {"stream": stream, "owner": owner, "stop": stop, "first": first},
        )
        for chunk_start, length, frame, at, size, name in rows:
            stored = Location(name, at, size) if name is not None else bytes(frame)
            found.append(Piece(int(length), stored, max(first - chunk_start, 0), min(stop - chunk_start, length)))
    missing = wanted - sum(piece.stop - piece.first for piece in found)
    if missing:
        raise Damaged(f"{missing} stored bytes of generation {generation} are missing")
    return found


def _grouped(rows: Iterable[tuple[Key, str, int, int]]) -> dict[Key, list[StreamLength]]:
    found: dict[Key, list[StreamLength]] = {}
    for key, name, generation, length in rows:
        found.setdefault(key, []).append(StreamLength(name=name, generation=generation, length=length))
    return found
