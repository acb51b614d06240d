"""The part of the catalog that is about streams: how far each is read, queued and acknowledged."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from sessiond.endpoint.wire import RemotePosition, StreamLength
from sessiond.session import Fold
from sessiond.spool.decoding import sound
from sessiond.spool.folds import Folds, pack_row
from sessiond.spool.rows import StreamState

_pack = msgspec.msgpack.Encoder().encode
_unpack_held = sound(msgspec.msgpack.Decoder(RemotePosition).decode)
_to_json = msgspec.json.Encoder().encode

_STREAM = (
    "id, session, name, thread, generation, folded, queued, acked, known, gap_from, gap_to, held, rank, skipped, fold,"
    " lost, unproven"
)
_BEHIND = "queued < folded OR gap_from IS NOT NULL OR held IS NOT NULL"


class Streams(Folds):
    """Streams and their folds. Writing methods run inside `Spool.transaction`."""

    def stream(self, number: int) -> StreamState:
        """Get a working copy of a stream."""
        kept = self._kept.pop(number, None)
        at = (-1, -1) if kept is None else (kept.generation, kept.folded)
        row = self._db.execute(
            f"SELECT {_STREAM.replace(' fold,', ' iif((generation, folded) = (?, ?), NULL, fold),')}"
            " FROM stream WHERE id = ?",
            (*at, number),
        ).fetchone()
        return self._state(row, kept)

    def add_stream(self, session: int, name: str, *, thread: bool, known: bool) -> StreamState:
        """Find or make a stream of a session."""
        self._db.execute(
            "INSERT INTO stream (session, name, thread, known, fold) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (session, name, thread, known, pack_row((_pack(Fold()), b"", b""))),
        )
        row = self._db.execute(
            f"SELECT {_STREAM} FROM stream WHERE session = ? AND name = ?", (session, name)
        ).fetchone()
        return self._state(row)

    def find_stream(self, identity: UUID, name: str) -> StreamState | None:
        """Find a stream by its session and name."""
        row = self._db.execute(
            f"SELECT {_STREAM} FROM stream WHERE name = ? AND session = (SELECT id FROM session WHERE uuid = ?)",
            (name, str(identity)),
        ).fetchone()
        return None if row is None else self._state(row)

    def streams(self, session: int, mine: StreamState | None = None) -> list[StreamState]:
        """List the streams of a session, the oldest first; `mine` is one that is at hand and not read again."""
        rows = self._db.execute(
            f"SELECT {_STREAM} FROM stream WHERE session = ? AND id != ?", (session, -1 if mine is None else mine.id)
        ).fetchall()
        found = [self._state(row) for row in rows]
        return sorted(found if mine is None else [*found, mine], key=lambda stream: stream.id)

    def _state(self, row: tuple[Any, ...], kept: StreamState | None = None) -> StreamState:
        """Make a StreamState of the columns in `_STREAM`; the fold of `kept` stands for one that is NULL there."""
        fold, stored = self.load_fold(row[0], row[14]) if kept is None or row[14] else (kept.fold, kept.stored)
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
            remote_position=None if row[11] is None else _unpack_held(row[11]),
            rank=row[12],
            skipped=row[13],
            lost=row[15],
            unproven=bool(row[16]),
            fold=fold,
            stored=stored,
        )

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
                self.save_fold(stream),
                stream.id,
            ),
        )

    def restart(self, stream: int, acked: int) -> None:
        """Begin a new generation, of which the endpoint will have the first bytes."""
        self._db.execute(
            "UPDATE stream SET acked = min(acked, ?), gap_from = NULL, gap_to = NULL WHERE id = ?", (acked, stream)
        )

    def clear_losses(self, stream: int) -> None:
        """Forget what was lost or given up: all that was captured of the stream is read and pushed again."""
        self._db.execute("UPDATE stream SET lost = 0, accepted = 0 WHERE id = ?", (stream,))

    def set_remote_position(self, stream: int, held: RemotePosition | None) -> None:
        """Store what the endpoint says it holds of a stream: the next read reconciles it. None: it is reconciled.

        Nothing is left to reconcile where that is exactly what this endpoint acknowledged and all that was captured.
        """
        if held is None:
            self._db.execute("UPDATE stream SET held = NULL, known = 1, unproven = 0 WHERE id = ?", (stream,))
            return
        self._db.execute(
            "UPDATE stream SET known = 1, held ="
            " iif((generation, acked, folded, queued, waiting, lost) = (?, ?, ?, ?, 0, 0) AND NOT unproven, NULL, ?)"
            " WHERE id = ?",
            (held.generation, held.length, held.length, held.length, _pack(held), stream),
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

    def give_up(self, stream: int) -> None:
        """Stop waiting for what is to be read of a stream: no place has it any more.

        What the endpoint does not acknowledge from here on counts as lost; see safety.py.
        """
        self._db.execute(
            "UPDATE stream SET queued = folded, gap_from = NULL, gap_to = NULL, held = NULL, unproven = 0 WHERE id = ?",
            (stream,),
        )

    def add_lost(self, stream: int, count: int) -> None:
        """Count bytes of a stream for which the endpoint gets a placeholder: no place has them any more."""
        self._db.execute("UPDATE stream SET lost = lost + ? WHERE id = ?", (count, stream))

    def set_generation(self, stream: int, generation: int) -> None:
        """Note the number of the current generation."""
        self._db.execute("UPDATE stream SET generation = ? WHERE id = ?", (generation, stream))

    def behind(self, limit: int) -> list[int]:
        """Find streams of which transcript is still to be read: the endpoint lost it, or the outbox was full.

        The former go first: what fills the outbox may be waiting behind them.
        """
        rows = self._db.execute(
            f"SELECT id FROM stream WHERE {_BEHIND} ORDER BY held IS NULL AND gap_from IS NULL, rank DESC LIMIT ?",
            (limit,),
        )
        return [row[0] for row in rows]

    def has_behind(self) -> bool:
        """Tell whether there is such a stream."""
        return self._db.execute(f"SELECT 1 FROM stream WHERE {_BEHIND} LIMIT 1").fetchone() is not None

    def progress(self, stream: int) -> tuple[int, bool]:
        """Say how much of a stream is queued or known to be lost, and whether what is missing there holds others up."""
        row = self._db.execute(
            "SELECT queued - coalesce(gap_to - gap_from, 0) - (held IS NOT NULL),"
            " held IS NOT NULL OR gap_from IS NOT NULL FROM stream WHERE id = ?",
            (stream,),
        ).fetchone()
        return (0, False) if row is None else (row[0], bool(row[1]))
