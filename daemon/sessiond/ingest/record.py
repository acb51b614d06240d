"""A session's record out of the folds of its streams, and of the sessions whose history it copied."""

from __future__ import annotations

import uuid

from sessiond.ingest.context import as_text, inner_path, outer_path
from sessiond.privacy import Masking
from sessiond.session import Fold, Rules, is_positional, session_id, summarize
from sessiond.spool import Spool
from sessiond.spool.rows import FileState, SessionState, StreamState

MAIN = "main"  # what sources call the transcript, wherever it is one stream (sources/base.py Unit)


def refresh(
    spool: Spool,
    state: SessionState,
    *,
    rules: Rules,
    masking: Masking,
    scope: str,
    kindred: bool,
    live: bool,
    touched: bool,
    mine: StreamState | None = None,
) -> bool:
    """Store the record of a session anew if it changed; runs inside a transaction. Tells whether it did.

    `mine` is a stream of it that is at hand, as stored. `kindred`: a message that two sessions have tells that one was
    copied from the other. `touched`: its streams changed, which is worth a new
    revision even if the record is the same.
    A session that turns out to be an elder or a copy of others refreshes those too.
    """
    streams = spool.catalog.streams(state.id, mine)
    family = _family(spool, state, streams)
    changed = _refresh_one(
        spool,
        state,
        streams,
        family,
        rules=rules,
        masking=masking,
        scope=scope,
        kindred=kindred,
        live=live,
        touched=touched,
    )
    if changed:
        for other in family:
            if other.record is not None and other.id != state.id:
                ongoing = other.record.ended_at is None
                theirs = spool.catalog.streams(other.id)
                relatives = _family(spool, other, theirs)
                _refresh_one(
                    spool,
                    other,
                    theirs,
                    relatives,
                    rules=rules,
                    masking=masking,
                    scope=scope,
                    kindred=kindred,
                    live=ongoing,
                    touched=False,
                )
    return changed


def _refresh_one(
    spool: Spool,
    state: SessionState,
    streams: list[StreamState],
    family: list[SessionState],
    *,
    rules: Rules,
    masking: Masking,
    scope: str,
    kindred: bool,
    live: bool,
    touched: bool,
) -> bool:
    threads = [stream.fold for stream in streams if stream.thread]
    others = [stream.fold for stream in streams if not stream.thread and stream.fold.last_ms is not None]
    named = _named_parent(state, threads, scope)
    mine = _age(state, threads)
    ancestors, ages = [], []
    for relative in family if kindred else ():
        folds = [stream.fold for stream in spool.catalog.streams(relative.id) if stream.thread]
        age = _age(relative, folds)
        if relative.uuid == named or (age < mine and _named_parent(relative, folds, scope) != state.uuid):
            ancestors.append([key for fold in folds if not is_positional(fold.messages) for key in fold.messages])
            ages.append((age, relative.uuid))
    # Without a named parent it is the oldest, whichever of them was met first; what was taken for one until it turned
    # out to be the copy is none.
    gone = state.parent if all(relative.uuid != state.parent for relative in family) else None
    parent = named or (min(ages)[1] if ages else gone)
    record = summarize(
        state.uuid,
        state.tool,
        threads,
        others,
        rules=rules,
        source_path=_source_path(spool, streams),
        live=live,
        ancestors=ancestors,
    )
    if record is None:
        return False
    return spool.catalog.put_record(
        state,
        masking.record(record),
        parent=parent,
        title=masking.text(next((fold.title for fold in reversed(threads) if fold.title), None)),
        opening=next(
            (_signed(fold.first_answer_key) for fold in threads if kindred and fold.first_answer_key is not None), None
        ),
        active_ms=max(fold.last_ms for fold in (*threads, *others) if fold.last_ms is not None),
        now_ms=rules.now_ms,
        touched=touched,
    )


def _family(spool: Spool, state: SessionState, streams: list[StreamState]) -> list[SessionState]:
    """Find the sessions that share history with this one: same first answer, named parent, named children."""
    folds = [stream.fold for stream in streams if stream.thread]
    found = {relative.id: relative for relative in spool.catalog.children(state.uuid)}
    for fold in folds:
        if fold.first_answer_key is not None:
            found |= {
                relative.id: relative for relative in spool.catalog.relatives(_signed(fold.first_answer_key), state.id)
            }
    if state.parent is not None:
        elder = spool.catalog.session(state.parent)
        if elder is not None:
            found[elder.id] = elder
    return list(found.values())


def _named_parent(state: SessionState, threads: list[Fold], scope: str) -> uuid.UUID | None:
    named = next((fold.parent for fold in threads if fold.parent), None)
    parent = None if named is None else session_id(state.tool, named, scope)
    return parent if parent != state.uuid else None


def _age(state: SessionState, threads: list[Fold]) -> tuple[int, bool, str]:
    """Order relatives: the original is the one that began first, and of those the one that was not copied."""
    started = min((fold.started_ms for fold in threads if fold.started_ms is not None), default=1 << 62)
    return started, any(fold.copied for fold in threads), str(state.uuid)


def _source_path(spool: Spool, streams: list[StreamState]) -> str | None:
    """Name the file of the main thread: the one that is there, else the last that was.

    Settings and indexes that a tool keeps beside a transcript are threads too; they are named for want of one.
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


def _signed(key: int | None) -> int:
    """SQLite's integers are signed."""
    assert key is not None
    return key - (1 << 64) if key >= 1 << 63 else key
