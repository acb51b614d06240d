"""Which sessions are taken in at all: none of an excluded project, and none before that can be told.

Asked before anything of a session is stored: what is excluded leaves no trace in the spool, not even its path.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from enum import StrEnum

from sessiond.ingest.capture import DAMAGED
from sessiond.ingest.commit import read_context
from sessiond.ingest.content import Content
from sessiond.ingest.context import FileSnapshot, IngestContext, Outcome
from sessiond.session import session_id
from sessiond.sources.base import Memory, Source
from sessiond.spool.rows import StreamState

PATIENCE_MS = 60_000
"""How long after its last change a file is left alone that says neither where its session works nor anything."""


class Admission(StrEnum):
    """Whether a stream is taken in."""

    YES = "yes"
    EXCLUDED = "excluded"
    LATER = "later"
    """It says not yet where its session works, and was changed a moment ago: more is coming."""


def admit(snapshot: FileSnapshot, native_id: str, content: Content) -> Admission:
    """Decide on a stream by the first working directory in it.

    A tool that has said a message without saying where it works never says it. What is in the spool already was
    decided on; see `leave`.
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
    age_ms = context.now_ms() - snapshot.now.st_mtime_ns // 1_000_000
    return Admission.YES if decided or not 0 <= age_ms < PATIENCE_MS else Admission.LATER


def leave(snapshot: FileSnapshot, stream: StreamState, content: Content) -> bool:
    """Let go of a session that is excluded by now, or that says only now where it works; tells whether it is."""
    if not stream.thread:
        return False  # a subagent may work elsewhere; its session decides
    context, directory = snapshot.context, stream.fold.cwd
    if directory is None and not stream.fold.messages:
        directory, _ = _outside(snapshot) or _directory(snapshot.location.source, content, stream.folded)
    if not context.exclusion.excludes(directory):
        return False
    purge_session(context, stream.session)
    return True


def purge_session(context: IngestContext, session: int) -> None:
    """Remove all there is of a session from the spool. What the endpoint has of it stays there."""
    with context.spool.erasing():
        pins = context.spool.catalog.forget_session(session)
        context.spool.outbox.forget_count()
    for pin in pins:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(context.pins.path(pin))


def turn_away(verdict: Admission) -> Outcome:
    """Say what comes of a file that is not taken in (now)."""
    if verdict is Admission.LATER:
        return Outcome(retry=True, trouble="it does not say yet where its session works")
    return Outcome()


def _outside(snapshot: FileSnapshot) -> tuple[str, bool] | None:
    """Ask what is not in the transcript: the files beside it, and the root."""
    location = snapshot.location
    entry = read_context(location) if location.unit.beside else None
    directory = (entry.cwd if entry is not None else None) or location.cwd
    return (directory, True) if directory else None


def _directory(source: Source, content: Content, offset: int) -> tuple[str | None, bool]:
    """Read on until the working directory is known, or it is known that it will not be."""
    memory: Memory = {}
    for line in _records(content, offset):
        try:
            entry = source.decode(line, memory)
        except DAMAGED:
            continue
        if entry is not None and (entry.cwd or entry.role is not None):
            return entry.cwd, True
    return None, False


def _records(content: Content, offset: int) -> Iterator[bytes]:
    for chunk in content.chunks(offset):
        start = 0
        while not chunk.piece and start < len(chunk.data):
            end = chunk.data.find(b"\n", start)
            end = len(chunk.data) if end < 0 else end
            if end > start:
                yield chunk.data[start:end]
            start = end + 1
