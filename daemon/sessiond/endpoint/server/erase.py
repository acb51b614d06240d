"""Erases sessions. No later push stores an erased session again, whichever device sends it.

The rows of a session and its tombstone change in one transaction, and each push looks for the tombstone in its own
transaction. So a push that is under way is either erased as well or refused.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from sessiond.endpoint.erasure import Receipt
from sessiond.endpoint.server import audit, changes, machines, objects, tokens, usage
from sessiond.endpoint.server.blobs import BlobsUnavailable
from sessiond.endpoint.server.database import Database, placeholders
from sessiond.endpoint.server.decide import ALL_MACHINES
from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.state import Quota
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.sweeper import delete
from sessiond.endpoint.server.tokens import ADMIN, PUSH, READ, Access
from sessiond.endpoint.server.usage import ROW_SIZE

_INSERT = "INSERT INTO forgotten (user, session, machine, change, everywhere)"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A request to erase a session. `user` and `machine` are those of the request; None: not given."""

    access: Access
    device: UUID | None
    session: str
    machine: str | None = None
    user: str | None = None


def is_forgotten(db: Database, user: str, machine: str, session: str) -> bool:
    """Return whether a session was erased, on all machines of the user or on this one."""
    row = db.execute(
        "SELECT 1 FROM forgotten WHERE user = ? AND session = ? AND machine IN (?, ?)",
        (user, session, ALL_MACHINES, machine),
    ).fetchone()
    return row is not None


def erase(store: Store, order: Order) -> Receipt:
    """Erase a session with all generations of its streams; return what was erased.

    When this returns, the bytes are no longer in the store's files, nor in objects except for those that the receipt
    counts. The sweep deletes these, or the same request once more.

    Raises:
        HttpError: 403, the token may not erase it; 507, the quota has no space for a tombstone.
        WrongDevice, Revoked: as for a push.
        StoreBusy: it is erased, but a reader keeps its bytes in the write-ahead log. The same request completes it.
    """
    with store.write() as db:
        store.lock_user(db, order.user or order.access.user)
        user, chosen = _authorize(db, order)
        before = _count_tombstones(db, user, order.session)
        receipt, freed = erase_rows(db, store, user, order.session, chosen)
        _add_tombstones(db, store, user, order.session, chosen, receipt.machines)
        added = ROW_SIZE * (_count_tombstones(db, user, order.session) - before)
        changes.take_positions(db, user, 0, added - freed)
        if user != order.access.user:
            machine = order.machine or "all machines"
            audit.record(db, order.access.name or "", "session.erase", user, f"{order.session} of {machine}")
        store.expect_scrub(db)
        # Numbers of streams are keys of the hashes.
        store.digests.clear()
    left = _delete_objects(store, user, order.session)
    store.scrub()
    return msgspec.structs.replace(receipt, objects_left=left)


def _delete_objects(store: Store, user: str, session: str) -> int:
    """Delete the objects of an erased session, also those that an earlier request left. Return how many are left."""
    if store.blobs is None:
        return 0
    with store.read() as db:
        dead, abandoned = objects.left_of(db, user, session)
    try:
        delete(store, dead)
    except BlobsUnavailable:
        return len(dead) + abandoned
    return abandoned


def _authorize(db: Database, order: Order) -> tuple[str, list[str]]:
    """Return the user and the machines whose session is erased. The token is looked up again: it may be revoked.

    A token that only pushes erases what its own device pushed. One that also reads is the user's own, and erases what
    any of the user's machines pushed. The answer does not depend on what is stored.
    """
    access, device = order.access, order.device
    chosen = [ALL_MACHINES if order.machine is None else order.machine]
    if ADMIN in access.scopes and (order.user is not None or PUSH not in access.scopes):
        tokens.confirm(db, access)
        return order.user or access.user, chosen
    if device is None:
        raise HttpError(400, "invalid", "the request needs the header Sessiond-Device")
    tokens.bind(db, access, device)
    if READ in access.scopes:
        return access.user, chosen
    owned = machines.owned(db, access.user, str(device))
    if order.machine is not None and order.machine not in owned:
        raise HttpError(403, "forbidden", "the token may erase only what its own device pushed")
    return access.user, owned if order.machine is None else chosen


def erase_rows(db: Database, store: Store, user: str, session: str, chosen: list[str]) -> tuple[Receipt, int]:
    """Delete the rows; return a receipt, and the bytes that the user has fewer as `usage` counts them."""
    found: list[str] = []
    count = size = freed = 0
    for machine in _holding(db, user, session):
        if machine not in chosen and ALL_MACHINES not in chosen:
            continue
        found.append(machine)
        key = (user, machine, session)
        numbers = [
            row[0]
            for row in db.execute("SELECT stream FROM streams WHERE user = ? AND machine = ? AND session = ?", key)
        ]
        count += len(numbers)
        freed += usage.held_by_session(db, *key)
        for number in numbers:
            rows = db.execute("DELETE FROM chunks WHERE stream = ? RETURNING length", (number,))
            size += sum(row[0] for row in rows.fetchall())
            db.execute("DELETE FROM generations WHERE stream = ?", (number,))
        if numbers:
            store.retire_streams(db, numbers)
        objects.erase(db, key)
        db.execute("DELETE FROM streams WHERE user = ? AND machine = ? AND session = ?", key)
        db.execute("DELETE FROM sessions WHERE user = ? AND machine = ? AND session = ?", key)
    freed += _erase_expired(db, user, session, chosen)
    return Receipt(session=UUID(session), machines=found, streams=count, bytes=size), freed


def _erase_expired(db: Database, user: str, session: str, chosen: list[str]) -> int:
    """Delete the rows of a session that was let go; return the bytes that they counted."""
    only = "" if ALL_MACHINES in chosen else f" AND machine IN ({placeholders(len(chosen))})"
    values = () if ALL_MACHINES in chosen else tuple(chosen)
    return (
        ROW_SIZE
        * db.execute(f"DELETE FROM expired WHERE user = ? AND session = ?{only}", (user, session, *values)).rowcount
    )


def _holding(db: Database, user: str, session: str) -> list[str]:
    """Return the machines of a user that have a session, with or without a record."""
    known = [row[0] for row in db.execute("SELECT machine FROM machines WHERE user = ? ORDER BY machine", (user,))]
    return [
        machine
        for machine in known
        if db.execute(
            "SELECT EXISTS (SELECT 1 FROM sessions WHERE user = :u AND machine = :m AND session = :s)"
            " OR EXISTS (SELECT 1 FROM streams WHERE user = :u AND machine = :m AND session = :s)",
            {"u": user, "m": machine, "s": session},
        ).fetchone()[0]
    ]


def _count_tombstones(db: Database, user: str, session: str) -> int:
    row = db.execute("SELECT count(*) FROM forgotten WHERE user = ? AND session = ?", (user, session)).fetchone()
    return int(row[0])


def _add_tombstones(db: Database, store: Store, user: str, session: str, chosen: list[str], erased: list[str]) -> None:
    new = [machine for machine in chosen if not is_forgotten(db, user, machine, session)]
    quotas = [Quota(store.remaining_quota(db)), *usage.load(db, [user]).get(user, [])]
    for quota in quotas if new and not erased else ():
        # Erasing makes space, so it is possible with a full quota. Tombstones of unknown sessions could fill the disk.
        if quota.left is not None and quota.left < ROW_SIZE * len(new):
            raise HttpError(507, "full", f"{quota.name} is used up")
    again = erased if ALL_MACHINES in new else []
    change = changes.take_positions(db, user, len(new) + len(again), 0) - len(new) - len(again)
    for machine in new:
        change += 1
        db.execute(f"{_INSERT} VALUES (?, ?, ?, ?, 0)", (user, session, machine, change))
    # Devices whose tokens only push are shown the tombstones of their own machines.
    for machine in again:
        change += 1
        db.execute(
            f"{_INSERT} VALUES (?, ?, ?, ?, 1)"
            " ON CONFLICT (user, session, machine) DO UPDATE SET change = excluded.change, everywhere = 1",
            (user, session, machine, change),
        )
