"""The record of a session, its id, and how the record is built from the folds of its streams."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from sessiond.session.fold import Fold, copied_prefix_length, distinct
from sessiond.session.messages import NO_MODEL

NAMESPACE = uuid.UUID("5f1d7c1e-8a57-5c0e-9d52-6f0d3d0b6a11")
"""The namespace of all derived ids (UUIDv5). It never changes: a new one would give every session a new id."""
INT32_MAX = 2**31 - 1


class Session(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The record of one human-AI collaboration, exactly as its consumers deserialize it."""

    id: uuid.UUID
    tool: str
    tool_version: str | None
    started_at: datetime
    ended_at: datetime | None
    model: str | None
    working_directory: str
    git_branch: str | None
    source_path: str | None
    message_count: int
    machine_id: str | None


def session_id(tool: str, native_id: str, scope: str = "") -> uuid.UUID:
    """Return the id of a session: the tool's own UUID if it has one, else a UUIDv5 that never changes.

    `scope` is the machine id for native ids that are unique on one machine only, else "". A prefix such as `T-` or
    `ses_` is not part of a UUID. Version bits are not checked.
    """
    bare = native_id.rsplit("_", 1)[-1].removeprefix("T-")
    if len(bare) == 36:
        try:
            return uuid.UUID(bare)
        except ValueError:
            pass
    return uuid.uuid5(NAMESPACE, f"{tool}\0{scope}\0{native_id}")


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The facts for a record besides its folds: where and when it is built."""

    machine_id: str
    now_ms: int
    idle_after_ms: int


class Folds(msgspec.Struct, frozen=True, kw_only=True):
    """The folds of a session, and the facts of other sessions and its process that the record depends on."""

    threads: Sequence[Fold]
    """The folds of the main thread: several if the tool spreads it over files. Each message counts once."""
    others: Sequence[Fold] = ()
    """The folds of its subagents, which only extend its time."""
    ancestors: Sequence[Iterable[int]] = ()
    """The message keys of sessions whose history it may have copied. Copied messages do not count."""
    elsewhere: frozenset[int] = frozenset()
    """The keys of messages that were written on another machine, where they count."""
    live: bool = False
    """Whether the session's process runs. Such a session has not ended, however long it is idle."""


def summarize(identity: uuid.UUID, tool: str, folds: Folds, *, rules: Rules, source_path: str | None) -> Session | None:
    """Return the record of a session, built from its folds; None while no fold of the main thread has a time."""
    threads = folds.threads
    started = min((fold.started_ms for fold in threads if fold.started_ms is not None), default=None)
    if started is None:
        return None
    last = max(fold.last_ms for fold in (*threads, *folds.others) if fold.last_ms is not None)
    # The keys of one fold are distinct already. Skipping the check matters with tens of thousands of them.
    order = threads[0].messages if len(threads) == 1 else distinct([fold.messages for fold in threads])
    copied = max((copied_prefix_length(order, ancestor) for ancestor in folds.ancestors), default=0)
    own = len(order) - copied
    if folds.elsewhere:
        own = sum(key not in folds.elsewhere for key in list(order)[copied:])
    # A process that ran at the last check may have written an end marker since.
    idle = not folds.live and rules.now_ms - last >= rules.idle_after_ms
    ended = idle or any(fold.ended for fold in threads)
    return Session(
        id=identity,
        tool=tool,
        tool_version=_first(reversed([fold.version for fold in threads])),
        started_at=_moment(started),
        ended_at=_moment(last) if ended else None,
        model=_primary_model(threads),
        working_directory=_first(fold.cwd for fold in threads) or "",
        git_branch=_first(fold.branch for fold in threads),
        source_path=source_path,
        message_count=min(own, INT32_MAX),
        machine_id=rules.machine_id,
    )


def _primary_model(threads: Sequence[Fold]) -> str | None:
    if len(threads) == 1:
        models, model_indexes = threads[0].models, threads[0].messages.model_indexes
        counts = {index: model_indexes.count(index) for index in range(len(models))}
        most = max(counts.values(), default=0)
        if most:
            # Of several, the one that answered first, as below.
            return models[min((i for i in counts if counts[i] == most), key=model_indexes.index)]
        return _first(models)
    spoken = {
        key: fold.models[model]
        for fold in threads
        for key, model in zip(fold.messages, fold.messages.model_indexes, strict=True)
        if model != NO_MODEL
    }
    common = Counter(spoken.values()).most_common(1)
    if common:
        return common[0][0]
    return _first(model for fold in threads for model in fold.models)


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
