"""The streams in the catalog: how far each was read, queued and acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from sessiond.decoding import msgpack_decoder
from sessiond.endpoint.wire import RemotePosition, StreamLength
from sessiond.spool.decoding import checked
from sessiond.spool.files import BEHIND
from sessiond.spool.folds import Folds, pack_row
from sessiond.spool.rows import UNSTORED, StreamState

_pack = msgspec.msgpack.Encoder().encode
_unpack_position = checked(msgpack_decoder, RemotePosition)
_to_json = msgspec.json.Encoder().encode

_STREAM = (
    "id, session, name, thread, generation, folded, queued, acked, known, gap_from, gap_to, held, rank, skipped, fold,"
    " lost - lost_before, unproven, media_type"
)
_URGENT = "held IS NOT NULL OR gap_from IS NOT NULL"


class Streams(Folds):
    """Streams and their folds. Writing methods run inside `Spool.transaction`."""

    def stream(self, number: int) -> StreamState:
        """Return a working copy of a stream. It is removed from the cache; see `cache_fold`."""
        cached = self._cached.pop(number, None)
        at = (-1, -1) if cached is None else (cached.generation, cached.folded)
        row = self._db.execute(
            f"SELECT {_STREAM.replace(' fold,', ' iif((generation, folded) = (?, ?), NULL, fold),')}"
            " FROM stream WHERE id = ?",
            (*at, number),
        ).fetchone()
        return self._state(row, cached)

    def add_stream(
        self, session: int, name: str, *, thread: bool, known: bool, media_type: str | None = None
    ) -> StreamState:
        """Return a stream of a session; create it if it is new. `media_type` is that of a side file."""
        made = StreamState(id=UNSTORED, session=session, name=name, thread=thread, known=known, media_type=media_type)
        made.stored = (_pack(made.fold), b"", b"")
        added = self._db.execute(
            "INSERT INTO stream (session, name, thread, known, media_type, fold) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (session, name, thread, known, media_type, pack_row(made.stored)),
        )
        if added.rowcount and added.lastrowid is not None:
            made.id = added.lastrowid
            return made
        row = self._db.execute(
            f"SELECT {_STREAM} FROM stream WHERE session = ? AND name = ?", (session, name)
        ).fetchone()
        return self._state(row)

    def find_stream(self, identity: UUID, name: str) -> StreamState | None:
        """Return a stream by its session and name; None if there is none."""
        row = self._db.execute(
            f"SELECT {_STREAM} FROM stream WHERE name = ? AND session = (SELECT id FROM session WHERE uuid = ?)",
            (name, str(identity)),
        ).fetchone()
        return None if row is None else self._state(row)

    def streams(self, session: int, current: StreamState | None = None) -> list[StreamState]:
        """Return the streams of a session without its side files, oldest first.

        `current` is one that is in memory and not read again.
        """
        rows = self._db.execute(
            f"SELECT {_STREAM} FROM stream WHERE session = ? AND id != ? AND media_type IS NULL",
            (session, -1 if current is None else current.id),
        ).fetchall()
        found = [self._state(row) for row in rows]
        return sorted(found if current is None else [*found, current], key=lambda stream: stream.id)

    def side_streams(self, session: int) -> list[StreamState]:
        """Return the streams of a session that are side files, oldest first."""
        rows = self._db.execute(
            f"SELECT {_STREAM} FROM stream WHERE session = ? AND media_type IS NOT NULL ORDER BY id", (session,)
        )
        return [self._state(row) for row in rows.fetchall()]

    def _state(self, row: tuple[Any, ...], cached: StreamState | None = None) -> StreamState:
        """Return the StreamState of a row with the columns in `_STREAM`; a NULL fold means that of `cached`."""
        fold, stored = self.load_fold(row[0], row[14]) if cached is None or row[14] else (cached.fold, cached.stored)
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
            remote_position=None if row[11] is None else _unpack_position(row[11]),
            rank=row[12],
            skipped=row[13],
            lost=row[15],
            unproven=bool(row[16]),
            media_type=row[17],
            fold=fold,
            stored=stored,
        )

    def thread_names(self, identity: UUID) -> dict[str, bool]:
        """Return the streams of a session by name, without its side files; whether each belongs to the main thread."""
        rows = self._db.execute(
            "SELECT name, thread FROM stream WHERE media_type IS NULL AND session ="
            " (SELECT id FROM session WHERE uuid = ?)",
            (str(identity),),
        )
        return {name: bool(thread) for name, thread in rows}

    def lengths(self, session: int) -> list[StreamLength]:
        """Return the captured lengths of a session's streams whose transcript is kept.

        Side files are left out: a session may have thousands, and every revision of its record lists these lengths.
        """
        rows = self._db.execute(
            "SELECT name, generation, folded FROM stream WHERE session = ? AND folded AND skipped IS NULL"
            " AND media_type IS NULL ORDER BY id",
            (session,),
        )
        return [StreamLength(name=row[0], generation=row[1], length=row[2]) for row in rows]

    def save_stream(self, stream: StreamState) -> None:
        """Store the fields of a stream that the capture changes.

        Those are not `acked`, `known`, `gap` and `remote_position`: the uploader may have changed these meanwhile. Each
        has a method of its own below, which is called in the transaction that read the values it depends on.
        """
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
        """Begin a new generation whose first `acked` bytes the endpoint will have."""
        self._db.execute(
            "UPDATE stream SET acked = min(acked, ?), gap_from = NULL, gap_to = NULL, unconfirmed = 0 WHERE id = ?",
            (acked, stream),
        )

    def clear_losses(self, stream: int) -> None:
        """Clear the count of placeholders: everything captured of the current generation is read and pushed again."""
        self._db.execute(
            "UPDATE stream SET lost = lost_before, accepted = min(accepted, lost_before) WHERE id = ?", (stream,)
        )

    def set_remote_position(self, stream: int, held: RemotePosition | None) -> None:
        """Store the endpoint's position in a stream, which the next read reconciles. None: it has been reconciled.

        There is nothing to reconcile if the position equals what the endpoint acknowledged and what was captured.
        """
        if held is None:
            self._db.execute(
                "UPDATE stream SET held = NULL, known = 1, unproven = 0, unconfirmed = 0 WHERE id = ?", (stream,)
            )
            return
        self._db.execute(
            "UPDATE stream SET known = 1, unconfirmed = 0, held ="
            " iif((generation, acked, folded, queued, waiting, lost) = (?, ?, ?, ?, 0, 0) AND NOT unproven, NULL, ?)"
            " WHERE id = ?",
            (held.generation, held.length, held.length, held.length, _pack(held), stream),
        )

    def is_at(self, stream: StreamState) -> bool:
        """Return whether the endpoint's position and our own are still those in memory: another thread changes them."""
        row = self._db.execute(
            "SELECT generation, folded, queued, acked, held FROM stream WHERE id = ?", (stream.id,)
        ).fetchone()
        if row is None:
            return False
        held = None if row[4] is None else _unpack_position(row[4])
        known = stream.generation, stream.folded, stream.queued, stream.acked, stream.remote_position
        return (*row[:4], held) == known

    def set_unknown(self, stream: int) -> None:
        """Request the endpoint's position in a stream before more of it is pushed."""
        self._db.execute("UPDATE stream SET known = 0 WHERE id = ?", (stream,))

    def distrust(self, stream: int) -> None:
        """Compare a stream with the endpoint's copy by its digest, although they have equal numbers."""
        self._db.execute("UPDATE stream SET unproven = 1 WHERE id = ?", (stream,))

    def set_position(self, stream: int, generation: int, queued: int, acked: int, gap: tuple[int, int] | None) -> None:
        """Store the position at which the stream continues at the endpoint.

        `acked` bytes of the generation are there. `gap`: acknowledged bytes that have to be read again, because the
        endpoint lost them.
        """
        start, end = gap or (None, None)
        self._db.execute(
            "UPDATE stream SET generation = ?, queued = ?, acked = ?, gap_from = ?, gap_to = ?,"
            " let_go = iif(folded <= ?, 0, let_go) WHERE id = ?",
            (generation, queued, acked, start, end, acked, stream),
        )

    def fill_gap(self, stream: int, end: int, filled: int) -> None:
        """Store how far the gap that ends at `end` is filled."""
        self._db.execute(
            "UPDATE stream SET gap_from = iif(? < gap_to, ?, NULL), gap_to = iif(? < gap_to, gap_to, NULL)"
            " WHERE id = ? AND gap_to = ?",
            (filled, filled, filled, stream, end),
        )

    def give_up(self, stream: int) -> None:
        """Stop waiting for bytes of a stream that exist nowhere any more.

        Bytes that the endpoint does not acknowledge afterwards count as lost; see safety.py.
        """
        self._db.execute(
            "UPDATE stream SET queued = folded, gap_from = NULL, gap_to = NULL, held = NULL, unproven = 0,"
            " unconfirmed = 0 WHERE id = ?",
            (stream,),
        )

    def set_unconfirmed(self, stream: int, length: int) -> None:
        """Store how many bytes the endpoint may have, which the upload thread compares with the digests of extents."""
        self._db.execute("UPDATE stream SET unproven = 1, unconfirmed = ? WHERE id = ?", (length, stream))

    def add_lost(self, stream: int, generation: int, start: int, end: int) -> None:
        """Count bytes of a generation as lost: neither file nor outbox has them, so the endpoint gets a placeholder.

        For an endpoint that was used before, only those count that it did not acknowledge.
        """
        self._db.execute("UPDATE stream SET lost = lost + ? WHERE id = ?", (end - start, stream))
        self._add_lost_elsewhere(stream, generation, start, end)

    def leave_generation(self, stream: int, generation: int, lost: Sequence[tuple[int, int]]) -> None:
        """Count the ranges (start, end) of a generation as lost because the tool rewrote its file.

        No file can bring them back. For an endpoint that was used before, only those bytes count that it did not
        acknowledge.
        """
        count = sum(end - start for start, end in lost)
        self._db.execute(
            "UPDATE stream SET lost = lost + ?, lost_before = lost_before + ? WHERE id = ?", (count, count, stream)
        )
        for start, end in lost:
            self._add_lost_elsewhere(stream, generation, start, end)

    def _add_lost_elsewhere(self, stream: int, generation: int, start: int, end: int) -> None:
        """Add lost bytes to the count of each endpoint that was used before and did not acknowledge them."""
        self._db.execute(
            "UPDATE acknowledged SET lost = lost + max(0, ? - iif(generation = ?, max(?, length), ?)) WHERE stream = ?",
            (end, generation, start, start, stream),
        )

    def behind(self, limit: int) -> list[int]:
        """Return streams whose transcript has to be read again: the endpoint lost it, or the outbox was full.

        The former come first: items that fill the outbox may be waiting behind them.
        """
        rows = self._db.execute(
            f"SELECT id FROM stream WHERE {BEHIND} ORDER BY held IS NULL AND gap_from IS NULL, rank DESC LIMIT ?",
            (limit,),
        )
        return [row[0] for row in rows]

    def has_behind(self, *, urgent: bool = False) -> bool:
        """Return whether there is a stream whose transcript has to be read again.

        `urgent`: count only streams whose bytes the endpoint lacks; their other items wait for these bytes.
        """
        where = f"({BEHIND}) AND ({_URGENT})" if urgent else BEHIND
        return self._db.execute(f"SELECT 1 FROM stream WHERE {where} LIMIT 1").fetchone() is not None

    def progress(self, stream: int) -> tuple[int, bool]:
        """Return how far a stream is queued (comparable between calls), and whether other items wait for it."""
        row = self._db.execute(
            f"SELECT queued - coalesce(gap_to - gap_from, 0) - (held IS NOT NULL), {_URGENT} FROM stream WHERE id = ?",
            (stream,),
        ).fetchone()
        return (0, False) if row is None else (row[0], bool(row[1]))
