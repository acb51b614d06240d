"""Machine ids and the devices they belong to, for each user by itself.

Two laptops may have the same hostname. Their sessions would run into each other, so a machine id belongs to
the device that brought it first, and another device of the user is answered `machine-taken`. Another user's machine
of the same name is another machine.
"""

from __future__ import annotations

import sqlite3

import msgspec

from sessiond.endpoint.server.schema import DEFAULT_USER
from sessiond.endpoint.server.store import Store
from sessiond.errors import NotFound


class Machine(msgspec.Struct, frozen=True):
    """A machine id, its user and device, and whether another device of the user may take it over."""

    user: str
    machine: str
    device: str
    open: bool


def claim(db: sqlite3.Connection, user: str, machine: str, device: str) -> bool:
    """Tie a machine id of a user to a device if it is free, and return whether it is this device's now."""
    row = db.execute("SELECT device, open FROM machines WHERE user = ? AND machine = ?", (user, machine)).fetchone()
    if row is None:
        db.execute("INSERT INTO machines (user, machine, device) VALUES (?, ?, ?)", (user, machine, device))
        return True
    if row[0] == device:
        return True
    if row[1]:
        db.execute("UPDATE machines SET device = ?, open = 0 WHERE user = ? AND machine = ?", (device, user, machine))
        return True
    return False


def belongs(db: sqlite3.Connection, user: str, machine: str, device: str) -> bool:
    """Return whether a machine id of a user belongs to a device."""
    row = db.execute(
        "SELECT 1 FROM machines WHERE user = ? AND machine = ? AND device = ?", (user, machine, device)
    ).fetchone()
    return row is not None


def note_batch(db: sqlite3.Connection, user: str, device: str, batch: str) -> None:
    """Store the name of the last push of a device."""
    db.execute(
        "INSERT INTO devices VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET batch = excluded.batch", (user, device, batch)
    )


def last_batch(db: sqlite3.Connection, user: str, device: str) -> str | None:
    """Return the name of the last push of a device that was stored; None where there was none."""
    row = db.execute("SELECT batch FROM devices WHERE user = ? AND device = ?", (user, device)).fetchone()
    return None if row is None else str(row[0])


def adopt(store: Store, machine: str, user: str = DEFAULT_USER) -> Machine:
    """Let the next other device of the user that pushes under this machine id take it over.

    The present device stays until then: a machine that was replaced goes on being what it was until its
    successor speaks up.

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
            hint="the device's problem names the machine id; --user names another user",
        )
    return Machine(user=user, machine=machine, device=row[0], open=True)
