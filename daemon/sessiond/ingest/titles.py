"""Captures titles that a tool keeps in a list beside its transcripts (Kind.TITLES).

They go into the records of sessions that are captured, and the list itself is no stream. So nothing is stored of a
session of an excluded project. The title of a session that is captured later is read with its transcript.
"""

from __future__ import annotations

from contextlib import suppress

from sessiond.ingest.context import FileSnapshot, Outcome
from sessiond.ingest.presence import note_back
from sessiond.ingest.prompt_lines import read_prompts
from sessiond.ingest.record import RecordBuilder
from sessiond.ingest.units import HistoryUnit
from sessiond.session import Entry, session_id
from sessiond.sources.damaged import DAMAGED
from sessiond.sources.titles import decode_title


def capture_titles(snapshot: FileSnapshot, unit: HistoryUnit) -> Outcome:
    """Set the titles of captured sessions: those added to the list, or all if it was rewritten."""
    context, known, lines = snapshot.context, snapshot.known, unit.lines
    if known is not None and known.gone_ms is not None:
        note_back(context, known)
    if snapshot.unchanged or snapshot.stat.st_size == 0:
        return Outcome()
    checkpoint = None if known is None else known.checkpoint
    grew = checkpoint is not None and lines.grew(checkpoint, snapshot.stat)
    start = end = checkpoint.offset if checkpoint is not None and grew else 0
    titles: dict[str, str] = {}
    for line in read_prompts(snapshot.location.source, lines, start):
        end = line.end
        with suppress(*DAMAGED):  # a damaged line costs its own title only
            if named := decode_title(line.record):
                titles[named[0]] = named[1]
    context.spool.end_group()
    changed = False
    for native_id, title in titles.items():
        changed |= _set_title(snapshot, native_id, title)
    # After the records (rule 1): a kill in between sets the same titles again.
    with context.spool.transaction():
        snapshot.save(None, snapshot.checkpoint(end, lines.probe(end)))
    return Outcome(read=end - start, changed=changed)


def _set_title(snapshot: FileSnapshot, native_id: str, title: str) -> bool:
    """Store the title of a captured session; return whether its record changed."""
    context, source = snapshot.context, snapshot.location.source
    with context.spool.reading():
        session = context.spool.catalog.session(session_id(source.tool, native_id, context.scope(source)))
        streams = [] if session is None else context.spool.catalog.streams(session.id)
    stream = next((stream for stream in streams if stream.thread), None)
    if stream is None or stream.fold.title == title:
        return False
    stream.fold.apply_metadata(Entry(title=title), context.now_ms())
    with context.spool.transaction():
        context.spool.catalog.save_stream(stream)
        records = RecordBuilder(context, source, snapshot.turn.live)
        return records.refresh(stream.session, touched=False, added=frozenset())
