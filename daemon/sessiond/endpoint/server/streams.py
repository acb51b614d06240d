"""Streams in the store: generations, chunks, and the bytes they make.

A generation shares the start of an older one by reference. Only chunks are bytes, each one Zstandard frame;
small appends grow the last chunk until it is CHUNK bytes long, so that a stream of single lines
does not become a table of single lines.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator

import msgspec

from sessiond import zstd
from sessiond.endpoint.server.digests import Digests
from sessiond.endpoint.wire import Generation, StreamLength

CHUNK = 64 << 10
MAX_CHUNK = 64 << 20
"""Decoded bytes of the largest chunk that is believed when read back; a segment is far smaller."""


class Life(msgspec.Struct, frozen=True, gc=False):
    """A generation as stored: see the table."""

    generation: int
    previous: int | None
    keep: int
    base: int | None
    length: int
    sha256: str | None

    def public(self) -> Generation:
        """Tell it in the words of the wire."""
        return Generation(generation=self.generation, previous=self.previous, keep=self.keep, length=self.length)


_LIFE = "SELECT generation, previous, keep, base, length, sha256 FROM generations WHERE stream = ?"


def find(db: sqlite3.Connection, machine: str, session: str, name: str) -> int | None:
    """Find the number of a stream; None where nothing of it was ever stored."""
    row = db.execute(
        "SELECT stream FROM streams WHERE machine = ? AND session = ? AND name = ?", (machine, session, name)
    ).fetchone()
    return None if row is None else int(row[0])


def find_or_make(db: sqlite3.Connection, machine: str, session: str, name: str) -> int:
    """Find the number of a stream, or give it one."""
    found = find(db, machine, session, name)
    if found is None:
        made = db.execute("INSERT INTO streams (machine, session, name) VALUES (?, ?, ?)", (machine, session, name))
        found = made.lastrowid
        assert found is not None
    return found


def names(db: sqlite3.Connection, machine: str, session: str) -> list[tuple[int, str]]:
    """List the streams of a session by name."""
    rows = db.execute(
        "SELECT stream, name FROM streams WHERE machine = ? AND session = ? ORDER BY name", (machine, session)
    )
    return [(int(stream), str(name)) for stream, name in rows]


def life(db: sqlite3.Connection, stream: int, generation: int | None = None) -> Life | None:
    """Look up one generation, the current (highest) one if none is named."""
    if generation is None:
        row = db.execute(f"{_LIFE} ORDER BY generation DESC LIMIT 1", (stream,)).fetchone()
    else:
        row = db.execute(f"{_LIFE} AND generation = ?", (stream, generation)).fetchone()
    return None if row is None else Life(*row)


def ahead(
    db: sqlite3.Connection, machine: str, session: str, said: Iterable[tuple[str, int, int]]
) -> list[StreamLength]:
    """Name the streams of which more is held than (name, generation, length) of a client say."""
    found = []
    for name, generation, length in said:
        stream = find(db, machine, session, name)
        current = None if stream is None else life(db, stream)
        if current is not None and (current.generation, current.length) > (generation, length):
            found.append(StreamLength(name=name, generation=current.generation, length=current.length))
    return found


def lives(db: sqlite3.Connection, stream: int) -> list[Life]:
    """List the generations of a stream, the current one last."""
    return [Life(*row) for row in db.execute(f"{_LIFE} ORDER BY generation", (stream,))]


def digest(db: sqlite3.Connection, digests: Digests, stream: int, of: Life) -> str:
    """Tell the SHA-256 of all that is held of a generation."""
    if of.sha256 is not None:
        return of.sha256
    return digests.of(stream, of.generation, of.length, lambda start, end: read(db, stream, of.generation, start, end))


def begin(db: sqlite3.Connection, stream: int, generation: int, previous: int | None, keep: int) -> None:
    """Add a generation that shares the first `keep` bytes of `previous`, which must hold them."""
    base = previous if keep else None
    while base is not None:
        parent = life(db, stream, base)
        assert parent is not None
        if keep > parent.keep:
            break
        base = parent.base  # what is kept lies wholly in what the parent itself shares
    db.execute(
        "INSERT INTO generations (stream, generation, previous, keep, base, length) VALUES (?, ?, ?, ?, ?, ?)",
        (stream, generation, previous, keep, base, keep),
    )


def append(
    db: sqlite3.Connection,
    digests: Digests,
    stream: int,
    to: Life,
    *,
    appended: bytes,
    own: hashlib._Hash,
    frame: bytes | None,
) -> None:
    """Add bytes at the end of a generation; `own` is their hash, `frame` the sender's compression of them, if any."""
    last = db.execute(
        "SELECT chunk, start, length, frame FROM chunks WHERE stream = ? AND generation = ?"
        " ORDER BY start DESC LIMIT 1",
        (stream, to.generation),
    ).fetchone()
    if last is not None and last[2] + len(appended) <= CHUNK:
        merged = zstd.decompress(last[3], MAX_CHUNK) + appended
        db.execute(
            "UPDATE chunks SET length = ?, frame = ? WHERE chunk = ?", (len(merged), zstd.compress(merged), last[0])
        )
    else:
        if frame is None or len(frame) > len(appended):
            frame = zstd.compress(appended)
        db.execute(
            "INSERT INTO chunks (stream, generation, start, length, frame) VALUES (?, ?, ?, ?, ?)",
            (stream, to.generation, to.length, len(appended), frame),
        )
    db.execute(
        "UPDATE generations SET length = ?, sha256 = ? WHERE stream = ? AND generation = ?",
        (
            to.length + len(appended),
            digests.extend(stream, to.generation, to.length, appended, own),
            stream,
            to.generation,
        ),
    )


def read(db: sqlite3.Connection, stream: int, generation: int, start: int, end: int) -> bytes:
    """Read the bytes [start, end) of a generation, which must hold them."""
    return b"".join(_parts(db, stream, generation, start, end))


def _parts(db: sqlite3.Connection, stream: int, generation: int, start: int, end: int) -> Iterator[bytes]:
    spans: list[tuple[int, int, int]] = []
    at = life(db, stream, generation)
    while at is not None and start < end:
        if at.keep < end:
            spans.append((at.generation, max(at.keep, start), end))
            end = at.keep
        at = None if at.base is None else life(db, stream, at.base)
    for owner, first, stop in reversed(spans):
        rows = db.execute(
            "SELECT start, frame FROM chunks WHERE stream = :stream AND generation = :owner"
            " AND start < :stop AND start >="
            " (SELECT max(start) FROM chunks WHERE stream = :stream AND generation = :owner AND start <= :first)"
            " ORDER BY start",
            {"stream": stream, "owner": owner, "stop": stop, "first": first},
        )
        for chunk_start, frame in rows:
            whole = zstd.decompress(frame, MAX_CHUNK)
            yield whole[max(first - chunk_start, 0) : stop - chunk_start]
