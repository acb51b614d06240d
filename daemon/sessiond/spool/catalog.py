"""What was captured: sessions, their streams, and how far which file was read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import msgspec

from sessiond.endpoint.wire import Held, StreamLength
from sessiond.reader import Checkpoint, Extent
from sessiond.session import Fold, Session
from sessiond.spool.private import Private
from sessiond.spool.rows import FileState, SessionState, StreamState

_pack = msgspec.msgpack.Encoder().encode
_unpack_fold = msgspec.msgpack.Decoder(Fold).decode
_unpack_checkpoint = msgspec.msgpack.Decoder(Checkpoint).decode
_unpack_held = msgspec.msgpack.Decoder(Held).decode
_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(Session).decode

_STREAM = (
    "id, session, name, thread, generation, folded, queued, acked, known, gap_from, gap_to, held, rank, skipped, fold"
)
_KEPT = 4
"""Streams whose fold stays in memory: as many as a person's tools write at once."""
_SESSION = "id, uuid, tool, native_id, record, parent, title, active_ms, ongoing, gone_ms, revision, pushed, parked"


class Catalog(Private):
    """Sessions, streams, files and extents. Writing methods run inside `Spool.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._kept: dict[int, StreamState] = {}

    # Sessions

    def session(self, identity: UUID) -> SessionState | None:
        """Find a session by its id."""
        row = self._db.execute(f"SELECT {_SESSION} FROM session WHERE uuid = ?", (str(identity),)).fetchone()
        return None if row is None else session_state(row)

    def session_by_row(self, number: int) -> SessionState:
        """Get the session of a stream."""
        return session_state(self._db.execute(f"SELECT {_SESSION} FROM session WHERE id = ?", (number,)).fetchone())

    def count(self) -> int:
        """Count the sessions that have a record."""
        return int(self._db.execute("SELECT count(*) FROM session WHERE record IS NOT NULL").fetchone()[0])

    def working_directories(self) -> list[str]:
        """List the working directories of all sessions."""
        found = self._db.execute(
            "SELECT DISTINCT json_extract(CAST(record AS TEXT), '$.working_directory') FROM session"
        )
        return [row[0] for row in found if row[0]]

    def sessions(self) -> Iterator[SessionState]:
        """List all sessions that have a record, newest activity first."""
        for row in self._db.execute(f"SELECT {_SESSION} FROM session WHERE record IS NOT NULL ORDER BY active_ms DESC"):
            yield session_state(row)

    def add_session(self, identity: UUID, tool: str, native_id: str) -> int:
        """Find or make the row of a session, still without a record."""
        made = self._db.execute(
            "INSERT INTO session (uuid, tool, native_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (str(identity), tool, native_id),
        )
        if made.rowcount and made.lastrowid is not None:
            return made.lastrowid
        return int(self._db.execute("SELECT id FROM session WHERE uuid = ?", (str(identity),)).fetchone()[0])

    def put_record(
        self,
        old: SessionState,
        record: Session,
        *,
        parent: UUID | None,
        title: str | None,
        opening: int | None,
        active_ms: int,
        now_ms: int,
        touched: bool,
    ) -> bool:
        """Store a session's record; a new revision where it (or its streams: `touched`) changed.

        A revision grows even after a lost spool, for it is never below the clock (design.md 3). A new
        revision is worth another try at the endpoint, so it is no longer parked.
        """
        if not touched and (old.record, old.parent, old.title) == (record, parent, title):
            return False
        named = None if parent is None else str(parent)
        self._db.execute(
            "UPDATE session SET record = ?, parent = ?, title = ?, opening = ?, active_ms = ?, ongoing = ?,"
            " revision = ?, parked = NULL WHERE id = ?",
            (
                _to_json(record),
                named,
                title,
                opening,
                active_ms,
                record.ended_at is None,
                max(old.revision + 1, now_ms),
                old.id,
            ),
        )
        return True

    def raise_revision(self, number: int, above: int, now_ms: int) -> None:
        """Give a session a revision above one that the endpoint holds from another life of this spool."""
        self._db.execute(
            "UPDATE session SET revision = max(revision + 1, ?, ?) WHERE id = ?", (above + 1, now_ms, number)
        )

    def kin(self, opening: int, but: int) -> list[SessionState]:
        """Find sessions that begin with the same assistant message: copies of one another."""
        rows = self._db.execute(
            f"SELECT {_SESSION} FROM session WHERE opening = ? AND id != ? AND record IS NOT NULL", (opening, but)
        )
        return [session_state(row) for row in rows]

    def children(self, identity: UUID) -> list[SessionState]:
        """Find sessions that name this one as their parent."""
        rows = self._db.execute(f"SELECT {_SESSION} FROM session WHERE parent = ?", (str(identity),))
        return [session_state(row) for row in rows]

    def idle(self, before_ms: int) -> list[int]:
        """Find ongoing sessions without activity since then."""
        rows = self._db.execute("SELECT id FROM session WHERE ongoing AND active_ms <= ?", (before_ms,))
        return [row[0] for row in rows]

    def next_idle_ms(self) -> int | None:
        """Say when the longest idle of the ongoing sessions was active last."""
        row = self._db.execute("SELECT min(active_ms) FROM session WHERE ongoing").fetchone()
        return None if row[0] is None else int(row[0])

    # Streams

    def stream(self, number: int) -> StreamState:
        """Get a working copy of a stream."""
        kept = self._kept.pop(number, None)
        at = (-1, -1) if kept is None else (kept.generation, kept.folded)
        row = self._db.execute(
            f"SELECT {_STREAM.removesuffix(', fold')}, iif((generation, folded) = (?, ?), NULL, fold)"
            " FROM stream WHERE id = ?",
            (*at, number),
        ).fetchone()
        return stream_state(row, None if kept is None else kept.fold)

    def keep(self, stream: StreamState) -> None:
        """Keep the fold of a stream that was saved, for its next line: that of a long session is half a megabyte.

        Whoever asks for the stream next has it for himself, so that what he does not save is not kept either.
        """
        self._kept[stream.id] = stream
        if len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]

    def forget_folds(self) -> None:
        """Read folds anew: a transaction was taken back."""
        self._kept.clear()

    def add_stream(self, session: int, name: str, *, thread: bool, known: bool) -> StreamState:
        """Find or make a stream of a session."""
        self._db.execute(
            "INSERT INTO stream (session, name, thread, known, fold) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (session, name, thread, known, _pack(Fold())),
        )
        row = self._db.execute(
            f"SELECT {_STREAM} FROM stream WHERE session = ? AND name = ?", (session, name)
        ).fetchone()
        return stream_state(row)

    def find_stream(self, identity: UUID, name: str) -> StreamState | None:
        """Find a stream by its session and name."""
        row = self._db.execute(
            f"SELECT {_STREAM} FROM stream WHERE name = ? AND session = (SELECT id FROM session WHERE uuid = ?)",
            (name, str(identity)),
        ).fetchone()
        return None if row is None else stream_state(row)

    def streams(self, session: int, mine: StreamState | None = None) -> list[StreamState]:
        """List the streams of a session, the oldest first; `mine` is one that is at hand and not read again."""
        rows = self._db.execute(
            f"SELECT {_STREAM} FROM stream WHERE session = ? AND id != ?", (session, -1 if mine is None else mine.id)
        )
        found = [stream_state(row) for row in rows]
        return sorted(found if mine is None else [*found, mine], key=lambda stream: stream.id)

    def lengths(self, session: int) -> list[StreamLength]:
        """Say how long the streams of a session are at the source, those whose transcript is kept."""
        rows = self._db.execute(
            "SELECT name, generation, folded FROM stream WHERE session = ? AND folded AND skipped IS NULL ORDER BY id",
            (session,),
        )
        return [StreamLength(name=row[0], generation=row[1], length=row[2]) for row in rows]

    def save_stream(self, stream: StreamState) -> None:
        """Write what capturing changes; `acked`, `known`, `gap` and `held` are the upload's, see `heal`."""
        self._db.execute(
            "UPDATE stream SET generation = ?, folded = ?, queued = ?, rank = max(rank, ?), damaged = ?, unknown = ?,"
            " skipped = ?, fold = ? WHERE id = ?",
            (
                stream.generation,
                stream.folded,
                stream.queued,
                stream.rank,
                stream.fold.damaged,
                _to_json(sorted(stream.fold.unknown)).decode() if stream.fold.unknown else None,
                stream.skipped,
                _pack(stream.fold),
                stream.id,
            ),
        )

    def restart(self, stream: int, acked: int) -> None:
        """Begin a new generation, of which the endpoint will have the first bytes."""
        self._db.execute(
            "UPDATE stream SET acked = min(acked, ?), gap_from = NULL, gap_to = NULL WHERE id = ?", (acked, stream)
        )

    def set_held(self, stream: int, held: Held | None) -> None:
        """Note what the endpoint says it holds of a stream: the next read reconciles it. None: it is reconciled."""
        self._db.execute(
            "UPDATE stream SET held = ?, known = 1 WHERE id = ?", (None if held is None else _pack(held), stream)
        )

    def set_unknown(self, stream: int) -> None:
        """Ask the endpoint where it stands in a stream before anything more of it is pushed."""
        self._db.execute("UPDATE stream SET known = 0 WHERE id = ?", (stream,))

    def set_acked(self, stream: int, acked: int) -> None:
        """Note how much of the current generation the endpoint was found to have."""
        self._db.execute("UPDATE stream SET acked = ? WHERE id = ?", (acked, stream))

    def set_gap(self, stream: int, start: int, end: int) -> None:
        """Note that bytes which the endpoint has acknowledged are to be read again: it has lost them."""
        self._db.execute("UPDATE stream SET gap_from = ?, gap_to = ? WHERE id = ?", (start, end, stream))

    def fill_gap(self, stream: int, end: int, filled: int) -> None:
        """Note how far the gap that ends there is filled."""
        self._db.execute(
            "UPDATE stream SET gap_from = iif(? < gap_to, ?, NULL), gap_to = iif(? < gap_to, gap_to, NULL)"
            " WHERE id = ? AND gap_to = ?",
            (filled, filled, filled, stream, end),
        )

    def set_lost(self, stream: int) -> None:
        """Note that what waits to be read of a stream is nowhere any more."""
        self._db.execute(
            "UPDATE stream SET lost = lost + folded - queued + coalesce(gap_to - gap_from, 0), queued = folded,"
            " gap_from = NULL, gap_to = NULL, held = NULL WHERE id = ?",
            (stream,),
        )

    def add_lost(self, stream: int, count: int) -> None:
        """Note that so many bytes of a stream are nowhere any more."""
        self._db.execute("UPDATE stream SET lost = lost + ? WHERE id = ?", (count, stream))

    def set_generation(self, stream: int, generation: int) -> None:
        """Note the number of the current generation."""
        self._db.execute("UPDATE stream SET generation = ? WHERE id = ?", (generation, stream))

    def lost_bytes(self) -> int:
        """Count the bytes that were seen and are nowhere any more."""
        return int(self._db.execute("SELECT coalesce(sum(lost), 0) FROM stream WHERE lost > 0").fetchone()[0])

    def behind(self, limit: int) -> list[int]:
        """Find streams of which transcript is still to be read: the endpoint lost it, or the outbox was full.

        The former go first: what fills the outbox may be waiting behind them.
        """
        rows = self._db.execute(
            "SELECT id FROM stream WHERE queued < folded OR gap_from IS NOT NULL OR held IS NOT NULL"
            " ORDER BY held IS NULL AND gap_from IS NULL, rank DESC LIMIT ?",
            (limit,),
        )
        return [row[0] for row in rows]

    def progress(self, stream: int) -> tuple[int, bool]:
        """Say how much of a stream is queued or known to be lost, and whether what is missing there holds others up."""
        row = self._db.execute(
            "SELECT queued - coalesce(gap_to - gap_from, 0) - (held IS NOT NULL),"
            " held IS NOT NULL OR gap_from IS NOT NULL FROM stream WHERE id = ?",
            (stream,),
        ).fetchone()
        return (0, False) if row is None else (row[0], bool(row[1]))

    def forget_endpoint(self) -> None:
        """Start over with another endpoint: ask it where each stream stands, and push every record again."""
        self._db.execute("UPDATE stream SET known = 0, held = NULL, gap_from = NULL, gap_to = NULL")
        self._db.execute("UPDATE session SET pushed = 0, parked = NULL")

    # Extents

    def extents(self, stream: int, start: int = 0) -> list[Extent]:
        """List what was captured of a stream from an offset on: the extents that end behind it."""
        rows = self._db.execute(
            "SELECT start, length, digest FROM extent WHERE stream = ? AND start + length > ? AND start >="
            " coalesce((SELECT max(start) FROM extent WHERE stream = ? AND start <= ?), 0) ORDER BY start",
            (stream, start, stream, start),
        )
        return [Extent(start=row[0], length=row[1], digest=row[2]) for row in rows]

    def put_extents(self, stream: int, extents: Iterable[Extent]) -> None:
        """Note what was captured."""
        self._db.executemany(
            "INSERT OR REPLACE INTO extent VALUES (?, ?, ?, ?)",
            [(stream, extent.start, extent.length, extent.digest) for extent in extents],
        )

    def cut_extents(self, stream: int, keep: int) -> None:
        """Forget what was captured behind an offset: the tool rewrote it."""
        self._db.execute("DELETE FROM extent WHERE stream = ? AND start >= ?", (stream, keep))

    # Files

    def file(self, path: str) -> FileState | None:
        """Find what is known of a path."""
        row = self._db.execute(
            "SELECT path, tool, stream, checkpoint, pin, gone_ms, trouble FROM file WHERE path = ?",
            (os.fsencode(path),),
        ).fetchone()
        return None if row is None else file_state(row)

    def files(self, stream: int) -> list[FileState]:
        """List the paths where a stream lies or lay."""
        rows = self._db.execute(
            "SELECT path, tool, stream, checkpoint, pin, gone_ms, trouble FROM file WHERE stream = ?", (stream,)
        )
        return [file_state(row) for row in rows]

    def known_files(self) -> Iterator[FileState]:
        """List all paths that were seen and not yet found missing."""
        for row in self._db.execute(
            "SELECT path, tool, stream, checkpoint, pin, gone_ms, trouble FROM file"
            " WHERE gone_ms IS NULL AND (checkpoint IS NOT NULL OR trouble IS NOT NULL)"
        ):
            yield file_state(row)

    def save_file(self, file: FileState) -> None:
        """Write what is known of a path."""
        checkpoint = None if file.checkpoint is None else _pack(file.checkpoint)
        self._db.execute(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?)",
            (os.fsencode(file.path), file.tool, file.stream, checkpoint, file.pin, file.gone_ms, file.trouble),
        )

    def marks(self, path: str) -> dict[str, str]:
        """Map the native ids of the sessions in a database to the watermarks up to which they were read."""
        return dict(self._db.execute("SELECT native_id, mark FROM mark WHERE path = ?", (os.fsencode(path),)))

    def set_mark(self, path: str, native_id: str, mark: str) -> None:
        """Note a watermark."""
        self._db.execute("INSERT OR REPLACE INTO mark VALUES (?, ?, ?)", (os.fsencode(path), native_id, mark))

    def drop_mark(self, path: str, native_id: str) -> None:
        """Forget a watermark: the session is not listed any more, and is read again when it comes back."""
        self._db.execute("DELETE FROM mark WHERE path = ? AND native_id = ?", (os.fsencode(path), native_id))

    def inside(self, path: str) -> list[FileState]:
        """List what is known of the sessions in a container."""
        start, end = os.fsencode(f"{path}::"), os.fsencode(f"{path}:;")
        rows = self._db.execute(
            "SELECT path, tool, stream, checkpoint, pin, gone_ms, trouble FROM file WHERE path > ? AND path < ?",
            (start, end),
        )
        return [file_state(row) for row in rows]

    def save_pin(self, path: str, pin: str | None) -> None:
        """Note the pin of a file, or that it has none any more."""
        self._db.execute("UPDATE file SET pin = ? WHERE path = ?", (pin, os.fsencode(path)))

    def set_gone(self, session: int, gone_ms: int | None) -> bool:
        """Note that no file of a session is left (or is there again); tells whether that is news."""
        changed = self._db.execute(
            "UPDATE session SET gone_ms = ? WHERE id = ? AND (gone_ms IS NULL) != (? IS NULL)",
            (gone_ms, session, gone_ms),
        )
        return changed.rowcount > 0


def session_state(row: tuple[Any, ...]) -> SessionState:
    """Make a SessionState of the columns in `_SESSION`."""
    record, parent = row[4], row[5]
    return SessionState(
        id=row[0],
        uuid=UUID(row[1]),
        tool=row[2],
        native_id=row[3],
        record=None if record is None else _from_json(record),
        parent=None if parent is None else UUID(parent),
        title=row[6],
        active_ms=row[7],
        ongoing=bool(row[8]),
        gone_ms=row[9],
        revision=row[10],
        pushed=row[11],
        parked=row[12],
    )


def stream_state(row: tuple[Any, ...], fold: Fold | None = None) -> StreamState:
    """Make a StreamState of the columns in `_STREAM`; `fold` stands for one that is NULL there."""
    return StreamState(
        id=row[0],
        session=row[1],
        name=row[2],
        thread=bool(row[3]),
        generation=row[4],
        folded=row[5],
        queued=row[6],
        acked=row[7],
        known=bool(row[8]),
        gap=None if row[9] is None else (row[9], row[10]),
        held=None if row[11] is None else _unpack_held(row[11]),
        rank=row[12],
        skipped=row[13],
        fold=fold if fold is not None and row[14] is None else _unpack_fold(row[14]),
    )


def file_state(row: tuple[Any, ...]) -> FileState:
    """Make a FileState of a row of `file`."""
    return FileState(
        path=os.fsdecode(row[0]),
        tool=row[1],
        stream=row[2],
        checkpoint=None if row[3] is None else _unpack_checkpoint(row[3]),
        pin=row[4],
        gone_ms=row[5],
        trouble=row[6],
    )
