"""The machine ids of each user and the devices that own them.

Two laptops may have the same hostname, and their sessions must not be mixed. So a machine id belongs to the first
device that pushes under it, and another device of the user is answered `machine-taken`. Users are separate: the same
name is another machine for another user.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from sessiond.endpoint.server import audit, expired
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.tokens import PUSH, Access
from sessiond.endpoint.server.users import DEFAULT_USER
from sessiond.errors import NotFound


class Machine(msgspec.Struct, frozen=True):
    """A machine id with its user and device. If it is `open`, another device of the user may take it over."""

    user: str
    machine: str
    device: str
    open: bool


def belongs(db: Database, user: str, machine: str, device: str) -> bool:
    """Return whether a machine id of a user belongs to a device."""
    row = db.execute(
        "SELECT 1 FROM machines WHERE user = ? AND machine = ? AND device = ?", (user, machine, device)
    ).fetchone()
    return row is not None


def is_taken(db: Database, access: Access, machine: str, device: UUID | None) -> bool:
    """Return whether a push of a device under a machine id would be answered `machine-taken`.

    False for a token that may not push: to one that may, this reveals no more than its next push would.
    """
    if PUSH not in access.scopes or device is None:
        return False
    row = db.execute(
        "SELECT 1 FROM machines WHERE user = ? AND machine = ? AND device <> ? AND open = 0",
        (access.user, machine, str(device)),
    ).fetchone()
    return row is not None


def owned(db: Database, user: str, device: str) -> list[str]:
    """Return the machine ids of a user that belong to a device."""
    rows = db.execute("SELECT machine FROM machines WHERE user = ? AND device = ? ORDER BY machine", (user, device))
    return [row[0] for row in rows]


def last_batch(db: Database, user: str, device: str) -> str | None:
    """Return the id of the last stored push of a device; None if there is none."""
    row = db.execute("SELECT batch FROM devices WHERE user = ? AND device = ?", (user, device)).fetchone()
    return None if row is None else str(row[0])


def known_of(db: Database, access: Access | None, device: UUID | None) -> tuple[str | None, int | None]:
    """Return the id of the last push of a token's device, and for how many days its user's sessions are kept.

    Each is None if there is none, and both without a token.
    """
    if access is None:
        return None, None
    last = last_batch(db, access.user, str(device)) if device is not None and access.owns(device) else None
    return last, expired.keep_days(db, access.user)


def adopt(store: Store, machine: str, user: str = DEFAULT_USER) -> Machine:
    """Allow another device of the user to take over a machine id with its next push.

    Until then, the present device keeps it and can go on pushing.

    Raises:
        NotFound: no device of this user ever pushed under this machine id.
    """
    with store.write() as db:
        row = db.execute(
            "UPDATE machines SET open = 1 WHERE user = ? AND machine = ? RETURNING device", (user, machine)
        ).fetchone()
        if row is None:
            raise NotFound(
                f"no device of user {user} pushed as {machine}",
                hint="`sessiond queue` on that device shows the machine id; --user names another user",
            )
        audit.record(db, audit.operator(), "machine.adopt", machine, f"user {user}, from device {row[0]}")
    return Machine(user=user, machine=machine, device=row[0], open=True)
