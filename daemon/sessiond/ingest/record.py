"""Builds a session's record from the folds of its streams and from the sessions whose history it may have copied."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from msgspec.structs import replace

from sessiond.ingest.context import IngestContext, as_text, inner_path, outer_path
from sessiond.session import Fold, is_positional, session_id, summarize
from sessiond.sources.base import Source
from sessiond.spool import Spool
from sessiond.spool.rows import FileState, SessionState, StreamState

MAIN = "main"  # the name of a transcript with one stream (see Unit in sources/base.py)


class _Member(NamedTuple):
    """A session with its streams and its relatives: the sessions that may share history with it."""

    state: SessionState
    streams: list[StreamState]
    relatives: list[SessionState]

    @property
    def threads(self) -> list[Fold]:
        """The folds of the main thread."""
        return [stream.fold for stream in self.streams if stream.thread]


def refresh(
    context: IngestContext,
    source: Source,
    state: SessionState,
    *,
    live: bool,
    touched: bool,
    current: StreamState | None = None,
) -> bool:
    """Store the record of a session if it changed; return whether it did. Runs inside a transaction.

    `live`: its process runs. `touched`: its streams changed, which makes a new revision even if the record is the same.
    `current` is one of its streams that is in memory, as stored.

    The records of its relatives are rebuilt too: the session may turn out to be their ancestor or their copy.
    """
    spool = context.spool
    member = _load_member(spool, state, current)
    changed = _refresh_one(context, source, member, live=live, touched=touched)
    if changed:
        for other in member.relatives:
            if other.record is not None and other.id != state.id:
                ongoing = other.record.ended_at is None
                _refresh_one(context, source, _load_member(spool, other), live=ongoing, touched=False)
    return changed


def _refresh_one(context: IngestContext, source: Source, member: _Member, *, live: bool, touched: bool) -> bool:
    spool, masking, rules = context.spool, context.masking, context.rules()
    state, threads = member.state, _with_times(member, context.rules().now_ms)
    others = [stream.fold for stream in member.streams if not stream.thread and stream.fold.last_ms is not None]
    # A message that two sessions have shows a copy, unless the tool numbers the messages of each session.
    detects_copies = not source.own_keys
    parent, ancestors = _find_ancestors(context, source, member, detects_copies=detects_copies)
    record = summarize(
        state.uuid,
        state.tool,
        threads,
        others,
        rules=rules,
        source_path=_source_path(spool, member.streams),
        live=live,
        ancestors=ancestors,
    )
    if record is None:
        return False
    first_answers = (_signed(fold.first_answer_key) for fold in threads if fold.first_answer_key is not None)
    return spool.catalog.put_record(
        state,
        masking.record(record),
        parent=parent,
        title=masking.text(next((fold.title for fold in reversed(threads) if fold.title), None)),
        opening=next(first_answers, None) if detects_copies else None,
        active_ms=max(fold.last_ms for fold in (*threads, *others) if fold.last_ms is not None),
        now_ms=rules.now_ms,
        touched=touched,
    )


def _with_times(member: _Member, now_ms: int) -> list[Fold]:
    """Return the folds of the main thread. If no record has a plausible time, the first one has those of the files.

    Settings and other records that are no conversation don't make a session: they are left without a time.
    """
    threads = member.threads
    if any(fold.started_ms is not None for fold in threads):
        return threads
    if not any(len(fold.messages) or fold.damaged or fold.oversized for fold in threads):
        return threads
    written = min(max(stream.rank for stream in member.streams if stream.thread), now_ms)
    before = member.state.record
    started = min(written, int(before.started_at.timestamp() * 1000)) if before is not None else written
    return [replace(threads[0], started_ms=started, last_ms=written), *threads[1:]]


def _find_ancestors(
    context: IngestContext, source: Source, member: _Member, *, detects_copies: bool
) -> tuple[uuid.UUID | None, list[list[int]]]:
    """Return the parent of a session, and the message keys of each session whose history it may have copied."""
    state, scope = member.state, context.scope(source)
    named, age = _named_parent(state, member.threads, scope), _age(state, member.threads)
    ancestors: list[list[int]] = []
    ages = []
    for relative in member.relatives if detects_copies else ():
        folds = [stream.fold for stream in context.spool.catalog.streams(relative.id) if stream.thread]
        other_age = _age(relative, folds)
        if relative.uuid == named or (other_age < age and _named_parent(relative, folds, scope) != state.uuid):
            ancestors.append([key for fold in folds if not is_positional(fold.messages) for key in fold.messages])
            ages.append((other_age, relative.uuid))
    # A parent that was found by age and turned out to be the copy is no relative with a smaller age any more. A
    # parent that is not in the spool is kept.
    absent = state.parent if all(relative.uuid != state.parent for relative in member.relatives) else None
    return named or (min(ages)[1] if ages else absent), ancestors


def _load_member(spool: Spool, state: SessionState, current: StreamState | None = None) -> _Member:
    """Load a session's streams and relatives: those with the same first answer, its parent, and its children."""
    streams = spool.catalog.streams(state.id, current)
    found = {relative.id: relative for relative in spool.catalog.children(state.uuid)}
    for stream in streams:
        if stream.thread and stream.fold.first_answer_key is not None:
            key = _signed(stream.fold.first_answer_key)
            found |= {relative.id: relative for relative in spool.catalog.relatives(key, state.id)}
    if state.parent is not None:
        parent = spool.catalog.session(state.parent)
        if parent is not None:
            found[parent.id] = parent
    return _Member(state, streams, list(found.values()))


def _named_parent(state: SessionState, threads: list[Fold], scope: str) -> uuid.UUID | None:
    named = next((fold.parent for fold in threads if fold.parent), None)
    parent = None if named is None else session_id(state.tool, named, scope)
    return parent if parent != state.uuid else None


def _age(state: SessionState, threads: list[Fold]) -> tuple[int, bool, str]:
    """Return a sort key for relatives: the original is the one that began first; of those, the one not copied."""
    started = min((fold.started_ms for fold in threads if fold.started_ms is not None), default=1 << 62)
    return started, any(fold.copied for fold in threads), str(state.uuid)


def _source_path(spool: Spool, streams: list[StreamState]) -> str | None:
    """Return the path of the main thread's file: one that exists, else the one that vanished last.

    Settings and indexes that a tool keeps beside a transcript are threads too; they are used if there is no main one.
    """
    files: list[tuple[bool, FileState]] = []
    for stream in streams:
        if stream.thread:
            files += ((stream.name == MAIN, file) for file in spool.catalog.files(stream.id))
    if not files:
        return None
    _, named = max(files, key=lambda it: (it[0], it[1].gone_ms is None, it[1].gone_ms or 0, it[1].path))
    path, native_id = outer_path(named.path)
    return as_text(inner_path(path, native_id))


def _signed(key: int) -> int:
    """Return an unsigned 64-bit key as SQLite stores it, as a signed integer."""
    return key - (1 << 64) if key >= 1 << 63 else key
