"""Captures documents, folders and databases, whose content a source projects to streams of records."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from sessiond.errors import ReadError, Torn
from sessiond.ingest.admission import Admission, admit, purge_if_excluded
from sessiond.ingest.context import FileSnapshot, IngestContext, Outcome
from sessiond.ingest.inner_paths import inner_path
from sessiond.ingest.presence import ask_again, note_back, note_gone
from sessiond.ingest.stream_capture import StreamCapture
from sessiond.ingest.stream_lookup import stream_of_projection
from sessiond.ingest.units import DatabaseUnit, OpenUnit, StreamSource
from sessiond.session import session_id
from sessiond.sources.base import Kind
from sessiond.sources.damaged import DAMAGED, unread_reason
from sessiond.sources.rows import UNREADABLE
from sessiond.spool.rows import StreamState

FULL_SCAN_MS = 86_400_000
"""Between two scans of every row of a database, which find changes that move no watermark."""
LAST_FULL_SCAN = ""
"""The key of the last full scan among the watermarks."""
SHOWN = 100
"""Unreadable sessions of a database that are named; of more, the number is."""


def capture_projected(snapshot: FileSnapshot, unit: OpenUnit) -> Outcome:
    """Bring the streams of a document, a folder or a database up to date.

    Raises: Torn where it is in the middle of a rewrite.
    """
    if snapshot.location.unit.kind is Kind.DOCUMENT and snapshot.stat.st_size == 0:
        return Outcome()  # emptied: the first half of a rewrite. The other half is a change of its own (rule 8)
    if snapshot.known is not None and snapshot.known.gone_ms is not None:
        note_back(snapshot.context, snapshot.known)
    if snapshot.unchanged and not snapshot.turn.only:
        return Outcome()
    if isinstance(unit, DatabaseUnit):
        return _capture_database(snapshot, unit)
    return replace(_capture_document(snapshot, unit), cost=unit.cost)


# Documents and folders


def _capture_document(snapshot: FileSnapshot, unit: OpenUnit) -> Outcome:
    context, location = snapshot.context, snapshot.location
    outcome, main, paths, excluded = Outcome(), None, set[str](), False
    context.begin_work(snapshot.stat.st_size)
    sources = list(unit.streams())
    for source in sources:
        paths.add(source.path)
        verdict = _admit(snapshot, source)
        outcome = replace(outcome, retry=outcome.retry or verdict is Admission.LATER)
        excluded |= verdict is not Admission.YES
        if verdict is not Admission.YES:
            continue
        outcome, stream = _capture(snapshot, source, outcome)
        main = stream if source.path == location.path else main
    container = len({source.native_id for source in sources}) > 1
    if outcome.retry or (excluded and not container):
        return outcome  # not even its path is kept
    with context.spool.transaction():
        snapshot.save(main, snapshot.checkpoint())
    for file in context.spool.catalog.inside(location.path):
        if file.path not in paths:
            note_gone(context, file, snapshot.turn.live)
    return outcome


# Databases


def _capture_database(snapshot: FileSnapshot, unit: DatabaseUnit) -> Outcome:
    context, location = snapshot.context, snapshot.location
    marks = context.spool.catalog.marks(location.path)
    # A time in the future was stored while the clock was ahead.
    thorough = not 0 <= context.now_ms() - int(marks.pop(LAST_FULL_SCAN, 0)) < FULL_SCAN_MS
    # How many sessions changed, and how long they are, shows only when they are read. Each is committed by itself.
    context.spool.end_group()
    outcome, found = Outcome(), unit.sessions(marks, thorough=thorough)
    for native_id, mark in found.marks.items():
        if mark != UNREADABLE and marks.get(native_id) == mark and native_id not in snapshot.turn.only:
            continue
        try:
            outcome = _capture_session(snapshot, unit, native_id, mark, outcome)
        except Torn:
            raise
        except (ReadError, *DAMAGED) as error:
            # Rule 9. Its watermark does not move, so it is tried again when the database changes.
            found.troubles.append(f"session {native_id}: {unread_reason(error)}")
    if found.complete:
        _note_missing_sessions(snapshot, marks.keys() - found.marks.keys())
    trouble = _summary(found.troubles)
    with context.spool.transaction():
        snapshot.save(None, snapshot.checkpoint(), trouble=trouble)
        if thorough:
            context.spool.catalog.set_mark(location.path, LAST_FULL_SCAN, str(context.now_ms()))
    return replace(outcome, trouble=trouble)


def _summary(troubles: Sequence[str]) -> str | None:
    """Return one line that names each of the troubles, up to SHOWN."""
    if not troubles:
        return None
    more = f"; and {len(troubles) - SHOWN} more" if len(troubles) > SHOWN else ""
    return "; ".join(troubles[:SHOWN]) + more


def _capture_session(snapshot: FileSnapshot, unit: DatabaseUnit, native_id: str, mark: str, so_far: Outcome) -> Outcome:
    """Capture a session of a database and store its watermark, in one commit unless the session is long."""
    context, captured = snapshot.context, True
    # All of it is read before anything is stored: during a transaction no other thread can write to the spool.
    sources = list(unit.streams(native_id))
    with context.spool.group():
        context.begin_work(sum(source.content.size for source in sources))
        for source in sources:
            if _admit(snapshot, source) is Admission.YES:
                so_far, _ = _capture(snapshot, source, so_far)
            else:
                captured = False
        if captured and mark != UNREADABLE:  # otherwise it is read again with the next change
            with context.spool.transaction():
                context.spool.catalog.set_mark(snapshot.location.path, native_id, mark)
    return so_far


def _note_missing_sessions(snapshot: FileSnapshot, native_ids: set[str]) -> None:
    """Note that sessions are no longer in a database. Rule 4: nothing is deleted because of that."""
    catalog, path = snapshot.context.spool.catalog, snapshot.location.path
    for native_id in native_ids:
        inner = inner_path(path, native_id)
        for file in (catalog.file(inner), *catalog.inside(inner)):
            note_gone(snapshot.context, file, snapshot.turn.live)
        with snapshot.context.spool.transaction():
            catalog.drop_mark(path, native_id)


# One stream


def _admit(snapshot: FileSnapshot, source: StreamSource) -> Admission:
    """Decide on a stream before anything of it is stored."""
    if source.content.size == 0:
        return Admission.YES
    context, native_id = snapshot.context, source.native_id or ""
    verdict = admit(snapshot, native_id, source.content, thread=source.thread)
    identity = session_id(source.location.source.tool, native_id, context.scope(source.location.source))
    stream = context.spool.catalog.find_stream(identity, source.name)
    excluded = stream is not None and purge_if_excluded(snapshot, stream, source.content)
    return Admission.EXCLUDED if excluded else verdict


def _capture(snapshot: FileSnapshot, source: StreamSource, so_far: Outcome) -> tuple[Outcome, int | None]:
    """Capture one stream, under a path of its own; return the outcome so far, and the number of the stream."""
    context, known = snapshot.context, snapshot.known
    if source.content.size == 0:
        # An empty projection changes nothing: no stream is created for it, and none counts as emptied.
        return so_far, known.stream if known is not None and source.path == known.path else None
    stream = stream_of_projection(context, source)
    if stream is None:
        return so_far, None
    before = context.spool.catalog.file(source.path)
    if before is None or before.stream is None or before.gone_ms is not None:
        ask_again(context, stream)
    if source.path != snapshot.location.path and _has_no_news(context, source, stream):
        return so_far, stream.id
    outcome = StreamCapture(snapshot, source, stream).run()
    new = frozenset([source.native_id or ""]) if before is None else frozenset[str]()
    so_far = replace(
        so_far,
        read=so_far.read + outcome.read,
        changed=so_far.changed or outcome.changed,
        damaged=so_far.damaged + outcome.damaged,
        sessions=so_far.sessions | new,
        mentions=so_far.mentions | outcome.mentions,
    )
    return so_far, stream.id


def _has_no_news(context: IngestContext, source: StreamSource, stream: StreamState) -> bool:
    """Return whether a stream needs no work: of hundreds in a container, mostly one has changed."""
    content, file = source.content, context.spool.catalog.file(source.path)
    return (
        source.metadata is None
        and (file is not None and file.stream == stream.id and file.gone_ms is None)
        and (stream.caught_up and content.size == stream.folded)
        and content.unchanged_prefix(context.spool.catalog.extents(stream.id)) == content.size
    )
