"""Captures one stream: from its content at the tool to the commits in the spool and the session's new record."""

from __future__ import annotations

import os
from collections.abc import Set
from itertools import chain

from sessiond.errors import Torn
from sessiond.ingest.content import Content, Lines
from sessiond.ingest.context import FileSnapshot, Outcome
from sessiond.ingest.endings import REPORTED
from sessiond.ingest.file_bytes import FileBytes
from sessiond.ingest.pipeline import Step, StreamPipeline
from sessiond.ingest.presence import ask_again, release_pins
from sessiond.ingest.reconcile import reconcile
from sessiond.ingest.record import RecordBuilder
from sessiond.ingest.unit_facts import read_context
from sessiond.ingest.units import StreamSource, Times
from sessiond.reader import Checkpoint
from sessiond.session import Entry, session_id
from sessiond.session.messages import WIDTH
from sessiond.sources.base import Kind
from sessiond.spool.rows import UNSTORED, FileState, StreamState


class StreamCapture:
    """Captures what was added to a stream, or the new generation that a rewrite begins."""

    def __init__(self, snapshot: FileSnapshot, source: StreamSource, stream: StreamState) -> None:
        """Prepare the capture of `source`, which is a stream of the unit in `snapshot`, from the spool's `stream`."""
        self._snapshot = snapshot
        self._source = source
        self._stream = stream
        context, unit = snapshot.context, snapshot.location.unit
        self._now_ms = context.now_ms()
        self._latest_ms = max(self._now_ms, snapshot.mtime_ms)  # later times are ignored; the machine may have no clock
        budget = context.budget_of_lines if unit.kind.verbatim else context.budget
        location = snapshot.location
        self._pipeline = StreamPipeline(context, location.source, stream, location.path, self._latest_ms, budget)
        # A compressed file is always read from its start, and a projection is in memory.
        self._limit = None if unit.packed or not unit.kind.verbatim else snapshot.turn.slice
        known = snapshot.known
        unknown = known is None or known.stream != stream.id
        self._waited = stream.id != UNSTORED and (unknown or not stream.caught_up)
        """Whether files of the stream may be pinned: they are while it waits for space in the outbox."""

    def run(self, *, only_grew: bool = False) -> Outcome:
        """Read, mask, queue and fold what is new, in steps, each committed with its checkpoint.

        After about a slice this stops; the checkpoint then says that the file was not read to its end. `only_grew`: the
        bytes captured before are known to be unchanged.

        Raises: Torn where the content may be half of a rewrite.
        """
        context, stream, content, pipeline = self._snapshot.context, self._stream, self._source.content, self._pipeline
        damaged, before = stream.fold.damaged, self._keys_of_record()
        if stream.unproven:
            # The file was gone while the endpoint's copy was compared, and is back. To append to a copy that differs,
            # or to begin a generation with it, would mix bytes: the file is compared with it first.
            ask_again(context, stream)
        self._apply_rewrite(only_grew=only_grew)
        self._add_working_directory()
        stream.rank = max(stream.rank, self._snapshot.mtime_ms)
        read, final = 0, Step()
        for step in chain(pipeline.fill_gap(content), pipeline.read_new(content)):
            read += step.read
            if step.last or (self._limit is not None and read >= self._limit):
                final = step
                break
            with context.spool.transaction():
                self._store(step, to_end=False)
        self._add_details()
        if self._snapshot.location.unit.kind.verbatim:  # of a container, more may have to be read after this stream
            context.spool.resume_group()
        # Rule 1: the last bytes, the checkpoint and the record are committed together. A kill before that repeats the
        # step.
        with context.spool.transaction():
            self._store(final, to_end=final.last and content.search.done)
            # Even if nothing was read: an earlier scan may have been killed between its last two commits. A side file
            # has nothing that a record has.
            records = RecordBuilder(context, self._snapshot.location.source, self._snapshot.turn.live)
            changed = not content.raw and records.refresh(
                stream.session, touched=pipeline.touched, stream=stream, added=self._added(before)
            )
            context.spool.catalog.cache_fold(stream)
        return Outcome(
            read=read,
            changed=changed,
            damaged=max(stream.fold.damaged - damaged, 0),
            more=not final.last or content.search.more,
            retry=content.search.later,
            searched=content.search.read,
            trouble=content_trouble(content),
            mentions=frozenset(pipeline.mentions),
        )

    def _keys_of_record(self) -> tuple[tuple[object, ...], bytes] | None:
        """Return the facts and the messages of which the session's record was built; None if that is not known.

        The last commit before a kill may have stored messages without a record. The checkpoint of a file of lines says
        so, and that of a container does not.
        """
        stream, known = self._stream, self._snapshot.known
        verbatim = self._snapshot.location.unit.kind.verbatim
        if stream.id == UNSTORED or not verbatim or known is None or known.checkpoint is None:
            return None
        return (self._facts, bytes(stream.fold.messages.keys)) if known.checkpoint.size >= 0 else None

    @property
    def _facts(self) -> tuple[object, ...]:
        """What relatives are compared by, besides the messages."""
        fold = self._stream.fold
        return self._stream.generation, fold.copied, fold.parent, fold.started_ms

    def _added(self, before: tuple[tuple[object, ...], bytes] | None) -> Set[int] | None:
        """Return the messages that were added since the record was built; None if that is not known."""
        messages = self._stream.fold.messages
        if before is None or self._facts != before[0] or not messages.keys.startswith(before[1]):
            return None
        return frozenset(messages.since(len(before[1]) // WIDTH))

    def _apply_rewrite(self, *, only_grew: bool) -> None:
        """Begin a new generation if bytes captured before have changed. Raises: Torn, see `_unchanged_prefix`."""
        stream, content = self._stream, self._source.content
        kept = self._unchanged_prefix() if stream.folded and not only_grew else stream.folded
        if isinstance(content, FileBytes) and kept == stream.folded:
            known, extents = self._snapshot.known, self._snapshot.context.spool.catalog.extents(stream.id)
            kept = content.masked_prefix(
                None if known is None else known.checkpoint, kept, extents, self._pipeline.mask
            )
        if stream.remote_position is not None and stream.skipped is None:
            # Before anything is queued: the new bytes must follow those that the endpoint really holds.
            reconcile(self._snapshot.context, stream, content, self._snapshot.location.path)
            self._pipeline.touched = True
        if kept < stream.folded:
            started_ms, title = stream.fold.started_ms, stream.fold.title
            only_projection = self._snapshot.only_projection_changed
            self._pipeline.rewrite(content, kept, self._now_ms, only_projection=only_projection)
            if self._source.times is Times.FILE:
                stream.fold.started_ms = started_ms
            if self._snapshot.location.unit.beside and stream.fold.title is None:
                stream.fold.title = title  # it may be from a file beside the unit, which is not read again

    def _unchanged_prefix(self) -> int:
        """Return how many bytes at the start are unchanged. Raises: Torn where it may be half of a rewrite."""
        snapshot, stream, content = self._snapshot, self._stream, self._source.content
        snapshot.context.begin_work(stream.folded)
        kept = content.unchanged_prefix(snapshot.context.spool.catalog.extents(stream.id))
        if kept < stream.folded:
            emptied = kept == 0 and next(iter(content.chunks(0)), None) is None
            recent = 0 <= self._now_ms - snapshot.mtime_ms < snapshot.context.settle_ms
            if emptied or (recent and not self._is_complete()):
                # Rule 8: tools rewrite files in place, so half of a rewrite is normal. Capturing it would start a
                # generation with content that the tool never meant; an emptied file is left until it has a record
                # again.
                raise Torn("the file lost bytes a moment ago")
        return kept

    def _is_complete(self) -> bool:
        """Return whether the content is a consistent state even if it is shorter than before."""
        match self._snapshot.location.unit.kind:
            case Kind.LINES | Kind.FILE:
                return False
            case Kind.DATABASE:
                return True  # it was read in a transaction of its tool
            case _:
                return self._source.content.size >= self._stream.folded  # it could be parsed, and did not shrink

    def _add_working_directory(self) -> None:
        """Fold facts from files beside the unit and its root, while the stream itself names no working directory."""
        location, fold = self._snapshot.location, self._stream.fold
        if location.unit.beside and fold.cwd is None:
            entry = read_context(location)
            fold.add([entry], self._latest_ms)
            self._pipeline.touched |= entry is not None
        if location.cwd and fold.cwd is None:
            fold.cwd = location.cwd

    def _add_details(self) -> None:
        """Fold what is known besides the records: the file's times where the records have none, and metadata."""
        source, snapshot, fold = self._source, self._snapshot, self._stream.fold
        if self._pipeline.touched and source.times is Times.FILE:
            fold.add([Entry(time_ms=moment) for moment in _file_times(snapshot.stat)], self._latest_ms)
        elif self._pipeline.touched and source.times is Times.LAST_WRITE:
            fold.add([Entry(time_ms=snapshot.mtime_ms)], self._latest_ms)
        if source.metadata is not None:
            fold.apply_metadata(source.metadata, self._latest_ms)
        unit = snapshot.location.unit
        if unit.kind is Kind.LINES and unit.thread and unit.native_id is not None:
            fold.mark_as_copy_of(unit.native_id)  # if its records name another session, the file is a copy of that
        if fold.parent is None and source.parent:
            fold.parent = source.parent

    def _store(self, step: Step, *, to_end: bool) -> None:
        """Store a step and its checkpoint, and before them the stream if it is new. Runs inside a transaction."""
        if self._stream.id == UNSTORED:
            self._add_stream()
        self._pipeline.store(step, self._now_ms)
        self._save(to_end=to_end)

    def _add_stream(self) -> None:
        """Store a new stream, and its session if it is new too.

        An endpoint that was identified has nothing of a new stream, so its position is known. Before that, the position
        has to be asked for.
        """
        context, source, stream = self._snapshot.context, self._source, self._stream
        catalog, tool, native_id = context.spool.catalog, source.location.source, source.native_id or ""
        bound = context.spool.meta("endpoint") is not None
        number = catalog.add_session(session_id(tool.tool, native_id, context.scope(tool)), tool.tool, native_id)
        added = catalog.add_stream(number, stream.name, thread=stream.thread, known=bound, media_type=stream.media_type)
        stream.id, stream.session, stream.known, stream.stored = added.id, added.session, added.known, added.stored

    def _save(self, *, to_end: bool) -> None:
        """Move the checkpoint. Runs inside the transaction that stores what was read (rule 1).

        If it moved in a transaction of its own, a kill between the two would lose those bytes or queue them twice.
        """
        source, known, content = self._source, self._snapshot.known, self._source.content
        checkpoint, pin = None, None
        if isinstance(content, Lines):
            pin = self._settle_pin()
            checkpoint = self._checkpoint(content, to_end=to_end)
        elif known is not None and source.path == known.path:
            # That of a container moves only after all its streams are stored: a kill before reads all of them again.
            checkpoint = known.checkpoint
        self._snapshot.context.spool.catalog.save_file(
            FileState(
                path=source.path,
                tool=source.location.source.tool,
                stream=self._stream.id,
                checkpoint=checkpoint,
                pin=pin,
                trouble=content_trouble(content),
            )
        )

    def _settle_pin(self) -> str | None:
        """Pin a file whose bytes are not all in the outbox (rule 5): its tool may delete it before they are.

        Returns: the name of the pin; None if there is none.
        """
        context, stream, old = self._snapshot.context, self._stream, self._old_pin
        needed = stream.queued < stream.folded
        pin = context.pins.settle(self._source.path, stream.id, needed=needed, old=old)
        if not needed and (self._waited or old):
            release_pins(context, stream.id)
        self._waited |= needed
        return pin

    def _checkpoint(self, content: Lines, *, to_end: bool) -> Checkpoint:
        """Return the checkpoint at the end of what was captured. If that is not the file's end, its size says so."""
        stream, size, ctime_ns = self._stream, self._snapshot.stat.st_size, self._snapshot.stat.st_ctime_ns
        if isinstance(content, FileBytes) and content.truncated:
            to_end = False  # it is read again after a restart: the limit may be a higher one then
        if stream.queued < stream.folded or self._old_pin:
            ctime_ns = content.ctime_ns()  # our hard link changes it
        return self._snapshot.checkpoint(
            stream.folded, content.probe(stream.folded), size=size if to_end else ~size, ctime_ns=ctime_ns
        )

    @property
    def _old_pin(self) -> str | None:
        known = self._snapshot.known
        return None if known is None else known.pin


def content_trouble(content: Content) -> str | None:
    """Return what is left out of a file, for `status` and `sources`: a record that does not end, or a limit."""
    if isinstance(content, FileBytes) and content.truncated:
        return f"larger than side_file_max_bytes: only its first {content.size >> 20} MiB are captured"
    length = content.search.unended
    if length <= REPORTED:
        return None
    return f"its last line has no end after {length >> 20} MiB: it is captured once it ends"


def _file_times(stat: os.stat_result) -> tuple[int, int]:
    """Return when a file was created, where the system knows it, and when it was last written, in unix ms."""
    written = stat.st_mtime_ns // 1_000_000
    return min(int(getattr(stat, "st_birthtime", written / 1000) * 1000), written), written
