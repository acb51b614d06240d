"""The folds in the catalog. Storing a line costs the same in a long session as in a short one.

A fold is stored in three parts: the session's metadata, the keys of its messages, and their model indexes. The full
pages of each part are in a table of their own, and the rest is in the stream's row. The parts grow at their ends, so
a line changes the row and sometimes adds a page. Only pages that differ are written.
"""

from __future__ import annotations

import sqlite3

import msgspec
from msgspec.structs import replace

from sessiond.decoding import msgpack_decoder
from sessiond.session import Fold, Messages
from sessiond.spool.decoding import checked
from sessiond.spool.rows import StreamState

PAGE = 992
"""Bytes of a page. Four of them fit into a page of SQLite, and the rests of the three parts into one row."""
MAX_CACHED = 8
"""Streams whose fold stays in memory: as many as one person's tools write at the same time."""
MAX_CACHED_BYTES = 8 << 20
"""Bytes that they may take together, in their stored form."""

Parts = tuple[bytes, bytes, bytes]
EMPTY: Parts = (b"", b"", b"")

_pack = msgspec.msgpack.Encoder().encode
_unpack_fold = checked(msgpack_decoder, Fold)


class _Ends(msgspec.Struct, frozen=True, array_like=True):
    """The ends of a fold's parts, which are in the stream's row."""

    paged: bool
    """Whether there are pages in the table."""
    head: bytes
    keys: bytes
    model_indexes: bytes

    @property
    def parts(self) -> Parts:
        """All three."""
        return self.head, self.keys, self.model_indexes


_unpack_ends = checked(msgpack_decoder, _Ends)


class Folds:
    """Loads and stores folds, and caches a few of them."""

    _db: sqlite3.Connection
    _cached: dict[int, StreamState]

    def cache_fold(self, stream: StreamState) -> None:
        """Cache the fold of a stream that was saved, for its next line.

        `stream()` removes it from the cache. The caller owns it until it is saved, so unsaved changes are never cached.
        """
        stream.fold.messages.drop_index()
        self._cached[stream.id] = stream
        size = sum(len(part) for cached in self._cached.values() for part in cached.stored)
        while size > MAX_CACHED_BYTES or len(self._cached) > MAX_CACHED:
            size -= sum(map(len, self._cached.pop(next(iter(self._cached))).stored))

    def clear_fold_cache(self) -> None:
        """Drop all cached folds: a transaction was rolled back, or streams were removed."""
        self._cached.clear()

    def load_fold(self, number: int, row: bytes) -> tuple[Fold, Parts]:
        """Return the fold of a stream, from its row and its pages, and the stored parts."""
        ends = _unpack_ends(row)
        parts = ends.parts
        if ends.paged:
            whole: tuple[list[bytes], ...] = ([], [], [])
            for part, data in self._db.execute(
                "SELECT part, data FROM page WHERE stream = ? ORDER BY part, number", (number,)
            ):
                whole[part].append(data)
            head, keys, model_indexes = (b"".join((*pages, end)) for pages, end in zip(whole, parts, strict=True))
            parts = head, keys, model_indexes
        fold = _unpack_fold(parts[0])
        fold.messages = Messages(keys=bytearray(parts[1]), model_indexes=bytearray(parts[2]))
        return fold, parts

    def save_fold(self, stream: StreamState) -> bytes:
        """Write the pages that differ from the stored ones; return the value for the stream's row."""
        messages = stream.fold.messages
        head = _pack(replace(stream.fold, messages=Messages()))
        parts = head, bytes(messages.keys), bytes(messages.model_indexes)
        for part, (old, new) in enumerate(zip(stream.stored, parts, strict=True)):
            if len(old) >= PAGE or len(new) >= PAGE:
                self._save_part(stream.id, part, old, new)
        stream.stored = parts
        self._cached.pop(stream.id, None)  # another copy no longer matches the stored pages
        return pack_row(parts)

    def _save_part(self, stream: int, part: int, old: bytes, new: bytes) -> None:
        had, has = len(old) // PAGE, len(new) // PAGE
        first = had if new.startswith(old[: had * PAGE]) else 0
        pages = [(number, new[number * PAGE : (number + 1) * PAGE]) for number in range(first, has)]
        self._db.executemany(
            "INSERT INTO page VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
            [
                (stream, part, number, page)
                for number, page in pages
                if number >= had or page != old[number * PAGE : (number + 1) * PAGE]
            ],
        )
        if has < had:
            self._db.execute("DELETE FROM page WHERE stream = ? AND part = ? AND number >= ?", (stream, part, has))


def pack_row(parts: Parts) -> bytes:
    """Return the ends of a fold's parts, packed for the stream's row."""
    head, keys, model_indexes = (part[len(part) // PAGE * PAGE :] for part in parts)
    return _pack(_Ends(any(len(part) >= PAGE for part in parts), head, keys, model_indexes))
