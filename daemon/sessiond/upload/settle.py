"""Applies the results of a push to the outbox, item by item, in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum, auto

from sessiond.endpoint import quota, wire
from sessiond.errors import Unreachable
from sessiond.spool.forgotten import REASON
from sessiond.spool.rows import Segment, SessionState
from sessiond.upload.binding import store_batch
from sessiond.upload.context import BatchResult, Item, UploadContext, session_of
from sessiond.upload.items import decode
from sessiond.upload.taken_name import MACHINE_TAKEN, note_taken


class Outcome(Enum):
    """What happened to an item that the endpoint did not store."""

    PARKED = auto()
    HEALED = auto()
    """The endpoint has another position, and may be asked for it. The next read of the file reconciles the two."""
    FULL = auto()
    """The endpoint's quota is used up: the item stays in the outbox."""
    POSTPONED = auto()
    """The push was too much work at once: the item stays in the outbox."""
    FORGOTTEN = auto()
    """The user erased the session at the endpoint: nothing more of it is pushed, and the capture erases it here."""
    EXPIRED = auto()
    """The endpoint let the session go because of its age: nothing more of it is pushed before it changes."""
    BEHIND = auto()
    """An earlier item of the same stream failed: the item stays in the outbox."""


FORGOTTEN = "forgotten"
EXPIRED = "expired"
_KEPT = {"quota": Outcome.FULL, "push-full": Outcome.POSTPONED}
"""Problems of the endpoint, not of the item."""


def settle(
    context: UploadContext, items: Sequence[Item], answer: wire.PushAnswer, expired: dict[str, bool] | None = None
) -> BatchResult:
    """Remove from the outbox what was acknowledged, and nothing else (rule 2).

    `expired` has the sessions that the endpoint let go. Those that it keeps again are removed.

    Results, positions and health change in one transaction. After a crash the spool therefore either knows the whole
    answer, or sends the same batch once more, which the endpoint recognizes.
    Raises: Unreachable if the endpoint stored nothing because of its quota or the size of the push.
    """
    sessions = segments = size = healed = 0
    outcomes = Counter[Outcome]()
    with context.spool.transaction():
        broken: set[int] = set()
        for item, result in zip(items, answer.results, strict=True):
            stored = result.problem is None and context.spool.outbox.acknowledge(item)
            if not (stored or context.spool.outbox.has(item)):
                continue  # its session was purged while the push was under way
            healed += _forget_positions_ahead(context, item, result.ahead)
            healed += stored and _revive(context, item, expired)
            if result.problem is not None:
                outcomes[_handle_problem(context, item, result.problem, broken)] += 1
            elif isinstance(item, SessionState):
                sessions += 1
            else:
                segments += 1
                size += item.length
                _keep_digest(context, item, result)
        healed += outcomes[Outcome.HEALED]
        restored = store_batch(context, answer.batch, answer.previous)
        more = bool(healed or restored) or context.spool.outbox.has_due()
        result_of_all = BatchResult(
            sessions=sessions,
            segments=segments,
            bytes=size,
            parked=outcomes[Outcome.PARKED],
            forgotten=outcomes[Outcome.FORGOTTEN],
            expired=outcomes[Outcome.EXPIRED],
            healed=healed,
            more=more,
        )
        context.settled(result_of_all)
    context.attempts = 0
    _require_progress(context, result_of_all, outcomes)
    return result_of_all


def _require_progress(context: UploadContext, result: BatchResult, outcomes: Counter[Outcome]) -> None:
    """Raise Unreachable if the endpoint stored nothing because of its quota or the size of the push."""
    if outcomes[Outcome.FULL] and not result.segments:
        raise _full(context)
    decided = result.sessions + result.segments + result.parked + result.healed + result.forgotten + result.expired
    if outcomes[Outcome.POSTPONED] and not decided:
        # The protocol has the endpoint store at least one item of each push. Repeating the push at once would loop.
        raise Unreachable("the endpoint stored nothing of a push and asks for a smaller one")


def _full(context: UploadContext) -> Unreachable:
    if context.address:
        return quota.used_up()
    hint = "raise archive.max_bytes, configure an endpoint, or erase sessions: sessiond forget"
    return Unreachable("the built-in archive is full: its quota is used up", hint=hint)


def park(context: UploadContext, item: Item, reason: str) -> None:
    """Set an item aside with the reason; `sessiond queue` lists it."""
    if isinstance(item, SessionState):
        context.spool.outbox.park_session(item.id, item.revision, reason)
    else:
        context.spool.outbox.park_segment(item, reason)


def _park_for(context: UploadContext, item: Item, problem: wire.Problem) -> Outcome:
    """Set an item aside for a problem that only the user can solve."""
    reason = problem.detail or problem.title
    park(context, item, reason)
    if problem.type == MACHINE_TAKEN:
        note_taken(context, reason)
    return Outcome.PARKED


def _forget_positions_ahead(context: UploadContext, item: Item, ahead: Sequence[wire.StreamLength]) -> int:
    """Forget the endpoint's position in streams that are longer there than in the spool; return their number.

    The spool was restored from a backup. The position is asked for again before anything else of the stream is sent.
    """
    found = 0
    session = item.uuid if isinstance(item, SessionState) else item.session
    for remote in ahead:
        stream = context.spool.catalog.find_stream(session, remote.name)
        if stream and (remote.generation, remote.length) > (stream.generation, stream.folded):
            context.spool.catalog.set_unknown(stream.id)
            found += 1
    return found


def _keep_digest(context: UploadContext, item: Segment, result: wire.Result) -> None:
    """Store the digest of the stream up to the end of a segment that the endpoint has.

    The endpoint compares no digest for a duplicate. So its position is asked for, and the digests are compared then.
    """
    context.disputed.discard(item.stream_id)
    context.stream_digests.acknowledge(item)
    if result.status == "duplicate":
        _forget_position(context, item)


def _forget_position(context: UploadContext, item: Segment) -> None:
    """Ask for the endpoint's position in a stream of which it already had a segment.

    The last answer was lost, or an earlier spool of this machine pushed it. Then the endpoint may have more bytes than
    the tool's file has now, and nothing else would show that.
    """
    stream = context.spool.catalog.find_stream(item.session, item.stream)
    if stream is not None:
        context.spool.catalog.set_unknown(stream.id)


def _forget(context: UploadContext, item: Item) -> Outcome:
    """Store a tombstone, and push nothing more of the session.

    The capture thread, which may be reading a file of the session now, erases it, or keeps for a while what only this
    machine has.
    """
    session = session_of(item)
    context.spool.forgotten.learn(session, context.clock.now_ms())
    context.spool.outbox.park_all(session, REASON)
    return Outcome.FORGOTTEN


def _expire(context: UploadContext, item: Item) -> Outcome:
    """Store that the endpoint let the session of an item go. A later revision of it is pushed again."""
    revision = item.revision if isinstance(item, SessionState) else 0
    context.spool.outbox.expire(session_of(item), context.clock.now_ms(), revision)
    return Outcome.EXPIRED


def _revive(context: UploadContext, item: Item, expired: dict[str, bool] | None) -> bool:
    """Return whether the endpoint had let the session of a stored item go, and note that it keeps the session again."""
    if not expired or expired.pop(session_of(item), None) is None:
        return False
    context.spool.outbox.revive(session_of(item), record=isinstance(item, SessionState))
    return True


def _handle_problem(context: UploadContext, item: Item, problem: wire.Problem, broken: set[int]) -> Outcome:
    """Handle a problem. `broken` holds the streams with an earlier failed item of this push."""
    if problem.type == FORGOTTEN:
        return _forget(context, item)
    if problem.type == EXPIRED:
        return _expire(context, item)
    return _handle_item_problem(context, item, problem, broken)


def _handle_item_problem(context: UploadContext, item: Item, problem: wire.Problem, broken: set[int]) -> Outcome:
    """Handle a problem with one item, and not with its session as a whole."""
    if isinstance(item, SessionState):
        return _handle_record_problem(context, item, problem)
    if item.stream_id in broken:
        # Segments of a stream are stored in order, so this segment failed because an earlier one did. If it were
        # parked for its own problem, bytes would be parked that the endpoint accepts after the earlier ones.
        return Outcome.BEHIND
    broken.add(item.stream_id)
    if problem.type in _KEPT:
        return _KEPT[problem.type]
    if (problem.generation or 0) > max(item.generation + wire.STEP, wire.FREE_GENERATION):
        # Following a faulty endpoint to a huge number would leave no numbers for later rewrites of the file.
        park(context, item, f"the endpoint's generation {problem.generation} exceeds the allowed range")
        return Outcome.PARKED
    if problem.type in ("offset-mismatch", "no-generation"):
        if (problem.generation, problem.offset) == (item.generation, item.offset) and item.data is not None:
            # It has as many bytes as this spool believes, but others: the digest in the line differs.
            context.spool.catalog.distrust(item.stream_id)
        _follow(context, item, problem)
        return Outcome.HEALED
    if problem.type == "invalid" and item.data is not None:
        # Our own disk may have damaged the segment. Then SpoolDamaged is raised here, the spool is rebuilt, and the
        # bytes are read from the tool's file again. Parking the segment would lose them.
        decode(item, item.data)
    return _park_for(context, item, problem)


def _follow(context: UploadContext, item: Segment, problem: wire.Problem) -> None:
    """Ask for the endpoint's position in a stream; if the next push is refused too, store what that answer states.

    A single answer is not believed: it may be faulty, and would make us give up bytes whose file the tool has truncated
    or deleted meanwhile. But if the endpoint reports one position and refuses pushes because of another, asking again
    would never end.
    """
    if item.stream_id in context.disputed:
        context.disputed.remove(item.stream_id)
        context.stream_digests.store_position(item.stream_id, _position(item, problem))
    else:
        context.disputed.add(item.stream_id)
        context.spool.catalog.set_unknown(item.stream_id)


def _position(item: Segment, problem: wire.Problem) -> wire.RemotePosition:
    return wire.RemotePosition(
        session=item.session,
        stream=item.stream,
        generation=problem.generation,
        length=problem.offset or 0,
        sha256=problem.sha256,
        after=problem.after,
    )


def _handle_record_problem(context: UploadContext, item: SessionState, problem: wire.Problem) -> Outcome:
    if problem.type in _KEPT:
        return _KEPT[problem.type]
    if (problem.revision or 0) > max(item.revision + wire.STEP, wire.FREE_REVISION):
        park(context, item, f"the endpoint's revision {problem.revision} exceeds the allowed range")
        return Outcome.PARKED
    if problem.type == "stale":
        context.spool.catalog.raise_revision(item.id, problem.revision or item.revision, context.clock.now_ms())
        return Outcome.HEALED
    return _park_for(context, item, problem)
