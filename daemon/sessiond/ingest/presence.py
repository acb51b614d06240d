"""Notes files that vanish, come back or can't be read, and ends sessions that are idle."""

from __future__ import annotations

from collections.abc import Mapping, Set

from msgspec.structs import replace

from sessiond.errors import ReadError
from sessiond.ingest.context import PROMPTS, IngestContext, Location, Outcome
from sessiond.ingest.record import RecordBuilder
from sessiond.sources.base import Source
from sessiond.spool.rows import FileState, StreamState


def note_gone(context: IngestContext, known: FileState | None, live: Set[tuple[str, str]]) -> Outcome:
    """Record that a file, and the sessions in it, no longer exist. Rule 4: nothing is deleted because of that.

    `live`: see Turn.
    """
    if known is None or known.gone_ms is not None:
        return Outcome()
    now_ms, changed = context.now_ms(), False
    with context.spool.transaction():
        for file in (known, *context.spool.catalog.inside(known.path)):
            if file.gone_ms is None:
                changed |= _note_one_gone(context, file, now_ms, live)
    return Outcome(changed=changed)


def _note_one_gone(context: IngestContext, file: FileState, now_ms: int, live: Set[tuple[str, str]]) -> bool:
    catalog = context.spool.catalog
    catalog.save_file(replace(file, gone_ms=now_ms, trouble=None))
    if file.stream is None:
        return False
    stream = catalog.stream(file.stream)
    if stream.media_type is not None:
        return False  # a session without a side file is there all the same
    session = stream.session
    streams = catalog.streams(session)
    if any(stream.thread for stream in streams):  # a history of prompts outlives the transcripts
        streams = [stream for stream in streams if stream.name != PROMPTS]
    left = [file for stream in streams for file in catalog.files(stream.id)]
    if any(other.gone_ms is None for other in left):
        # The session may continue under another name; its record then has to show that path.
        source = next((source for source, _ in context.roots if source.tool == file.tool), None)
        return source is not None and RecordBuilder(context, source, live).refresh(
            session, touched=False, added=frozenset()
        )
    gone = catalog.set_gone(session, now_ms)
    if gone:
        catalog.raise_revision(session, 0, now_ms)
    return gone


def note_back(context: IngestContext, known: FileState) -> None:
    """Record that a vanished file exists again, and with it the sessions that vanished with it."""
    catalog = context.spool.catalog
    with context.spool.transaction():
        for file in (known, *catalog.inside(known.path)):
            if file.gone_ms == known.gone_ms:
                catalog.save_file(replace(file, gone_ms=None))
                if file.stream is not None:
                    stream = catalog.stream(file.stream)
                    ask_again(context, stream)
                    if stream.media_type is None and catalog.set_gone(stream.session, None):
                        catalog.raise_revision(stream.session, 0, context.now_ms())


def ask_again(context: IngestContext, stream: StreamState) -> None:
    """Ask the endpoint about a stream whose bytes were given up: a file that came back may have them.

    The answer is reconciled with the file, and what the endpoint lacks is read again.
    """
    if stream.given_up:
        with context.spool.transaction():
            context.spool.catalog.set_unknown(stream.id)


def release_pins(context: IngestContext, stream: int) -> None:
    """Remove the pins of a stream. It is caught up, so the outbox or the endpoint has every byte of its files."""
    for file in context.spool.catalog.files(stream):
        if file.pin is not None:
            context.pins.settle(file.path, stream, needed=False, old=file.pin)
            context.spool.catalog.save_pin(file.path, None)


def note_trouble(context: IngestContext, location: Location, known: FileState | None, error: ReadError) -> Outcome:
    """Store why a file can't be read, for `status`. The next change or rescan tries again."""
    trouble = str(error)
    if known is None or known.trouble != trouble:
        base = known or FileState(path=location.path, tool=location.source.tool)
        with context.spool.transaction():
            context.spool.catalog.save_file(replace(base, trouble=trouble))
    return Outcome(trouble=trouble)


def sweep_idle(context: IngestContext, sources: Mapping[str, Source], live: Set[tuple[str, str]]) -> int:
    """End the sessions that have been idle for long enough and are not `live`; return how many."""
    now_ms, ended = context.now_ms(), 0
    for number in context.spool.catalog.idle(now_ms - context.idle_after_ms):
        source = sources.get(context.spool.catalog.session_by_row(number).tool)
        if source is not None:
            with context.spool.transaction():
                ended += RecordBuilder(context, source, live).refresh(number, touched=False, added=frozenset())
    return ended
