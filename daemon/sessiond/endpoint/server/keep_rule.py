"""The rule that sessions are kept for some days, as far as a push is concerned. It has no SQL and no clock.

The endpoint lets a session go once it was last active before the time that is kept (keeping.py). It stores that it did.
From then on each line of a push of the session is answered `expired`, so that a client does not push old bytes again
and again. A record that was active since then ends that: the session is pushed as a whole and stored again.
"""

from __future__ import annotations

from sessiond.endpoint.server.limits import Account
from sessiond.endpoint.server.results import problem
from sessiond.endpoint.server.state import Changes, State
from sessiond.endpoint.server.stream_state import SessionKey
from sessiond.endpoint.server.usage import ROW_SIZE
from sessiond.endpoint.wire import PushAppend, PushGeneration, PushSession, Result


def active_ms(item: PushSession) -> int:
    """Return when a session was last active, in unix milliseconds.

    A client that numbers its revisions by the clock, as ours does, raises them with each change of an ongoing session.
    Without that, a session whose machine died would be the most recently active one forever.
    """
    record = item.record
    moment = record.started_at if record.ended_at is None else record.ended_at
    begun = int(moment.timestamp() * 1000)
    return max(begun, item.revision) if record.ended_at is None else begun


def refuse(
    state: State,
    changes: Changes,
    account: Account,
    session: SessionKey,
    item: PushSession | PushAppend | PushGeneration,
) -> Result | None:
    """Return the answer to a line of a session that is not kept; None if the line is decided as any other.

    A record that was active too long ago is not stored if the endpoint has nothing of its session: all of it would be
    let go again at once. Raises: ItemError, the quota has no space for a row.
    """
    oldest_ms = state.oldest_ms.get(session[0])
    is_old = isinstance(item, PushSession) and oldest_ms is not None and active_ms(item) < oldest_ms
    if session in state.expired:
        if isinstance(item, PushSession) and not is_old:
            return None
    elif is_old and not _has_any(state, session):
        assert isinstance(item, PushSession)
        account.add_row()
        state.expired.add(session)
        changes.expired[session] = item.revision
        changes.changed[session] = None
    else:
        return None
    return problem("expired", f"session {session[2]} was last active before the time that this endpoint keeps")


def note_stored(state: State, changes: Changes, account: Account, session: SessionKey) -> None:
    """Note that a record was stored: its session is kept again."""
    if session in state.expired:
        state.expired.discard(session)
        changes.expired[session] = None
        account.add(-ROW_SIZE)


def _has_any(state: State, session: SessionKey) -> bool:
    """Return whether the store or the batch has a record or a stream of a session."""
    known = session in state.revisions or session in state.stream_counts
    return known or state.lookup.count_streams(session, 1) > 0
