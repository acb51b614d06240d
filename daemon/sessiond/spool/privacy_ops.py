"""Privacy in the spool: counts of masked secrets, unkept transcripts, excluded sessions, and masking again."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping

from sessiond.spool.folds import Folds
from sessiond.spool.rows import Frame


class PrivacyOps(Folds):
    """Operations of the catalog for privacy. Writing methods run inside `Spool.transaction`."""

    rereads = 0
    """How often files were marked to be read again. A scan compares it, as these files have not changed."""

    def add_redactions(self, counts: Mapping[str, int]) -> None:
        """Add to the numbers of masked secrets."""
        self._db.executemany(
            "INSERT INTO redaction VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            list(counts.items()),
        )

    # Transcripts that are not kept

    def skip_transcripts(self, tools: Collection[str]) -> None:
        """Stop keeping transcripts of these tools. Queued bytes are removed; they can be read again later."""
        for tool in tools:
            rows = self._db.execute(
                "SELECT stream.id, min(queued, coalesce(gap_from, queued), coalesce((SELECT min(offset) FROM segment"
                " WHERE segment.stream = stream.id AND segment.generation = stream.generation AND length > 0), queued))"
                " FROM stream JOIN session ON session.id = stream.session WHERE tool = ? AND skipped IS NULL",
                (tool,),
            ).fetchall()
            for stream, begin in rows:
                self._db.execute("DELETE FROM segment WHERE stream = ?", (stream,))
                self._db.execute(
                    "UPDATE stream SET skipped = ?, queued = folded, waiting = 0, gap_from = NULL, gap_to = NULL,"
                    " held = NULL WHERE id = ?",
                    (begin, stream),
                )

    def keep_transcripts(self, excluded: Collection[str]) -> None:
        """Keep transcripts again, except of some tools. Skipped bytes are read if they still exist."""
        marks = ", ".join("?" * len(excluded))
        self._db.execute(
            "UPDATE stream SET queued = min(queued, skipped), skipped = NULL, known = 0 WHERE skipped IS NOT NULL"
            f" AND session IN (SELECT id FROM session WHERE tool NOT IN ({marks}))",
            tuple(excluded),
        )

    # Sessions that are excluded

    def directories(self) -> dict[str, set[int]]:
        """Return the sessions of each working directory."""
        found: dict[str, set[int]] = {}
        for number, session, row in self._db.execute("SELECT id, session, fold FROM stream").fetchall():
            directory = self.load_fold(number, row)[0].cwd
            if directory:
                found.setdefault(directory, set()).add(session)
        return found

    def forget_session(self, session: int) -> list[str]:
        """Remove everything of a session: its files, streams and queued items. Return the names of its pins."""
        streams = "(SELECT id FROM stream WHERE session = ?)"
        pins = self._db.execute(f"SELECT pin FROM file WHERE stream IN {streams} AND pin IS NOT NULL", (session,))
        names = [row[0] for row in pins.fetchall()]
        paths = self._db.execute(f"SELECT path FROM file WHERE stream IN {streams}", (session,)).fetchall()
        for (path,) in paths:
            container, _, inner = path.partition(b"::")
            native_id = inner.partition(b"::")[0]
            if native_id:
                self._db.execute(
                    "DELETE FROM mark WHERE path = ? AND native_id = ?", (container, os.fsdecode(native_id))
                )
        for table in ("segment", "extent", "file", "page", "acknowledged", "pushed_digest"):
            self._db.execute(f"DELETE FROM {table} WHERE stream IN {streams}", (session,))
        self._db.execute("DELETE FROM mention WHERE session = ?", (session,))
        self._db.execute("DELETE FROM stream WHERE session = ?", (session,))
        self._db.execute("DELETE FROM session WHERE id = ?", (session,))
        self.clear_fold_cache()  # a new stream may get the number of a removed one
        return names

    def reread_files_without_session(self) -> None:
        """Mark files without a captured session to be read again: their sessions may no longer be excluded."""
        self.rereads += 1
        self._db.execute("UPDATE file SET checkpoint = NULL WHERE stream IS NULL")

    # A change of rules

    def frames(self) -> Iterator[Frame]:
        """Iterate over the queued frames of all transcripts, in order, without loading their data."""
        rows = self._db.execute(
            "SELECT id, stream, generation, offset, length FROM segment WHERE length > 0"
            " ORDER BY stream, generation, offset"
        ).fetchall()
        for row in rows:
            yield Frame(id=row[0], stream=row[1], generation=row[2], offset=row[3], length=row[4])

    def queued_frames(self, stream: int) -> list[Frame]:
        """Return the queued frames of a stream, in order, without their data."""
        rows = self._db.execute(
            "SELECT id, stream, generation, offset, length FROM segment WHERE stream = ? AND length > 0"
            " ORDER BY generation, offset",
            (stream,),
        )
        return [Frame(id=row[0], stream=row[1], generation=row[2], offset=row[3], length=row[4]) for row in rows]

    def load_frame(self, number: int) -> bytes | None:
        """Return the data of a queued frame; None if it was acknowledged meanwhile."""
        row = self._db.execute("SELECT data FROM segment WHERE id = ?", (number,)).fetchone()
        return None if row is None else bytes(row[0])

    def replace_frame(self, number: int, data: bytes) -> None:
        """Replace a queued frame by one with the same bytes, masked again."""
        self._db.execute("UPDATE segment SET data = ?, size = ? WHERE id = ?", (data, len(data), number))

    def replace_record(self, session: int, record: bytes, title: str | None) -> None:
        """Replace a record that is not pushed yet by one that was masked again."""
        self._db.execute("UPDATE session SET record = ?, title = ? WHERE id = ?", (record, title, session))
