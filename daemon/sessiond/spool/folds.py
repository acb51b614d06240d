"""The part of the catalog that is about folds: what a line adds to one costs what the line weighs, not the session.

A fold is stored in three parts: what was said of the session, the keys of its messages, and who said them. Of each
part the whole pages lie in a table of their own and what is behind them in the stream's row. Parts grow at their ends,
so that a line changes the row, and at times adds a page; a page that differs is written anew.
"""

from __future__ import annotations

import sqlite3

import msgspec
from msgspec.structs import replace

from sessiond.session import Fold, Messages
from sessiond.spool.decoding import sound
from sessiond.spool.rows import StreamState

PAGE = 992
"""Bytes: four of them fit into a page of SQLite's, and three of them into a row that needs no second one."""
KEPT = 8
"""Streams whose fold stays in memory: as many as a person's tools write at once."""
KEPT_BYTES = 8 << 20
"""What they may take together, as they are stored."""

Parts = tuple[bytes, bytes, bytes]
NOTHING: Parts = (b"", b"", b"")

_pack = msgspec.msgpack.Encoder().encode
_unpack_fold = sound(msgspec.msgpack.Decoder(Fold).decode)


class _Ends(msgspec.Struct, frozen=True, array_like=True):
    """What of a fold's parts lies in the stream's row."""

    paged: bool
    """Whether there is more, in the table."""
    head: bytes
    keys: bytes
    model_indexes: bytes

    @property
    def parts(self) -> Parts:
        """All three."""
        return self.head, self.keys, self.model_indexes


_unpack_ends = sound(msgspec.msgpack.Decoder(_Ends).decode)


class Folds:
    """Folds, as they are stored and as some of them are kept in memory."""

    _db: sqlite3.Connection
    _kept: dict[int, StreamState]

    def cache_fold(self, stream: StreamState) -> None:
        """Keep the fold of a stream that was saved, for its next line.

        Whoever asks for the stream next has it for himself, so that what he does not save is not kept either.
        """
        stream.fold.messages.drop_index()
        self._kept[stream.id] = stream
        size = sum(len(part) for kept in self._kept.values() for part in kept.stored)
        while size > KEPT_BYTES or len(self._kept) > KEPT:
            size -= sum(map(len, self._kept.pop(next(iter(self._kept))).stored))

    def clear_fold_cache(self) -> None:
        """Read folds anew: a transaction was taken back."""
        self._kept.clear()

    def load_fold(self, number: int, row: bytes) -> tuple[Fold, Parts]:
        """Put the fold of a stream together, of its row and its pages."""
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
        """Write the pages that differ from what is stored; return what belongs into the stream's row."""
        said = stream.fold.messages
        head = _pack(replace(stream.fold, messages=Messages()))
        parts = head, bytes(said.keys), bytes(said.model_indexes)
        for part, (old, new) in enumerate(zip(stream.stored, parts, strict=True)):
            if len(old) >= PAGE or len(new) >= PAGE:
                self._save_part(stream.id, part, old, new)
        stream.stored = parts
        self._kept.pop(stream.id, None)  # what another copy has of the pages is not what is stored any more
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
    """Make what of a fold belongs into the stream's row."""
    head, keys, model_indexes = (part[len(part) // PAGE * PAGE :] for part in parts)
    return _pack(_Ends(any(len(part) >= PAGE for part in parts), head, keys, model_indexes))
