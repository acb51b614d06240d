"""Machine ids and the devices they belong to.

Two laptops may have the same hostname. Their sessions would run into each other, so a machine id belongs to
the device that brought it first, and another one is told so.
"""

from __future__ import annotations

import sqlite3

import msgspec

from sessiond.endpoint.server.store import Store
from sessiond.errors import NotFound


class Machine(msgspec.Struct, frozen=True):
    """A machine id, its device, and whether another device may take it over."""

    machine: str
    device: str
    open: bool


def claim(db: sqlite3.Connection, machine: str, device: str) -> bool:
    """Tie a machine id to a device if it is free; False if it is another device's."""
    row = db.execute("SELECT device, open FROM machines WHERE machine = ?", (machine,)).fetchone()
    if row is None:
        db.execute("INSERT INTO machines (machine, device) VALUES (?, ?)", (machine, device))
        return True
    if row[0] == device:
        return True
    if row[1]:
        db.execute("UPDATE machines SET device = ?, open = 0 WHERE machine = ?", (device, machine))
        return True
    return False


def note_batch(db: sqlite3.Connection, device: str, batch: str) -> None:
    """Remember the last push of a device."""
    db.execute("INSERT INTO devices VALUES (?, ?) ON CONFLICT DO UPDATE SET batch = excluded.batch", (device, batch))


def last_batch(db: sqlite3.Connection, device: str) -> str | None:
    """Name the last push of a device that was stored."""
    row = db.execute("SELECT batch FROM devices WHERE device = ?", (device,)).fetchone()
    return None if row is None else str(row[0])


def adopt(store: Store, machine: str) -> Machine:
    """Let the next other device that pushes under this machine id take it over.

    The present device stays until then: a machine that was replaced goes on being what it was until its
    successor speaks up.

    Raises:
        NotFound: no device ever pushed under this machine id.
    """
    with store.write() as db:
        row = db.execute("UPDATE machines SET open = 1 WHERE machine = ? RETURNING device", (machine,)).fetchone()
    if row is None:
        raise NotFound(
            f"no device pushed as {machine}", hint="the machine id stands in the problem that the device shows"
        )
    return Machine(machine=machine, device=row[0], open=True)
