"""The files in the catalog: how far each was read, and its captured stream."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from sessiond.decoding import msgpack_decoder
from sessiond.reader import Checkpoint, Extent
from sessiond.spool.decoding import checked
from sessiond.spool.rows import FileState

BEHIND = "queued < folded OR gap_from IS NOT NULL OR held IS NOT NULL"
"""The condition for streams whose transcript has to be read again."""
_pack = msgspec.msgpack.Encoder().encode
_unpack_checkpoint = checked(msgpack_decoder, Checkpoint)


class Files:
    """Files, watermarks, pins and extents. Writing methods run inside `Spool.transaction`."""

    _db: sqlite3.Connection

    # Files

    def file(self, path: str) -> FileState | None:
        """Return the stored state of a path; None if there is none."""
        row = self._db.execute(
            "SELECT path, tool, stream, checkpoint, pin, gone_ms, trouble FROM file WHERE path = ?",
            (os.fsencode(path),),
        ).fetchone()
        return None if row is None else file_state(row)

    def files(self, stream: int) -> list[FileState]:
        """Return the files that have or had a stream."""
        rows = self._db.execute(
            "SELECT path, tool, stream, checkpoint, pin, gone_ms, trouble FROM file WHERE stream = ?", (stream,)
        )
        return [file_state(row) for row in rows]

    def checkpoints(self) -> Iterator[tuple[str, Checkpoint]]:
        """Iterate over (path, checkpoint) of the files that still exist."""
        for path, packed in self._db.execute(
            "SELECT path, checkpoint FROM file WHERE gone_ms IS NULL AND checkpoint IS NOT NULL"
        ):
            yield os.fsdecode(path), _unpack_checkpoint(packed)

    def troubled(self, start: str) -> list[FileState]:
        """Return the files that can't be read for a reason that begins with `start`."""
        rows = self._db.execute(
            "SELECT path, tool, stream, checkpoint, pin, gone_ms, trouble FROM file"
            " WHERE trouble IS NOT NULL AND substr(trouble, 1, ?) = ?",
            (len(start), start),
        )
        return [file_state(row) for row in rows.fetchall()]

    def save_file(self, file: FileState) -> None:
        """Store the state of a path."""
        checkpoint = None if file.checkpoint is None else _pack(file.checkpoint)
        self._db.execute(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?)",
            (os.fsencode(file.path), file.tool, file.stream, checkpoint, file.pin, file.gone_ms, file.trouble),
        )

    def marks(self, path: str) -> dict[str, str]:
        """Return the watermark of each session in a database, by native id."""
        return dict(self._db.execute("SELECT native_id, mark FROM mark WHERE path = ?", (os.fsencode(path),)))

    def set_mark(self, path: str, native_id: str, mark: str) -> None:
        """Store a watermark."""
        self._db.execute("INSERT OR REPLACE INTO mark VALUES (?, ?, ?)", (os.fsencode(path), native_id, mark))

    def drop_mark(self, path: str, native_id: str) -> None:
        """Remove the watermark of a session that vanished, so that it is read if it comes back."""
        self._db.execute("DELETE FROM mark WHERE path = ? AND native_id = ?", (os.fsencode(path), native_id))

    def outdate_projections(self, tools: Iterable[str]) -> int:
        """Mark all documents, folders and databases of some tools to be read again; return how many there are.

        The marks of a database's sessions are emptied instead of removed: a session that is missing at the next listing
        still counts as known. Each mark is set again once its session was read, so a kill in between repeats no more
        than the other sessions.
        """
        count = 0
        for tool in tools:
            rows = self._db.execute("SELECT path, checkpoint FROM file WHERE tool = ? AND checkpoint NOT NULL", (tool,))
            for path, packed in rows.fetchall():
                checkpoint = _unpack_checkpoint(packed)
                if checkpoint.probe:
                    continue  # a file of lines, which is not projected
                self._db.execute("UPDATE file SET checkpoint = ? WHERE path = ?", (_pack(checkpoint.outdate()), path))
                self._db.execute("UPDATE mark SET mark = '' WHERE path = ? AND native_id != ''", (path,))
                count += 1
        return count

    def inside(self, path: str) -> list[FileState]:
        """Return the stored states of the sessions in a container."""
        start, end = os.fsencode(f"{path}::"), os.fsencode(f"{path}:;")
        rows = self._db.execute(
            "SELECT path, tool, stream, checkpoint, pin, gone_ms, trouble FROM file WHERE path > ? AND path < ?",
            (start, end),
        )
        return [file_state(row) for row in rows]

    def behind_inside(self, path: str, limit: int) -> list[str]:
        """Return the native ids of sessions in a container with a stream that has to be read again."""
        rows = self._db.execute(
            f"SELECT file.path FROM file JOIN stream ON stream.id = file.stream WHERE file.path > ? AND file.path < ?"
            f" AND file.gone_ms IS NULL AND ({BEHIND}) LIMIT ?",
            (os.fsencode(f"{path}::"), os.fsencode(f"{path}:;"), limit),
        )
        return [os.fsdecode(row[0])[len(path) + 2 :].partition("::")[0] for row in rows]

    def pins(self) -> set[str]:
        """Return the pins of all files."""
        return {row[0] for row in self._db.execute("SELECT pin FROM file WHERE pin IS NOT NULL")}

    def save_pin(self, path: str, pin: str | None) -> None:
        """Store the pin of a file; None: it has none."""
        self._db.execute("UPDATE file SET pin = ? WHERE path = ?", (pin, os.fsencode(path)))

    # Names of side files

    def add_mentions(self, tool: str, session: int, names: Collection[str]) -> None:
        """Store that the records of a session mention side files. The first session to do so has them."""
        self._db.executemany(
            "INSERT INTO mention VALUES (?, ?, ?) ON CONFLICT DO NOTHING", [(tool, name, session) for name in names]
        )

    def mentioning(self, tool: str, name: str) -> str | None:
        """Return the native id of the session whose records mention a side file; None if there is none."""
        row = self._db.execute(
            "SELECT native_id FROM mention JOIN session ON session.id = mention.session"
            " WHERE mention.tool = ? AND name = ?",
            (tool, name),
        ).fetchone()
        return None if row is None else str(row[0])

    # Extents

    def extents(self, stream: int, start: int = 0) -> list[Extent]:
        """Return the extents of a stream that end after `start`, in their order."""
        rows = self._db.execute(
            "SELECT start, length, digest FROM extent WHERE stream = ? AND start + length > ? AND start >="
            " coalesce((SELECT max(start) FROM extent WHERE stream = ? AND start <= ?), 0) ORDER BY start",
            (stream, start, stream, start),
        )
        return [Extent(start=row[0], length=row[1], digest=row[2]) for row in rows]

    def put_extents(self, stream: int, extents: Iterable[Extent]) -> None:
        """Store what was captured."""
        self._db.executemany(
            "INSERT OR REPLACE INTO extent (stream, start, length, digest) VALUES (?, ?, ?, ?)",
            [(stream, extent.start, extent.length, extent.digest) for extent in extents],
        )

    def put_masked(self, stream: int, masked: Mapping[int, bytes | None]) -> None:
        """Store the digests of what was queued of some extents, by their start; None if nothing in it was masked."""
        self._db.executemany(
            "UPDATE extent SET masked = ? WHERE stream = ? AND start = ? AND masked IS NOT ?",
            [(digest, stream, start, digest) for start, digest in masked.items()],
        )

    def cut_extents(self, stream: int, keep: int) -> None:
        """Remove the extents at and after `keep`: the tool rewrote those bytes."""
        self._db.execute("DELETE FROM extent WHERE stream = ? AND start >= ?", (stream, keep))


def file_state(row: tuple[Any, ...]) -> FileState:
    """Return the FileState of a row of `file`."""
    return FileState(
        path=os.fsdecode(row[0]),
        tool=row[1],
        stream=row[2],
        checkpoint=None if row[3] is None else _unpack_checkpoint(row[3]),
        pin=row[4],
        gone_ms=row[5],
        trouble=row[6],
    )
