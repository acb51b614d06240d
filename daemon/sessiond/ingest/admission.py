"""Which sessions are taken in at all: none of an excluded project, and none before that can be told.

Asked before anything of a session is stored: what is excluded leaves no trace in the spool, not even its path.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from enum import StrEnum

from sessiond.ingest.advance import read_context
from sessiond.ingest.capture import DAMAGED
from sessiond.ingest.content import Content
from sessiond.ingest.setting import Outcome, Setting, Visit
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


def admit(visit: Visit, native_id: str, content: Content) -> Admission:
    """Decide on a stream by the first working directory in it.

    A tool that has said a message without saying where it works never says it. What is in the spool already was
    decided on; see `leave`.
    """
    setting, source = visit.setting, visit.place.source
    identity = session_id(source.tool, native_id, setting.scope(source))
    with setting.spool.reading():
        known = setting.spool.catalog.session(identity)
    if known is not None:
        return Admission.YES
    directory, decided = _outside(visit) or _directory(source, content, 0)
    if setting.exclusion.excludes(directory):
        return Admission.EXCLUDED
    age_ms = setting.now_ms() - visit.now.st_mtime_ns // 1_000_000
    return Admission.YES if decided or not 0 <= age_ms < PATIENCE_MS else Admission.LATER


def leave(visit: Visit, stream: StreamState, content: Content) -> bool:
    """Let go of a session that is excluded by now, or that says only now where it works; tells whether it is."""
    if not stream.thread:
        return False  # a subagent may work elsewhere; its session decides
    setting, directory = visit.setting, stream.fold.cwd
    if directory is None and not stream.fold.messages:
        directory, _ = _outside(visit) or _directory(visit.place.source, content, stream.folded)
    if not setting.exclusion.excludes(directory):
        return False
    forget(setting, stream.session)
    return True


def forget(setting: Setting, session: int) -> None:
    """Remove all there is of a session from the spool. What the endpoint has of it stays there."""
    with setting.spool.erasing():
        pins = setting.spool.catalog.forget_session(session)
        setting.spool.outbox.forget_count()
    for pin in pins:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(setting.pins.path(pin))


def turn_away(verdict: Admission) -> Outcome:
    """Say what comes of a file that is not taken in (now)."""
    if verdict is Admission.LATER:
        return Outcome(retry=True, trouble="it does not say yet where its session works")
    return Outcome()


def _outside(visit: Visit) -> tuple[str, bool] | None:
    """Ask what is not in the transcript: the files beside it, and the root."""
    place = visit.place
    entry = read_context(place) if place.unit.beside else None
    directory = (entry.cwd if entry is not None else None) or place.cwd
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
