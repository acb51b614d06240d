"""The outbox: session revisions and segments that the endpoint has not acknowledged yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from uuid import UUID

from sessiond import zstd
from sessiond.spool.catalog import SESSION, session_state
from sessiond.spool.dead_letters import JOINED, SEGMENT, segment_state
from sessiond.spool.expiries import Expiries
from sessiond.spool.rows import Segment, SessionState

# A generation stops at a parked segment. Nothing can be appended behind a gap, so what fills it is sent first.
_SENDABLE = (
    "segment.generation NOT IN (SELECT generation FROM segment AS parked"
    " WHERE parked.stream = segment.stream AND parked.parked IS NOT NULL)"
    " AND (gap_from IS NULL OR segment.generation < stream.generation OR offset < gap_from)"
)
_WAITS = (
    "waiting > 0 AND held IS NULL AND known AND EXISTS"
    f" (SELECT 1 FROM segment WHERE segment.stream = stream.id AND {_SENDABLE})"
)
_UNKNOWN = (
    "NOT known AND held IS NULL AND skipped IS NULL AND NOT EXISTS (SELECT 1 FROM archived JOIN session AS owner"
    " ON owner.uuid = archived.session WHERE owner.id = stream.session AND NOT copied AND problem IS NULL)"
    " AND NOT EXISTS (SELECT 1 FROM forgotten JOIN session AS owner ON owner.uuid = forgotten.session"
    " WHERE owner.id = stream.session)"
    " AND NOT EXISTS (SELECT 1 FROM session AS owner WHERE owner.id = stream.session AND expired_ms > 0)"
)
"""Streams that the endpoint has to be asked about. A session in the built-in archive is copied first.

Of an erased one, or one that the endpoint let go, nothing is asked: the answer could have something of it queued again.
"""
FILLER = 1 << 20
"""Bytes of one placeholder record."""
_DUE = "revision > pushed AND session.parked IS NULL AND record IS NOT NULL"

# Sessions whose transcript changed recently, whatever times are in its records.
_LIVE = "SELECT session FROM stream WHERE waiting > 0 AND held IS NULL AND rank >= ?"


class Outbox(Expiries):
    """The items to push. Writing methods run inside `Spool.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._size: int | None = None
        self._turn = 0
        self._turns: dict[int, int] = {}
        """The turn in which segments of a waiting stream were last taken."""

    @property
    def size(self) -> int:
        """Return the compressed bytes of all segments, with parked ones. The outbox's budget limits this size."""
        if self._size is None:
            self._size = int(self._db.execute("SELECT coalesce(sum(size), 0) FROM segment").fetchone()[0])
        return self._size

    def invalidate_size(self) -> None:
        """Forget the cached size: a transaction was rolled back."""
        self._size = None

    # From the capture

    def add(self, stream: int, generation: int, offset: int, length: int, data: bytes, now_ms: int) -> None:
        """Queue a segment: `length` bytes at `offset`, as the zstd frame `data`."""
        added = self._db.execute(
            "INSERT INTO segment (stream, generation, offset, length, data, size, queued_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (stream, generation, offset, length, data, len(data), now_ms),
        )
        if added.rowcount:
            self._count(stream, 1, len(data))

    def add_generation(self, stream: int, generation: int, previous: int | None, keep: int, now_ms: int) -> None:
        """Queue the start of a generation that shares `keep` bytes with the previous one."""
        added = self._db.execute(
            "INSERT INTO segment (stream, generation, offset, length, previous, keep, queued_ms)"
            " VALUES (?, ?, ?, 0, ?, ?, ?) ON CONFLICT DO NOTHING",
            (stream, generation, keep, previous, keep, now_ms),
        )
        if added.rowcount:
            self._count(stream, 1, 0)

    def fill(self, stream: int, generation: int, start: int, end: int, now_ms: int) -> None:
        """Queue placeholder records of the same length for missing bytes, so that later bytes keep their offsets."""
        while start < end:
            length = min(end - start, FILLER)
            text = b'{"type":"sessiond","lost_bytes":%d}' % length
            record = (text if len(text) < length else b"").ljust(length - 1) + b"\n"
            self.add(stream, generation, start, length, zstd.compress(record, 1), now_ms)
            start += length

    def _count(self, stream: int, segments: int, size: int, acked: tuple[int, int] = (-1, 0)) -> None:
        """Add to a stream's count of segments, and to the size of all. `acked` is a generation and its length."""
        self._db.execute(
            "UPDATE stream SET waiting = waiting + ?, acked = iif(generation = ?, max(acked, ?), acked),"
            " let_go = iif(let_go > 0 AND generation = ? AND folded <= ?, 0, let_go) WHERE id = ?",
            (segments, *acked, *acked, stream),
        )
        if self._size is not None:
            self._size += size

    # To the endpoint

    def sessions(self, limit: int, since_ms: int = 0) -> list[SessionState]:
        """Return the sessions whose newest revision is not acknowledged, most recently active first.

        `since_ms`: only those that were active, or whose file changed, at or after that time.
        """
        live, values = ("", ()) if not since_ms else (f" AND (active_ms >= ? OR id IN ({_LIVE}))", (since_ms, since_ms))
        rows = self._db.execute(
            f"SELECT {SESSION} FROM session WHERE {_DUE}{live} ORDER BY active_ms DESC LIMIT ?",
            (*values, limit),
        )
        return [session_state(row) for row in rows]

    def unsent(self) -> list[SessionState]:
        """Return the sessions with a revision or segment that is not acknowledged, parked ones included."""
        rows = self._db.execute(
            f"SELECT {SESSION} FROM session WHERE revision > pushed OR id IN"
            " (SELECT session FROM stream WHERE id IN (SELECT stream FROM segment))"
        )
        return [session_state(row) for row in rows]

    def unknown_streams(self, limit: int) -> list[tuple[int, UUID, str]]:
        """Return streams whose length at this endpoint is unknown: (stream, session, name), newest first."""
        rows = self._db.execute(
            "SELECT stream.id, uuid, name FROM stream JOIN session ON session.id = stream.session"
            f" WHERE {_UNKNOWN} ORDER BY rank DESC LIMIT ?",
            (limit,),
        )
        return [(row[0], UUID(row[1]), row[2]) for row in rows]

    def segments(self, items: int, size: int, since_ms: int = 0, live_ms: int | None = None) -> list[Segment]:
        """Return segments of at most `size` bytes (at least one): newest streams first, each in its own order.

        `since_ms`: only of streams whose file changed at or after that time. Streams that changed since `live_ms` take
        turns; otherwise a stream that grows faster than it is pushed would always be first.

        A stream stops at the generation of a parked segment, since nothing can be appended behind a gap.
        """
        taken: list[Segment] = []
        self._turn += 1
        streams = self._db.execute(
            f"SELECT id, rank FROM stream WHERE {_WAITS} AND rank >= ? ORDER BY rank DESC LIMIT ?",
            (since_ms, items),
        ).fetchall()
        if live_ms is not None:
            streams.sort(key=lambda row: (row[1] < live_ms, self._turns.get(row[0], 0) if row[1] >= live_ms else 0))
            # The turn of a stream without segments is forgotten. Once it has new segments, it is first.
            self._turns = {stream: self._turns[stream] for stream, _ in streams if stream in self._turns}
        total = 0
        for stream, _ in streams:
            rows = self._db.execute(
                f"SELECT {SEGMENT}, size {JOINED} WHERE segment.stream = ?"
                f" AND {_SENDABLE}"
                " ORDER BY segment.generation, offset, length LIMIT ?",
                (stream, items - len(taken)),
            )
            for row in rows:
                total += row[-1]
                if taken and total > size:
                    return taken
                taken.append(segment_state(row))
                self._turns[stream] = self._turn
            if len(taken) >= items:
                break
        return taken

    def has_due(self) -> bool:
        """Return whether there is anything to push or to ask the endpoint now."""
        found = self._db.execute(
            f"SELECT 1 FROM session WHERE {_DUE} UNION ALL SELECT 1 FROM stream WHERE {_WAITS}"
            f" UNION ALL SELECT 1 FROM stream WHERE {_UNKNOWN} LIMIT 1"
        )
        return found.fetchone() is not None

    def has_backlog(self, since_ms: int) -> bool:
        """Return whether anything can be pushed that did not change at or after `since_ms`."""
        row = self._db.execute(
            f"SELECT EXISTS (SELECT 1 FROM session WHERE {_DUE} AND active_ms < ? AND id NOT IN ({_LIVE}))"
            f" OR EXISTS (SELECT 1 FROM stream WHERE {_WAITS} AND rank < ?)",
            (since_ms, since_ms, since_ms),
        ).fetchone()
        return bool(row[0])

    def has(self, item: SessionState | Segment) -> bool:
        """Return whether a pushed item is still in the spool: its session may have been purged meanwhile.

        After a purge SQLite may give the row numbers of the session and its streams to others, and the answer would be
        applied to these. Row numbers of segments are never used again.
        """
        if isinstance(item, SessionState):
            query, values = "SELECT 1 FROM session WHERE id = ? AND uuid = ?", (item.id, str(item.uuid))
            return self._db.execute(query, values).fetchone() is not None
        return self._db.execute("SELECT 1 FROM segment WHERE id = ?", (item.id,)).fetchone() is not None

    def acknowledge(self, item: SessionState | Segment) -> bool:
        """Store that the endpoint has an item; return whether it is still in the spool (see `has`).

        Rule 2: a newer revision of a session stays due, and only this segment is removed, since others may have been
        queued meanwhile.
        """
        if isinstance(item, SessionState):
            query = "UPDATE session SET pushed = max(pushed, ?) WHERE id = ? AND uuid = ?"
            return self._db.execute(query, (item.revision, item.id, str(item.uuid))).rowcount > 0
        removed = self._remove("id = ?", item.id)
        for stream, size, unparked in removed:
            self._count(stream, -unparked, -size, acked=(item.generation, item.offset + item.length))
        return bool(removed)

    def _delete(self, condition: str, *parameters: object) -> int:
        removed = self._remove(condition, *parameters)
        for stream, size, unparked in removed:
            self._count(stream, -unparked, -size)
        return len(removed)

    def _remove(self, condition: str, *parameters: object) -> list[tuple[int, int, int]]:
        """Remove segments; return the stream and size of each, and whether it was not parked."""
        return self._db.execute(
            f"DELETE FROM segment WHERE {condition} RETURNING stream, size, parked IS NULL", parameters
        ).fetchall()

    # When the two sides differ

    def drop_until(self, stream: int, generation: int, offset: int) -> None:
        """Remove the segments that end at or before `offset`: the endpoint has the same bytes up to there."""
        self._delete("stream = ? AND generation = ? AND offset + length <= ?", stream, generation, offset)

    def drop_start(self, stream: int, generation: int) -> None:
        """Remove the start of a generation."""
        self._delete("stream = ? AND generation = ? AND length = 0", stream, generation)

    def drop_generation(self, stream: int, generation: int) -> None:
        """Remove everything queued of a generation: its bytes are read again and queued in a new one."""
        self._delete("stream = ? AND generation = ?", stream, generation)

    def runs(self, stream: int) -> Iterator[tuple[int, int, int, bool]]:
        """Iterate over the queue of a stream: (generation, offset, length, whether it is parked).

        The start of a generation has length 0.
        """
        yield from self._db.execute(
            "SELECT generation, offset, length, parked IS NOT NULL FROM segment WHERE stream = ?"
            " ORDER BY generation, offset, length",
            (stream,),
        ).fetchall()

    def renumber(self, stream: int, old: int, new: int) -> None:
        """Change the number of a generation's queued items: the endpoint has used it for other bytes."""
        self._db.execute("UPDATE segment SET generation = ? WHERE stream = ? AND generation = ?", (new, stream, old))
