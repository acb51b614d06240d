"""Decides whether a session is captured. Nothing is stored before its project is known.

This is asked before anything of a session is stored: an excluded session leaves no trace in the spool, not even its
path.
"""

from __future__ import annotations

import contextlib
import os
from enum import StrEnum

from sessiond.ingest.content import Content
from sessiond.ingest.context import FileSnapshot, IngestContext, Outcome
from sessiond.ingest.line_reader import LONG_RECORD
from sessiond.ingest.pipeline import STEP, decode
from sessiond.ingest.unit_facts import first_directory, outer_directory
from sessiond.restored import Mark
from sessiond.session import Fold, session_id
from sessiond.spool.health import read_copies
from sessiond.spool.rows import StreamState
from sessiond.spool.safety import BOUND_ENDPOINT, CHANGED

PATIENCE_MS = 60_000
"""How long after its last change a file without a working directory and without a message is left alone."""


class Admission(StrEnum):
    """Whether a stream is captured."""

    YES = "yes"
    EXCLUDED = "excluded"
    RESTORED = "restored"
    """It was restored from this endpoint and has no message of its own: the endpoint has all of it already."""
    FORGOTTEN = "forgotten"
    """The user erased its session."""
    LATER = "later"
    """It has no working directory yet and changed a moment ago, so more is coming."""


def admit(snapshot: FileSnapshot, native_id: str, content: Content, *, thread: bool) -> Admission:
    """Decide on a stream by its first working directory. `thread`: it belongs to the main thread.

    A session that is in the spool was admitted before; see `purge_if_excluded`.
    """
    context, source = snapshot.context, snapshot.location.source
    identity = session_id(source.tool, native_id, context.scope(source))
    with context.spool.reading():
        # Before `known`: between the user's request and the erasure, nothing more of the session is captured.
        forgotten = context.spool.forgotten.has(str(identity))
        known = context.spool.catalog.session(identity)
    if forgotten:
        return Admission.FORGOTTEN
    if known is not None:
        return Admission.YES
    mark = context.restored.find(identity)
    outside = outer_directory(snapshot.location) if mark is None else mark.directory
    directory, decided = (outside, True) if outside else first_directory(source, content)
    if context.exclusion.excludes(directory):
        return Admission.EXCLUDED
    if mark is not None and not _is_captured(snapshot, content, mark, thread=thread):
        return Admission.RESTORED
    age_ms = context.now_ms() - snapshot.mtime_ms
    return Admission.YES if decided or not 0 <= age_ms < PATIENCE_MS else Admission.LATER


def purge_if_excluded(snapshot: FileSnapshot, stream: StreamState, content: Content) -> bool:
    """Purge a captured session if its project is excluded; return whether it is.

    A captured session is excluded if its working directory appears only now, or if the configuration has changed.
    """
    if not stream.thread:
        return False  # a subagent may work elsewhere; its session decides
    context, directory = snapshot.context, stream.fold.cwd
    mark = None
    if context.restored:
        mark = context.restored.find(context.spool.catalog.session_by_row(stream.session).uuid)
    directory = directory if mark is None else mark.directory
    if directory is None and not stream.fold.messages:
        location, until = snapshot.location, _end_of_slice(snapshot, stream.folded)
        outside = outer_directory(location)
        directory = outside or first_directory(location.source, content, stream.folded, until)[0]
    if not context.exclusion.excludes(directory):
        return False
    purge_session(context, stream.session, excluded=True)
    return True


def _is_captured(snapshot: FileSnapshot, content: Content, mark: Mark, *, thread: bool) -> bool:
    """Return whether a restored transcript is captured: if the endpoint lacks it, or the session was continued here.

    The endpoint lacks the transcript if the session was restored from another endpoint, or if the endpoint itself was
    restored from an older copy since then. `upload.bind` finds that out, and has the files read again. An endpoint that
    has not answered yet counts as the one from which the session was restored.
    """
    spool = snapshot.context.spool
    bound = spool.meta(BOUND_ENDPOINT)
    if spool.meta(CHANGED) is not None or bound not in (None, mark.endpoint):
        return True
    older = any(diverged_ms >= mark.restored_ms for diverged_ms in read_copies(spool).diverged_ms)
    return older or (thread and _has_own_message(snapshot, content, mark))  # subagents wait for their session


def _has_own_message(snapshot: FileSnapshot, content: Content, mark: Mark) -> bool:
    """Return whether a restored transcript has a message that was written here."""
    fold = Fold()
    for chunk in content.records(0):
        decode(snapshot.location.source, chunk.data, fold, snapshot.context.now_ms())
    return not mark.messages.issuperset(fold.messages)


def purge_session(context: IngestContext, session: int, *, excluded: bool = False) -> None:
    """Remove everything of a session from the spool. The endpoint keeps what it has.

    `excluded`: its project is excluded now. If the endpoint has the session, its id is kept, so that `status` can
    offer to erase it there.
    """
    with context.spool.erasing():
        if excluded:
            context.spool.forgotten.note_left(session)
        pins = context.spool.catalog.forget_session(session)
        context.spool.outbox.invalidate_size()
    # Only after the commit: a kill in between leaves pins without a row, which the next start removes.
    for pin in pins:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(context.pins.path(pin))


def outcome_of(verdict: Admission) -> Outcome:
    """Return the outcome for a file that is not captured, or not yet."""
    if verdict is Admission.LATER:
        return Outcome(retry=True, trouble="its session has no working directory yet")
    return Outcome()


def _end_of_slice(snapshot: FileSnapshot, offset: int) -> int | None:
    """Return the offset up to which the next slice may be read, at most; None if the file is read in one go.

    A search for the working directory beyond this offset would read a long file to its end for each of its slices.
    """
    unit, size = snapshot.location.unit, snapshot.turn.slice
    if size is None or not unit.kind.verbatim or unit.packed:
        return None
    return offset + size + STEP + LONG_RECORD
