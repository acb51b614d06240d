"""Erases the captured data of sessions that have a tombstone."""

from __future__ import annotations

from sessiond.ingest.admission import purge_session
from sessiond.ingest.context import IngestContext
from sessiond.spool.scrub import scrub


def erase_forgotten(context: IngestContext) -> int:
    """Erase everything of forgotten sessions on this machine but their tools' files; return the number of sessions.

    Only the capture thread calls this: it may be in the middle of one of their files otherwise. If another process
    reads the spool, the write-ahead log keeps the data until the next call.

    Raises: StateFull, SpoolDamaged.
    """
    spool = context.spool
    with spool.reading():
        sessions = spool.forgotten.captured()
    for session in sessions:
        with spool.reading():
            identity = spool.catalog.session_by_row(session).uuid
        context.restored.remove(identity)  # nothing of the session is counted or captured any more
        purge_session(context, session)
    scrub(spool)
    return len(sessions)
