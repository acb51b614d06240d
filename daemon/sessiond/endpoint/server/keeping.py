"""Removes sessions that were last active longer ago than their user or tenant keeps sessions (`keep_days`).

A session that was let go differs from an erased one: it has no tombstone, and is stored again once it is resumed
(keep_rule.py). Its row in `expired` has the last revision that the endpoint had, and the time at which it was let go. A
session with streams but without a record is kept, because the endpoint does not know when it was active.
"""

from __future__ import annotations

from sessiond.endpoint.server import audit, changes, expired, usage
from sessiond.endpoint.server.erase import erase_rows
from sessiond.endpoint.server.expired import DAY_MS
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.stream_state import SessionKey
from sessiond.endpoint.server.usage import ROW_SIZE

AT_ONCE = 20
AT_ONCE_BYTES = 16 << 20
"""Sessions, and bytes of them, that are let go in one transaction, but at least one session. Pushes wait meanwhile."""
ACTOR = "keep rule"
"""Who lets sessions go, in the audit log."""


def expire(store: Store, now_ms: int) -> int:
    """Remove all sessions that are too old, in small transactions; return how many. Their bytes are no longer read.

    The sweep deletes their objects. Afterwards the store has to be scrubbed, also if this fails in between.

    Raises:
        StateError: the store can't be read or written. What was let go before stays so.
    """
    with store.read() as db:
        users = [
            row[0]
            for row in db.execute(
                "SELECT user FROM users LEFT JOIN tenants USING (tenant)"
                " WHERE coalesce(users.keep_days, tenants.keep_days) IS NOT NULL ORDER BY user"
            )
        ]
    count = 0
    for user in users:
        while some := _expire_some(store, user, now_ms):
            count += some
    return count


def _expire_some(store: Store, user: str, now_ms: int) -> int:
    with store.write() as db:
        store.lock_user(db, user)
        days = expired.keep_days(db, user)  # again: it may have been changed
        if days is None:
            return 0
        found: dict[SessionKey, int] = {}
        size = freed = 0
        for machine, session, revision in db.execute(
            "SELECT machine, session, revision FROM sessions WHERE user = ? AND active_ms < ?"
            " ORDER BY active_ms, machine, session LIMIT ?",
            (user, now_ms - days * DAY_MS, AT_ONCE),
        ).fetchall():
            size += usage.held_by_session(db, user, machine, session)
            if found and size > AT_ONCE_BYTES:
                break
            found[user, machine, session] = revision
            freed += erase_rows(db, store, user, session, [machine])[1]
        if not found:
            return 0
        last = changes.take_positions(db, user, len(found), ROW_SIZE * len(found) - freed)
        positions = range(last - len(found) + 1, last + 1)
        expired.insert(db, dict(zip(found, zip(found.values(), positions, strict=True), strict=True)))
        detail = f"{len(found)} sessions, last active more than {days} days ago"
        audit.record(db, ACTOR, "session.expire", user, detail)
        store.expect_scrub(db)
        store.digests.clear()  # numbers of streams are keys of the hashes
        return len(found)
