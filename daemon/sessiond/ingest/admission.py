"""Decides whether a session is captured. Nothing is stored before its project is known.

This is asked before anything of a session is stored: an excluded session leaves no trace in the spool, not even its
path.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from enum import StrEnum

from sessiond.ingest.content import Content
from sessiond.ingest.context import FileSnapshot, IngestContext, Outcome
from sessiond.ingest.line_reader import LONG_RECORD
from sessiond.ingest.pipeline import STEP
from sessiond.ingest.stream_capture import read_context
from sessiond.session import session_id
from sessiond.sources.base import Kind, Memory, Source
from sessiond.sources.damaged import decode_all
from sessiond.spool.rows import StreamState

PATIENCE_MS = 60_000
"""How long after its last change a file without a working directory and without a message is left alone."""


class Admission(StrEnum):
    """Whether a stream is captured."""

    YES = "yes"
    EXCLUDED = "excluded"
    LATER = "later"
    """It has no working directory yet and changed a moment ago, so more is coming."""


def admit(snapshot: FileSnapshot, native_id: str, content: Content) -> Admission:
    """Decide on a stream by its first working directory.

    A tool that has written a message without a working directory never writes one. A session that is in the spool
    was admitted before; see `leave`.
    """
    context, source = snapshot.context, snapshot.location.source
    identity = session_id(source.tool, native_id, context.scope(source))
    with context.spool.reading():
        known = context.spool.catalog.session(identity)
    if known is not None:
        return Admission.YES
    directory, decided = _outside(snapshot) or _directory(source, content, 0)
    if context.exclusion.excludes(directory):
        return Admission.EXCLUDED
    age_ms = context.now_ms() - snapshot.mtime_ms
    return Admission.YES if decided or not 0 <= age_ms < PATIENCE_MS else Admission.LATER


def leave(snapshot: FileSnapshot, stream: StreamState, content: Content) -> bool:
    """Purge a captured session that is excluded, and return whether it is.

    That happens if its working directory appears only now, or if the configuration has changed.
    """
    if not stream.thread:
        return False  # a subagent may work elsewhere; its session decides
    context, directory = snapshot.context, stream.fold.cwd
    if directory is None and not stream.fold.messages:
        until = _end_of_slice(snapshot, stream.folded)
        directory, _ = _outside(snapshot) or _directory(snapshot.location.source, content, stream.folded, until)
    if not context.exclusion.excludes(directory):
        return False
    purge_session(context, stream.session)
    return True


def purge_session(context: IngestContext, session: int) -> None:
    """Remove everything of a session from the spool. The endpoint keeps what it has."""
    with context.spool.erasing():
        pins = context.spool.catalog.forget_session(session)
        context.spool.outbox.invalidate_size()
    # Only after the commit: a kill in between leaves pins without a row, which the next start removes.
    for pin in pins:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(context.pins.path(pin))


def reject(verdict: Admission) -> Outcome:
    """Return the outcome of a file that is not captured, or not yet."""
    if verdict is Admission.LATER:
        return Outcome(retry=True, trouble="its session has no working directory yet")
    return Outcome()


def _outside(snapshot: FileSnapshot) -> tuple[str, bool] | None:
    """Return the working directory according to the files beside the transcript or to the root."""
    location = snapshot.location
    entry = read_context(location) if location.unit.beside else None
    directory = (entry.cwd if entry is not None else None) or location.cwd
    return (directory, True) if directory else None


def _end_of_slice(snapshot: FileSnapshot, offset: int) -> int | None:
    """Return the largest offset up to which the next slice may be read; None if all is read in one go.

    Looking further would read a long file to its end with each of its slices.
    """
    unit, size = snapshot.location.unit, snapshot.turn.slice
    if size is None or unit.kind is not Kind.LINES or unit.packed:
        return None
    return offset + size + STEP + LONG_RECORD


def _directory(source: Source, content: Content, offset: int, until: int | None = None) -> tuple[str | None, bool]:
    """Read until the working directory is known, or until it is certain that there will be none.

    Only records that begin before `until` are read.
    Returns: the directory, and whether the answer is final.
    """
    memory: Memory = {}
    for line in _records(content, offset, until):
        for entry in decode_all(source.decode, line, memory):
            if entry.cwd or entry.role is not None:
                return entry.cwd, True
    return None, False


def _records(content: Content, offset: int, until: int | None) -> Iterator[bytes]:
    for chunk in content.records(offset, until=until):
        start = 0
        while start < len(chunk.data):
            end = chunk.data.find(b"\n", start)
            end = len(chunk.data) if end < 0 else end
            if end > start:
                yield chunk.data[start:end]
            start = end + 1
