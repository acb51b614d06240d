"""Captures a side file: a file that belongs to a session, byte for byte.

Its session has to be captured already. A side file never makes a session, and never changes the record of one. While
its session is not known nothing of it is stored, not even its path: the session may be an excluded one.
"""

from __future__ import annotations

from typing import cast

from msgspec.structs import replace

from sessiond.ingest.content import Lines
from sessiond.ingest.context import FileSnapshot, Outcome
from sessiond.ingest.lines import (
    capture_stream,
    known_stream,
    note_no_session,
    nothing_to_read,
    unread,
)
from sessiond.ingest.stream_lookup import stream_of_lines
from sessiond.ingest.units import OpenUnit
from sessiond.session import session_id


def capture_side_file(snapshot: FileSnapshot, unit: OpenUnit) -> Outcome:
    """Bring the stream of a side file up to date."""
    context, known = snapshot.context, snapshot.known
    stream = known_stream(snapshot)
    if nothing_to_read(snapshot, stream):
        return Outcome()
    owner = _owner(snapshot) if stream is None else None
    if stream is None and owner is None:
        return Outcome(sessionless=not _is_forgotten(snapshot))
    context.begin_work(unread(snapshot))
    (source,) = unit.streams()
    content = cast(Lines, source.content)
    checkpoint = None if known is None else known.checkpoint
    if stream is None and owner is not None:
        source = replace(source, native_id=owner)
        stream, checkpoint = stream_of_lines(context, source)
    if stream is None:
        return note_no_session(snapshot, content)
    if content.search.later and content.size < stream.folded:
        return Outcome(retry=True)  # the end of its last line is still being written
    return capture_stream(snapshot, source, stream, checkpoint)


def _owner(snapshot: FileSnapshot) -> str | None:
    """Return the native id of the captured session that a side file belongs to; None if there is none."""
    context, location = snapshot.context, snapshot.location
    catalog, native_id = context.spool.catalog, location.unit.native_id
    with context.spool.reading():
        if native_id is None:
            return catalog.mentioning(location.source.tool, location.file_name)
        identity = session_id(location.source.tool, native_id, context.scope(location.source))
        return None if catalog.session(identity) is None else native_id


def _is_forgotten(snapshot: FileSnapshot) -> bool:
    """Return whether the user erased the session that a side file names in its path."""
    context, location = snapshot.context, snapshot.location
    if location.unit.native_id is None:
        return False
    identity = session_id(location.source.tool, location.unit.native_id, context.scope(location.source))
    with context.spool.reading():
        return context.spool.forgotten.has(str(identity))
